import { createHash, X509Certificate } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { registerVerify } from '../../../dashboard/cli/verify.ts'
import { createFleet, issueDevice } from '../../../ingest/device/fleet.ts'
import { signReport } from '../../../ingest/device/sign.ts'
import { lintAnchor } from '../../../ingest/chain.ts'
import { crashId } from '../../../ingest/crash-id.ts'
import { decodeManifest } from '../../../ingest/manifest.ts'
import { isRefusal } from '../../../ingest/outcome.ts'
import { bstr, forge, int, list } from '../../ingest/forge.ts'
import { crashRow, insertCrashes, STORY_START } from '../crash-row.ts'
import { startTestDashboard, TOKEN, type TestDashboard } from '../api/dashboard-fixture.ts'
import { run } from './command.ts'

const NOW = STORY_START + 3_600_000
const DAY = 86_400_000
const fleet = createFleet({ devices: 2, name: 'acme', now: NOW - 20 * DAY })
const other = createFleet({ devices: 1, name: 'acme', now: NOW - 20 * DAY })
const [device] = fleet.devices as [typeof fleet.devices[number]]
const dump = Buffer.from('the memory of a device')

let world: TestDashboard
let folder: string
let anchor: string
beforeAll(async () => {
  world = await startTestDashboard({ now: NOW })
  folder = await mkdtemp(join(tmpdir(), 'verify-'))
  for (const [name, text] of [['ca.pem', fleet.ca.pem], ['other.pem', other.ca.pem], ['chain.pem', device.chainPem]] as const) await writeFile(join(folder, name), text)
  await world.post('/api/v1/fleets/demo/anchors', { pem: fleet.ca.pem, key_protection: 'hardware' })
  const linted = lintAnchor(fleet.ca.pem)
  if (isRefusal(linted)) throw new Error(linted.detail)
  anchor = linted.anchor.sha256
})
afterAll(async () => {
  await world.stop()
  await rm(folder, { recursive: true })
})

/** A crash in the server's archive and table as the worker leaves it, but for what the test says. */
async function stored(manifest: Uint8Array, said: { dump?: Uint8Array; row?: Record<string, unknown> } = {}): Promise<string> {
  const signed = decodeManifest(manifest)
  if (isRefusal(signed)) throw new Error(signed.detail)
  const { bootcount, seq } = signed.claims
  const deviceKeyId = keyIdOf(device.chain[0]!)
  const digest = Buffer.from(signed.digest).toString('hex')
  const id = crashId({ fleet: 'demo', deviceKeyId, bootcount, seq, digest })
  const bytes = said.dump ?? dump
  const pack = `packs/test/${bootcount}-${seq}`
  await world.blobs.put(pack, Buffer.concat([manifest, bytes]))
  await insertCrashes(world.world.clickhouse, [crashRow({
    id, device: device.serial, device_key: deviceKeyId, anchor, digest, size: String(bytes.length), bootcount: String(bootcount), seq: String(seq), flags: ['late'],
    pack, manifest_pack: pack, manifest_offset: '0', manifest_length: String(manifest.length), dump_offset: String(manifest.length), dump_length: String(bytes.length), ...said.row,
  })])
  return id
}
const keyIdOf = (leaf: Uint8Array): string => createHash('sha256').update(new X509Certificate(leaf).publicKey.export({ type: 'spki', format: 'der' })).digest('hex')
const report = (seq: number, by = device) => signReport({ dump, contentType: 'application/x-minidump', claims: { bootcount: 7, seq, swversion: '4.2.0' }, key: by.key, chain: by.chain }).manifest
const verify = (...args: string[]) => run(registerVerify, 'verify', ...args)
const online = (id: string, ...args: string[]) => verify(id, '--url', world.base, '--token', TOKEN, ...args)

test('a crash is checked again from the bytes of the archive, and says who signed what, when received, under which anchor', async () => {
  const id = await stored(report(0))
  const { code, out } = await online(id)
  expect(code).toBe(0)
  expect(out).toContain(`GOOD ${id}`)
  for (const said of [`device ${device.serial}`, 'kept in hardware', 'CN=acme device CA', anchor, 'fleet demo (added ', 'by admin', '22 bytes of application/x-minidump', 'boot 7, report 0', 'swversion "4.2.0"', "(the server's word)", 'counted', 'late']) expect(out).toContain(said)
  const json = JSON.parse((await online(id, '--json')).out) as Record<string, unknown>
  expect(json).toMatchObject({ good: true, id, fleet: 'demo', device: device.serial, algorithm: 'ES256', received_at: new Date(NOW).toISOString(), digest: createHash('sha256').update(dump).digest('hex') })
})

test('the anchor that the reader brings decides, and one that was removed since still tells whom it was trusted by', async () => {
  const id = await stored(report(1))
  expect(await online(id, '--anchor', join(folder, 'ca.pem'))).toMatchObject({ code: 0, out: expect.stringContaining('you (') })
  expect(await online(id, '--anchor', join(folder, 'other.pem'))).toMatchObject({ code: 21, err: expect.stringMatching(/certificate-signature|chain-order/) })
  await world.post(`/api/v1/fleets/demo/anchors/${anchor}/remove`, { reason: 'rotated' })
  expect(await online(id)).toMatchObject({ code: 0, out: expect.stringContaining(', removed ') })
  await world.post('/api/v1/fleets/demo/anchors', { pem: fleet.ca.pem, key_protection: 'hardware' })
})

test('a dump that was altered in the archive, and a record that speaks of another crash, are not good', async () => {
  const altered = Buffer.from(dump)
  altered[3]! ^= 1
  expect(await online(await stored(report(2), { dump: altered }))).toMatchObject({ code: 21, err: expect.stringContaining('digest-mismatch') })
  expect(await online(await stored(report(3), { row: { device: 'somebody-else' } }))).toMatchObject({ code: 21, err: expect.stringContaining('record-contradicts: the server says device somebody-else') })
  const id = 'f'.repeat(32)
  expect(await online(await stored(report(4), { row: { id } }).then(() => id))).toMatchObject({ code: 21, err: expect.stringContaining('record-contradicts: the server says id') })
})

test('a crash whose dump stayed on the device is good as far as it goes, and says so', async () => {
  const claimed = { standing: 'claimed', dump_length: '0' }
  expect(await online(await stored(report(7), { row: claimed }))).toMatchObject({ code: 0, out: expect.stringContaining('stayed on the device') })
  for (const [seq, standing] of [[20, 'stale-counter'], [21, 'counter-reuse'], [22, 'pending']] as const) {
    expect(await online(await stored(report(seq), { row: { ...claimed, standing } }))).toMatchObject({ code: 0, out: expect.stringContaining('stayed on the device') })
  }
  expect(await online(await stored(report(8), { row: { ...claimed, standing: 'counted' } }))).toMatchObject({ code: 21, err: expect.stringContaining('size-mismatch') })
})

test('a manifest that names its certificate by hash is checked with the chain that the same key sent before', async () => {
  const leaf = createHash('sha256').update(device.chain[0]!).digest()
  const short = forge({ dump, key: device.key, headers: [[33, null], [34, list(int(-16), bstr(leaf))]], claims: [[267, int(8)], [6, null]] })
  const id = await stored(short)
  expect(await online(id)).toMatchObject({ code: 0, out: expect.stringContaining(`device ${device.serial}`) })
  const files = ['--manifest', join(folder, 'short'), '--dump', join(folder, 'dump'), '--anchor', join(folder, 'ca.pem'), '--at', new Date(NOW).toISOString()]
  await writeFile(join(folder, 'short'), short)
  await writeFile(join(folder, 'dump'), dump)
  expect(await verify(...files)).toMatchObject({ code: 21, err: expect.stringContaining('x5t-unknown') })
  expect(await verify(...files, '--chain', join(folder, 'chain.pem'))).toMatchObject({ code: 0 })
  await writeFile(join(folder, 'wrong.pem'), other.devices[0]!.chainPem)
  expect(await verify(...files, '--chain', join(folder, 'wrong.pem'))).toMatchObject({ code: 21, err: expect.stringContaining('another certificate') })
})

test('three files are enough, and every flipped bit of them is noticed', async () => {
  const manifest = Buffer.from(report(5))
  await writeFile(join(folder, 'manifest'), manifest)
  await writeFile(join(folder, 'dump'), dump)
  const at = new Date(NOW).toISOString()
  const offline = (...args: string[]) => verify('--manifest', join(folder, 'manifest'), '--dump', join(folder, 'dump'), '--anchor', join(folder, 'ca.pem'), '--at', at, ...args)
  const good = JSON.parse((await offline('--fleet', 'demo', '--json')).out) as { good: boolean; id: string; received_at: null }
  expect(good).toMatchObject({ good: true, received_at: null, certificates_valid_at: at, id: crashId({ fleet: 'demo', deviceKeyId: keyIdOf(device.chain[0]!), bootcount: 7, seq: 5, digest: createHash('sha256').update(dump).digest('hex') }) })
  expect((await verify('--manifest', join(folder, 'manifest'), '--dump', join(folder, 'dump'), '--anchor', join(folder, 'ca.pem'), '--at', '2099-01-01')).code).toBe(21)
  for (let bit = 5; bit < manifest.length * 8; bit += 97) {
    const flipped = Buffer.from(manifest)
    flipped[bit >> 3]! ^= 1 << (bit & 7)
    await writeFile(join(folder, 'manifest'), flipped)
    expect((await offline()).code, `bit ${bit}`).toBe(21)
  }
})

test('what a certificate says can not write on the terminal', async () => {
  const rude = issueDevice(fleet.intermediate, '\u001b[2Jfake\nGOOD', 'p256', NOW - DAY, NOW + DAY)
  await writeFile(join(folder, 'manifest'), report(6, rude))
  await writeFile(join(folder, 'dump'), dump)
  const { code, out } = await verify('--manifest', join(folder, 'manifest'), '--dump', join(folder, 'dump'), '--anchor', join(folder, 'ca.pem'), '--at', new Date(NOW).toISOString())
  expect(code).toBe(0)
  expect(out).not.toContain('\u001b')
  expect(out.split('\n').filter((line) => line.startsWith('GOOD'))).toHaveLength(1)
})

test('an unsigned crash, an unknown id, a refused token and an absent server each end with their code', async () => {
  await insertCrashes(world.world.clickhouse, [crashRow({ id: 'e'.repeat(32), auth_level: 'project-key' })])
  expect(await online('e'.repeat(32))).toMatchObject({ code: 21, err: expect.stringContaining('was not signed') })
  expect((await online('0'.repeat(32))).code).toBe(30)
  expect((await verify('0'.repeat(32), '--url', world.base, '--token', 'wrong-token-wrong')).code).toBe(12)
  expect((await verify('0'.repeat(32), '--url', 'http://127.0.0.1:1', '--token', TOKEN)).code).toBe(32)
  expect((await verify('0'.repeat(32), '--data', folder)).code).toBe(20)
})
