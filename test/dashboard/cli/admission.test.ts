import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DeviceDetail, DevicesPage, RefusalsPage } from '../../../dashboard/api/contract.ts'
import type { Fleet } from '../../../dashboard/api/fleet-contract.ts'
import { registerAdmission } from '../../../dashboard/cli/admission.ts'
import { registerDevice } from '../../../dashboard/cli/device.ts'
import { loadRegistryFromClickHouse } from '../../../ingest/registry-source.ts'
import { createFleet } from '../../../ingest/device/fleet.ts'
import { crashRow, insertCrashes, STORY_START } from '../crash-row.ts'
import { startTestDashboard, TOKEN, type TestDashboard } from '../api/dashboard-fixture.ts'
import { run } from './command.ts'

const NOW = STORY_START + 10 * 3_600_000
let world: TestDashboard
beforeAll(async () => { world = await startTestDashboard({ now: NOW }) })
afterAll(() => world.stop())

const server = () => ['--url', world.base, '--token', TOKEN, '--fleet', 'demo']
const device = (...args: string[]) => run(registerDevice, 'device', ...args, ...server())
const fleet = (...args: string[]) => run((program) => registerAdmission(program.command('fleet')), 'fleet', ...args, ...server())
const registry = async () => (await loadRegistryFromClickHouse(world.world.clickhouse)()).fleets.demo!
let made = 0
const crash = (name: string, said: object = {}) => {
  const id = String(++made).padStart(32, '0')
  return insertCrashes(world.world.clickhouse, [crashRow({ id, device: name, device_key: `key-${name}`, at: NOW - 3_600_000 + made, ...said })])
}
const listed = async (query = '') => (await world.get<DevicesPage>(`/api/v1/devices${query}`)).items.map(({ device: name, status, auth_level }) => [name, status, auth_level]).sort()

test('when first sight becomes pending the known devices are admitted, a new one waits, and approval is one audited event', async () => {
  await crash('known')
  await crash('source:ab', { auth_level: 'project-key', device_key: '' })
  expect(await fleet('first-sight', 'pending')).toMatchObject({ code: 0 })
  await crash('new', { standing: 'pending' })
  expect(await listed()).toEqual([['known', 'active', 'payload-signed'], ['new', 'pending', 'pending'], ['source:ab', 'pending', 'project-key']])
  expect(await listed('?status=pending')).toEqual([['new', 'pending', 'pending']])
  expect(await device('pending')).toMatchObject({ code: 0, out: 'new' })
  expect((await registry()).settings?.first_sight).toBe('pending')
  expect(Object.keys((await registry()).devices)).toEqual(['known'])

  expect(await device('approve', 'new', '--reason', 'ours')).toMatchObject({ code: 0, out: expect.stringContaining('new is now active') })
  expect(await device('pending')).toMatchObject({ code: 0, out: '' })
  expect((await registry()).devices.new).toEqual({ status: 'active', reason: 'ours' })
  expect(await world.get<DeviceDetail>('/api/v1/devices/new')).toMatchObject({ registry: { status: 'active', reason: 'ours', actor: 'admin' }, history: [{ kind: 'device.status', intact: true }], timeline: [{ standing: 'pending' }] })

  // Said again, the policy admits nobody: who came since has to wait.
  await crash('late', { standing: 'pending' })
  await fleet('first-sight', 'pending')
  expect(await device('pending')).toMatchObject({ out: 'late' })
  const { items } = await world.get<{ items: { kind: string; body: object }[] }>('/api/v1/events')
  expect(items.filter(({ kind }) => kind === 'fleet.devices-admitted').map(({ body }) => body)).toEqual([{ devices: 1 }])
  await fleet('first-sight', 'active')
  expect(await listed('?status=pending')).toEqual([])
})

test('a shut-out device can be listed by its state, and a rebased one is in the epoch of that event', async () => {
  await crash('stolen')
  expect(await device('revoke', 'stolen', '--reason', 'theft')).toMatchObject({ code: 0 })
  expect(await device('disable', 'stolen-too', '--reason', 'theft')).toMatchObject({ code: 0 })
  expect(await listed('?status=revoked')).toEqual([['stolen', 'revoked', 'payload-signed']])
  expect(await listed('?status=disabled')).toEqual([])
  expect(await device('rebase', 'known', '--reason', 'factory reset')).toMatchObject({ code: 0 })
  const [event] = (await world.get<DeviceDetail>('/api/v1/devices/known')).history
  expect(event).toMatchObject({ kind: 'device.rebased', subject: 'rebase:known', body: { reason: 'factory reset' } })
  expect((await registry()).rebased).toEqual({ known: event!.number })
  expect((await registry()).devices.known).toEqual({ status: 'active', reason: '' })
})

test('a gateway has a token that is told once and kept as its digest, until it is removed', async () => {
  const { code, out: token } = await fleet('add-gateway', 'hub-1')
  expect([code, token]).toEqual([0, expect.stringMatching(/^[\w-]{43}$/)])
  expect((await registry()).settings?.gateways).toEqual({ 'hub-1': createHash('sha256').update(token).digest('hex') })
  expect((await registry()).settings?.first_sight).toBe('active')
  expect(JSON.stringify(await world.get('/api/v1/fleets/demo'))).not.toContain(token)
  expect(JSON.stringify(await world.get('/api/v1/events?limit=200'))).not.toContain(token)
  expect(await fleet('remove-gateway', 'hub-1', '--reason', 'gone')).toMatchObject({ code: 0 })
  expect((await registry()).settings?.gateways).toEqual({})
  expect(await fleet('remove-gateway', 'hub-1', '--reason', 'gone')).toMatchObject({ code: 30, err: expect.stringContaining('no gateway hub-1') })
})

test('an anchor keeps its scope', async () => {
  const { pem } = createFleet({ devices: 0, now: NOW }).ca
  expect(await world.post('/api/v1/fleets/demo/anchors', { pem, key_protection: 'hardware', scope: 'acme' })).toMatchObject({ scope: 'acme' })
  expect((await world.get<Fleet>('/api/v1/fleets/demo')).anchors).toMatchObject([{ scope: 'acme' }])
  expect(Object.values((await registry()).anchors)).toMatchObject([{ scope: 'acme' }])
})

test('what quotas kept out is listed, newest first, for all and for one device', async () => {
  const row = (n: number, said: object = {}) => ({
    fleet: 'demo', id: String(n).padStart(32, 'f'), device: 'known', slug: 'quota-device', first_at: new Date(NOW - 20_000).toISOString(), last_at: new Date(NOW - 10_000 + n).toISOString(),
    reports: 40 + n, digests: [{ digest: 'd'.repeat(64), reports: 40 }], ...said,
  })
  await world.world.clickhouse.insert({ table: 'refusals', format: 'JSONEachRow', values: [row(1), row(2), row(3, { device: '', slug: 'quota-fleet' }), row(2)] })
  const first = await world.get<RefusalsPage>('/api/v1/refusals?limit=2')
  expect(first.items.map(({ device: name, slug, reports }) => [name, slug, reports])).toEqual([['', 'quota-fleet', 43], ['known', 'quota-device', 42]])
  const second = await world.get<RefusalsPage>(`/api/v1/refusals?limit=2&cursor=${encodeURIComponent(first.next!)}`)
  expect(second).toMatchObject({ next: null, items: [{ reports: 41, digests: [{ digest: 'd'.repeat(64), reports: 40 }] }] })
  expect((await world.get<DeviceDetail>('/api/v1/devices/known')).refusals.map(({ reports }) => reports)).toEqual([42, 41])
})
