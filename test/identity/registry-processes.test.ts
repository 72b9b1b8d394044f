import { X509Certificate, createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { registerAddAnchor } from '../../dashboard/cli/add-anchor.ts'
import { registerRevoke } from '../../dashboard/cli/revoke.ts'
import { fleetSchema } from '../../dashboard/api/fleet-contract.ts'
import { blobSettingsSchema } from '../../infra/blobs/config.ts'
import { openBlobs } from '../../infra/blobs/open.ts'
import { logSettingsSchema } from '../../infra/log/config.ts'
import { openLog } from '../../infra/log/open.ts'
import { systemClock } from '../../infra/service/clock.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { ingestSettingsSchema } from '../../ingest/config.ts'
import { createFleet, type FleetDevice } from '../../ingest/device/fleet.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { startIngest, type RunningIngest } from '../../ingest/main.ts'
import { loadRegistryFromClickHouse } from '../../ingest/registry-source.ts'
import { quietLogger } from '../infra/clickhouse-fixture.ts'
import { crlPem, drawCrl, nameDer } from '../ingest/build-crl.ts'
import { startTestDashboard, TOKEN, type TestDashboard } from '../dashboard/api/dashboard-fixture.ts'
import { run } from '../dashboard/cli/command.ts'

/**
 * Two ingest processes that share nothing but ClickHouse, with the settings that they have by default: what people decide
 * holds at both doors within 5 s, and after a restart while ClickHouse is away.
 */
const DAY = 86_400_000
const EFFECT_MS = 5_000
const now = Date.now()
const fleet = createFleet({ devices: 6, name: 'acme', now })
const next = createFleet({ devices: 1, name: 'acme-next', now })
const settings = ingestSettingsSchema.parse({ port: 0, quotas: { devicePerMinute: 1e6, deviceBurst: 1e6, addressFailureBurst: 1e6, sourceFailureBurst: 1e6 } })

let world: TestDashboard
let folder: string
const doors: RunningIngest[] = []
const open = async (index: number) => {
  const data = join(folder, `ingest-${index}`)
  const log = await openLog({ settings: logSettingsSchema.parse({}), data, logger: quietLogger })
  const blobs = await openBlobs({ settings: blobSettingsSchema.parse({}), data })
  const ingest = await startIngest({
    settings, data, log, blobs, clock: systemClock, logger: quietLogger, metrics: createMetrics({ defaults: false }), load: loadRegistryFromClickHouse(world.world.clickhouse),
  })
  doors[index] = { ...ingest, stop: () => ingest.stop().then(() => log.close()) }
}
beforeAll(async () => {
  world = await startTestDashboard({ now })
  folder = await mkdtemp(join(tmpdir(), 'two-processes-'))
  for (const index of [0, 1]) await open(index)
})
afterAll(async () => {
  for (const door of doors) await door.stop()
  await world.stop()
  await rm(folder, { recursive: true })
})

let boots = 0
async function send(door: RunningIngest, { key, chain }: FleetDevice): Promise<string> {
  const { body } = signReport({ dump: Buffer.from('dump'), contentType: 'text/plain', claims: { bootcount: ++boots, seq: 0 }, key, chain })
  const response = await fetch(`${door.url}/v1/crashes`, { method: 'POST', body: Buffer.from(body), headers: { 'content-type': 'application/cbor-seq' } })
  const { type } = (await response.json()) as { type?: string }
  return type === undefined ? String(response.status) : `${response.status} ${type.split('/').at(-1)}`
}
const both = (device: FleetDevice): Promise<string[]> => Promise.all(doors.map((door) => send(door, device)))

/** Both doors say this of the device, within the time that is promised. */
async function soon(device: FleetDevice, expected: string): Promise<void> {
  const from = performance.now()
  let said = await both(device)
  while (said.some((answer) => answer !== expected)) {
    if (performance.now() - from > EFFECT_MS) expect(said).toEqual([expected, expected])
    await new Promise((resolve) => setTimeout(resolve, 50))
    said = await both(device)
  }
}

const cli = (...args: string[]) => run((program: Command) => {
  const group = program.command('fleet')
  registerAddAnchor(group)
  registerRevoke(group)
}, 'fleet', ...args, '--url', world.base, '--token', TOKEN, '--fleet', 'demo')
const file = async (name: string, text: string): Promise<string> => {
  await writeFile(join(folder, name), text)
  return join(folder, name)
}
const fleetNow = async () => fleetSchema.parse(await world.get('/api/v1/fleets/demo'))

test('an anchor counts at both doors within 5 s, two overlap while one is rotated out, and a proof that its key is at hand is shown', async () => {
  const [device] = fleet.devices as [FleetDevice]
  expect(await both(device)).toEqual(['401 unauthorized', '401 unauthorized'])
  const [ca, caKey] = [await file('ca.pem', fleet.ca.pem), await file('ca.key', fleet.ca.keyPem)]
  expect(await cli('add-anchor', ca)).toMatchObject({ code: 0, out: expect.stringContaining('key not proven') })
  await soon(device, '202')
  expect((await fleetNow()).anchors.map(({ proven }) => proven)).toEqual([false])
  expect(await cli('add-anchor', ca, '--ca-key', await file('other.key', next.ca.keyPem))).toMatchObject({ code: 21, err: expect.stringContaining('not signed by the key of the certificate') })
  expect(await cli('add-anchor', ca, '--ca-key', caKey, '--key-protection', 'hardware')).toMatchObject({ code: 0, out: expect.stringContaining('key proven') })
  expect((await fleetNow()).anchors.map(({ proven }) => proven)).toEqual([true])

  const renewed = next.devices[0]!
  expect(await cli('add-anchor', await file('next.pem', next.ca.pem))).toMatchObject({ code: 0 })
  await soon(renewed, '202')
  expect(await both(device)).toEqual(['202', '202'])
  const sha256 = createHash('sha256').update(new X509Certificate(next.ca.pem).raw).digest('hex')
  await world.post(`/api/v1/fleets/demo/anchors/${sha256}/remove`, { reason: 'not ours after all' })
  await soon(renewed, '401 unauthorized')
  expect(await both(device)).toEqual(['202', '202'])
})

test('a device, and all devices of an issuer, are shut out and let in again at both doors within 5 s, each time with a line in the audit log', async () => {
  const [, device, other] = fleet.devices as [FleetDevice, FleetDevice, FleetDevice]
  await world.post(`/api/v1/devices/${device.serial}/status`, { status: 'revoked', reason: 'stolen' })
  await soon(device, '403 device-revoked')
  expect(await both(other)).toEqual(['202', '202'])
  await world.post(`/api/v1/devices/${device.serial}/status`, { status: 'disabled', reason: 'found, being examined' })
  await soon(device, '403 device-disabled')
  await world.post(`/api/v1/devices/${device.serial}/status`, { status: 'active', reason: 'is fine' })
  await soon(device, '202')

  const issuer = 'CN=acme device CA,O=acme'
  expect(await cli('issuer', issuer, 'disabled', '--reason', 'its factory leaks')).toMatchObject({ code: 0 })
  await soon(other, '403 issuer-disabled')
  expect((await fleetNow()).issuers).toMatchObject([{ issuer, status: 'disabled', reason: 'its factory leaks', actor: 'admin' }])
  expect(await cli('issuer', issuer, 'active', '--reason', 'closed')).toMatchObject({ code: 0 })
  await soon(other, '202')
  const { items } = await world.get<{ items: { kind: string; subject: string; intact: boolean }[] }>('/api/v1/events?limit=200')
  expect(items.filter(({ kind }) => kind === 'device.status')).toHaveLength(3)
  expect(items.filter(({ subject }) => subject === `issuer:${issuer}`)).toHaveLength(2)
  expect(items.every(({ intact }) => intact)).toBe(true)
})

test('an imported revocation list holds at both doors within 5 s; an older one, and one of a stranger, are refused', async () => {
  const device = fleet.devices[3]!
  const serial = Buffer.from(new X509Certificate(device.chain[0]!).serialNumber, 'hex')
  const list = (number: number, by = fleet.intermediate, revoked = [{ serial }]) => file(`${number}.crl`, crlPem(drawCrl({ issuer: nameDer(by.name), key: by.key, thisUpdate: now - DAY + number * 1000, revoked, number: [number] })))
  const issuer = ['--issuer', await file('issuer.pem', fleet.intermediate.pem)]
  await soon(device, '202')
  expect(await cli('import-crl', await list(5, next.intermediate), ...issuer)).toMatchObject({ code: 21, err: expect.stringContaining('crl-issuer') })
  expect(await cli('import-crl', await list(5))).toMatchObject({ code: 21, err: expect.stringContaining('crl-issuer') })
  expect(await cli('import-crl', await list(7), ...issuer)).toMatchObject({ code: 0, out: expect.stringContaining('List 7 of CN=acme device CA,O=acme takes back 1 certificates') })
  await soon(device, '403 certificate-revoked')
  expect(await cli('import-crl', await list(6, fleet.intermediate, []), ...issuer)).toMatchObject({ code: 21, err: expect.stringContaining('crl-older') })
  expect(await both(fleet.devices[0]!)).toEqual(['202', '202'])
  expect((await fleetNow()).crls).toMatchObject([{ issuer: 'CN=acme device CA,O=acme', number: '7', revoked: 1 }])
})

test('a restart while ClickHouse is away goes on with all of it', async () => {
  const [good, , , onList, stolen] = fleet.devices as FleetDevice[]
  await world.post(`/api/v1/devices/${stolen!.serial}/status`, { status: 'revoked', reason: 'stolen' })
  await soon(stolen!, '403 device-revoked')
  await world.world.engine.stop()
  await doors[1]!.stop()
  await open(1)
  expect(await both(good!)).toEqual(['202', '202'])
  expect(await both(stolen!)).toEqual(['403 device-revoked', '403 device-revoked'])
  expect(await both(onList!)).toEqual(['403 certificate-revoked', '403 certificate-revoked'])
})
