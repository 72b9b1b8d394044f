import { createHash, X509Certificate } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createManualClock } from '../../infra/service/clock.ts'
import { createRegistry } from '../../ingest/registry.ts'
import { loadRegistryFromClickHouse } from '../../ingest/registry-source.ts'
import { createFleet } from '../../ingest/device/fleet.ts'
import { quietLogger, startTestClickHouse, type TestClickHouse } from '../infra/clickhouse-fixture.ts'

let database: TestClickHouse
let directory: string
beforeAll(async () => {
  database = await startTestClickHouse()
  directory = await mkdtemp(join(tmpdir(), 'registry-'))
})
afterAll(async () => {
  await database.stop()
  await rm(directory, { recursive: true })
})

const { pem } = createFleet({ devices: 0, now: Date.now() }).ca
const sha256 = createHash('sha256').update(new X509Certificate(pem).raw).digest('hex')

let number = 0
const say = (fleet: string, kind: string, subject: string, body: unknown) => database.clickhouse.insert({
  table: 'events', format: 'JSONEachRow',
  values: [{ fleet, at: '2026-01-01 00:00:00.000', number: ++number, actor: 'test', kind, subject, body: JSON.stringify(body), prev_hash: '', hash: '' }],
})

test('what people said last about fleets, anchors and devices holds, and outlives the engine', async () => {
  const load = loadRegistryFromClickHouse(database.clickhouse)
  const registry = createRegistry({ snapshotFile: join(directory, 'registry.json'), load, clock: createManualClock(1), logger: quietLogger, intervalMs: 60_000 })
  await registry.start()
  expect(registry.known()).toBe(true)
  expect(registry.anchors()).toEqual([])

  await say('thermostats', 'fleet.anchor-added', `anchor:${sha256}`, { pem, key_protection: 'hardware', sha256 })
  await say('thermostats', 'fleet.settings', 'fleet', { net_facing: ['httpd'], project_key_uploads: true, project_keys: ['thermostats-key'] })
  await say('thermostats', 'device.status', 'device:t-1', { status: 'revoked', reason: 'cloned' })
  await say('thermostats', 'device.status', 'device:t-2', { status: 'disabled', reason: 'noisy' })
  await say('thermostats', 'device.status', 'device:t-2', { status: 'active', reason: 'fixed' })
  await say('thermostats', 'bucket.resolved', 'device:t-1', { not: 'for us' })
  await say('doors', 'fleet.anchor-added', `anchor:${sha256}`, { pem, key_protection: 'software', sha256 })
  await say('doors', 'fleet.anchor-removed', `anchor:${sha256}`, {})
  await registry.refresh()
  expect(registry.anchors().map(({ fleet, keyProtection }) => ({ fleet, keyProtection }))).toEqual([{ fleet: 'thermostats', keyProtection: 'hardware' }])
  expect([registry.deviceStatus('thermostats', 't-1'), registry.deviceStatus('thermostats', 't-2')]).toEqual(['revoked', 'active'])
  expect(registry.fleetOfProjectKey('thermostats-key')).toBe('thermostats')

  await database.engine.stop()
  await expect(registry.refresh()).rejects.toThrow()
  expect(registry.deviceStatus('thermostats', 't-1')).toBe('revoked')
  await registry.stop()
})
