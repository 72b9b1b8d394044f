import { afterAll, beforeAll, expect, test } from 'vitest'
import { createFleet } from '../../../ingest/device/fleet.ts'
import { eventSchema, type BucketDetail, type BucketsPage, type DeviceDetail, type Problem } from '../../../dashboard/api/contract.ts'
import { fleetSchema } from '../../../dashboard/api/fleet-contract.ts'
import { alertRow } from '../alert-row.ts'
import { STORY_START, crashRow, insertCrashes } from '../crash-row.ts'
import { rowsOf } from '../../infra/clickhouse-fixture.ts'
import { startTestDashboard, TOKEN, type TestDashboard } from './dashboard-fixture.ts'

const NOW = STORY_START + 10 * 3_600_000
const [AA, BB, CC] = ['00000000000000aa', '00000000000000bb', '00000000000000cc'] as const
let world: TestDashboard
beforeAll(async () => {
  world = await startTestDashboard({ now: NOW })
  await insertCrashes(world.world.clickhouse, [AA, BB, CC].map((bucket, i) => crashRow({ id: `${i}`.repeat(32), bucket, device: `dev-${i}` })))
  await world.world.clickhouse.insert({ table: 'alerts', values: [alertRow({ id: 'al', opened_at: NOW })], format: 'JSONEachRow' })
})
afterAll(() => world.stop())

const refused = async (path: string, body: unknown): Promise<[number, string]> => {
  const response = await world.raw(path, { method: 'POST', headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' }, body: JSON.stringify(body) })
  return [response.status, ((await response.json()) as Problem).type]
}
const bucketIds = async (query = ''): Promise<string[]> => (await world.get<BucketsPage>(`/api/v1/buckets${query}`)).items.map(({ bucket }) => bucket).sort()

test('triage is one event, the newest counts, and lists can be filtered by it', async () => {
  const event = eventSchema.parse(await world.post(`/api/v1/buckets/${AA}/triage`, { state: 'resolved', note: '<b>fixed</b>', fixed_in: '4.2.0' }))
  expect(event).toMatchObject({ fleet: 'demo', kind: 'bucket.triaged', subject: `bucket:${AA}`, actor: 'admin', intact: true, at: new Date(NOW).toISOString() })
  const bucket = await world.get<BucketDetail>(`/api/v1/buckets/${AA}`)
  expect(bucket.triage).toMatchObject({ state: 'resolved', note: '<b>fixed</b>', fixed_in: '4.2.0' })
  expect(bucket.history).toHaveLength(1)
  expect((await world.get<{ items: { fixed: boolean }[] }>(`/api/v1/buckets/${AA}/firmware`)).items[0]?.fixed).toBe(true)
  expect(await bucketIds('?state=resolved')).toEqual([AA])
  expect(await bucketIds('?state=new')).toEqual([BB, CC])
  expect(await refused(`/api/v1/buckets/${AA}/triage`, { state: 'nonsense' })).toEqual([400, 'invalid-request'])
  expect(await refused('/api/v1/buckets/00000000000000dd/triage', { state: 'muted' })).toEqual([404, 'not-found'])
})

test('a merged bucket is counted with and answers as the other one, until it is taken back', async () => {
  await world.post(`/api/v1/buckets/${BB}/merge`, { into: CC, reason: 'same overrun' })
  expect(await bucketIds()).toEqual([AA, CC])
  expect(await world.get(`/api/v1/buckets/${BB}`)).toMatchObject({ bucket: CC, asked_for: BB, crashes: 2, devices: 2, merged: [BB], merges: [{ bucket: BB, into: CC, reason: 'same overrun' }] })
  expect(await refused(`/api/v1/buckets/${CC}/merge`, { into: BB, reason: '' })).toEqual([409, 'merge-cycle'])
  expect(await refused(`/api/v1/buckets/${AA}/merge`, { into: AA, reason: '' })).toEqual([409, 'merge-cycle'])
  await world.post(`/api/v1/buckets/${BB}/unmerge`, { reason: 'no, different' })
  expect(await bucketIds()).toEqual([AA, BB, CC])
  expect(await refused(`/api/v1/buckets/${BB}/unmerge`, {})).toEqual([404, 'not-found'])
})

test('a verdict stays with its alert', async () => {
  await world.post('/api/v1/alerts/al/verdict', { verdict: 'lab', note: 'our own fuzzing' })
  expect(await world.get('/api/v1/alerts/al')).toMatchObject({ verdict: { verdict: 'lab', note: 'our own fuzzing', actor: 'admin' }, history: [{ kind: 'alert.verdict' }] })
  expect(await refused('/api/v1/alerts/none/verdict', { verdict: 'bug' })).toEqual([404, 'not-found'])
})

test('a device status and the fleet settings are the events that ingest reads, and ingest is told at once', async () => {
  const before = world.registryChanges()
  await world.post(`/api/v1/devices/${encodeURIComponent('acme/dev 0?#')}/status`, { status: 'revoked', reason: 'stolen' })
  await world.post('/api/v1/devices/dev-0/status', { status: 'disabled', reason: 'lab' })
  expect(await world.get<DeviceDetail>('/api/v1/devices/dev-0')).toMatchObject({ status: 'disabled', registry: { status: 'disabled', reason: 'lab', actor: 'admin' } })
  await world.post('/api/v1/fleets/demo/settings', { net_facing: ['httpd'], expired_leaf_days: 7 })
  const fleet = fleetSchema.parse(await world.post('/api/v1/fleets/demo/settings', { project_key_uploads: true }))
  expect(fleet.settings).toEqual({ net_facing: ['httpd'], expired_leaf_days: 7, project_key_uploads: true })
  expect(world.registryChanges()).toBe(before + 4)
  const stored = await rowsOf<{ kind: string; subject: string; body: string }>(world.world.clickhouse, "SELECT kind, subject, body FROM events FINAL WHERE kind IN ('device.status', 'fleet.settings') ORDER BY number DESC")
  expect(stored.map(({ kind, subject, body }) => [kind, subject, JSON.parse(body)])).toEqual([
    ['fleet.settings', 'fleet', { net_facing: ['httpd'], expired_leaf_days: 7, project_key_uploads: true }],
    ['fleet.settings', 'fleet', { net_facing: ['httpd'], expired_leaf_days: 7 }],
    ['device.status', 'device:dev-0', { status: 'disabled', reason: 'lab' }],
    ['device.status', 'device:acme/dev 0?#', { status: 'revoked', reason: 'stolen' }],
  ])
})

test('a CA becomes an anchor and can be removed; what is no CA is refused with the reason', async () => {
  const { ca, devices } = createFleet({ devices: 1, name: 'acme', now: NOW })
  const anchor = await world.post<{ sha256: string; subject: string; algorithm: string }>('/api/v1/fleets/demo/anchors', { pem: ca.pem, key_protection: 'hardware' })
  expect(anchor).toMatchObject({ subject: expect.stringContaining('acme root CA'), algorithm: 'P-256', key_protection: 'hardware', not_before: new Date(NOW - 86_400_000).toISOString() })
  const fleet = fleetSchema.parse(await world.get('/api/v1/fleets/demo'))
  expect(fleet.anchors.map(({ sha256 }) => sha256)).toEqual([anchor.sha256])
  expect(await refused('/api/v1/fleets/demo/anchors', { pem: devices[0]!.certificatePem, key_protection: 'unknown' })).toEqual([422, 'anchor-refused'])
  expect(await refused('/api/v1/fleets/demo/anchors', { pem: 'nothing', key_protection: 'unknown' })).toEqual([422, 'anchor-refused'])
  await world.post(`/api/v1/fleets/demo/anchors/${anchor.sha256}/remove`, {})
  expect(fleetSchema.parse(await world.get('/api/v1/fleets/demo')).anchors).toEqual([])
  expect(await refused(`/api/v1/fleets/demo/anchors/${anchor.sha256}/remove`, {})).toEqual([404, 'not-found'])
})
