import { createHash, X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createManualClock } from '../../infra/service/clock.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { createFleet } from '../../ingest/device/fleet.ts'
import { createRegistry, type RegistryOptions, type RegistrySnapshot } from '../../ingest/registry.ts'
import { snapshotOf } from '../../ingest/registry-source.ts'

const logger = createLogger({ part: 'test', level: 'silent' })
const clock = createManualClock(1_000_000)

const { pem } = createFleet({ devices: 0, now: Date.now() }).ca
const sha256 = createHash('sha256').update(new X509Certificate(pem).raw).digest('hex')

const row = (subject: string, kind: string, body: unknown, fleet = 'thermostats', number = 1) =>
  ({ fleet, subject, newest_kind: kind, newest_body: JSON.stringify(body), newest_number: number })
const added = () => row(`anchor:${sha256}`, 'fleet.anchor-added', { pem, key_protection: 'hardware', sha256 })

let directory: string
let snapshotFile: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'registry-'))
  snapshotFile = join(directory, 'ingest', 'registry.json')
})
afterEach(() => rm(directory, { recursive: true }))

const registryOn = (load?: RegistryOptions['load']) => createRegistry({ snapshotFile, clock, logger, intervalMs: 60_000, ...(load ? { load } : {}) })

test('the newest events become anchors, policies, device states and project keys', async () => {
  const registry = registryOn(async () => snapshotOf([
    added(),
    row('fleet', 'fleet.settings', { net_facing: ['httpd'], project_key_uploads: true, project_keys: ['thermostats-key'], expired_leaf_days: 2 }),
    row('device:t-1', 'device.status', { status: 'revoked', reason: 'cloned' }),
  ], logger))
  await registry.start()
  expect(registry.anchors()).toEqual([{ fleet: 'thermostats', sha256, der: new X509Certificate(pem).raw, keyProtection: 'hardware' }])
  expect(registry.policy('thermostats').expiredLeafMs).toBe(2 * 86_400_000)
  expect(registry.policy('unheard-of').expiredLeafMs).toBe(30 * 86_400_000)
  expect(registry.deviceStatus('thermostats', 't-1')).toBe('revoked')
  expect(registry.deviceStatus('thermostats', 't-2')).toBe('unknown')
  expect(registry.deviceStatus('doors', 't-1')).toBe('unknown')
  expect(registry.fleetOfProjectKey('thermostats-key')).toBe('thermostats')
  expect(registry.readAt()).toBe(1_000_000)
  await registry.stop()
})

test('where first sight is pending, all are pending but those whom somebody admitted, and one that is shut out stays so', async () => {
  const pending = row('fleet', 'fleet.settings', { first_sight: 'pending' })
  const registry = registryOn(async () => snapshotOf([
    row('admitted:5', 'fleet.devices-admitted', { devices: ['t-1', 't-2', 't-3'] }), row('device:t-2', 'device.status', { status: 'revoked' }), row('device:t-4', 'device.status', { status: 'active' }),
    row('device:t-3', 'device.status', { status: 'pending' }), pending,
  ], logger))
  await registry.start()
  expect(['t-1', 't-2', 't-3', 't-4', 't-5'].map((id) => registry.deviceStatus('thermostats', id))).toEqual(['active', 'revoked', 'pending', 'active', 'pending'])
  expect(registry.deviceStatus('doors', 't-5')).toBe('unknown')
  await registry.stop()
})

test('a rebased device is in the epoch of the newest event about it; a gateway is known by the digest of its token', async () => {
  const token = 'ab'.repeat(32)
  const registry = registryOn(async () => snapshotOf([row('rebase:t-1', 'device.rebased', { reason: 'reset' }, 'thermostats', 17), row('fleet', 'fleet.settings', { gateways: { hub: token } })], logger))
  await registry.start()
  expect([registry.epochOf('thermostats', 't-1'), registry.epochOf('thermostats', 't-2'), registry.epochOf('doors', 't-1')]).toEqual([17, 0, 0])
  expect([registry.gatewayOf(token), registry.gatewayOf('cd'.repeat(32))]).toEqual([{ fleet: 'thermostats', name: 'hub' }, null])
  await registry.stop()
})

test('a removed anchor is gone, and a project key without its switch opens nothing', async () => {
  const registry = registryOn(async () => snapshotOf([
    row(`anchor:${sha256}`, 'fleet.anchor-removed', {}),
    row('fleet', 'fleet.settings', { project_keys: ['thermostats-key'] }),
  ], logger))
  await registry.start()
  expect(registry.anchors()).toEqual([])
  expect(registry.fleetOfProjectKey('thermostats-key')).toBeNull()
  await registry.stop()
})

test('an event that makes no sense takes only itself away', () => {
  const snapshot = snapshotOf([
    added(),
    row('fleet', 'fleet.settings', { expired_leaf_days: 'many' }),
    row('device:t-1', 'device.status', { status: 'sleepy' }),
    { fleet: 'thermostats', subject: 'device:t-2', newest_kind: 'device.status', newest_body: 'not json', newest_number: 1 },
    row('device:__proto__', 'device.status', { status: 'revoked' }),
    row('device:t-3', 'device.status', { status: 'disabled' }),
    row('fleet', 'fleet.settings', {}, 'No Such Name!'),
    'nonsense',
  ], logger)
  expect(Object.keys(snapshot.fleets)).toEqual(['thermostats'])
  expect(Object.keys(snapshot.fleets.thermostats!.anchors)).toEqual([sha256])
  expect(snapshot.fleets.thermostats!.devices['t-3']).toEqual({ status: 'disabled', reason: '' })
  expect(snapshot.fleets.thermostats!.devices['t-9']).toBeUndefined()
})

test('an anchor whose bytes are not what its name says is left out', async () => {
  const registry = registryOn(async () => snapshotOf([{ ...added(), subject: `anchor:${'0'.repeat(64)}` }], logger))
  await registry.start()
  expect(registry.anchors()).toEqual([])
  await registry.stop()
})

test('a restart begins with the last good snapshot while the source is away', async () => {
  const first = registryOn(async () => snapshotOf([added()], logger))
  await first.start()
  await first.stop()
  const second = registryOn(async () => { throw new Error('ClickHouse is away') })
  await second.start()
  expect(second.known()).toBe(true)
  expect(second.readAt()).toBeNull()
  expect(second.anchors().map((anchor) => anchor.sha256)).toEqual([sha256])
  await expect(second.refresh()).rejects.toThrow('ClickHouse is away')
  expect(second.anchors()).toHaveLength(1)
  await second.stop()
})

test('without source and snapshot nothing is known', async () => {
  const registry = registryOn(async () => { throw new Error('ClickHouse is away') })
  await registry.start()
  expect(registry.known()).toBe(false)
  await registry.stop()
})

test('a damaged snapshot on disk is ignored and replaced by the next good read', async () => {
  const writer = registryOn(async () => snapshotOf([added()], logger))
  await writer.start()
  await writer.stop()
  const good = await readFile(snapshotFile, 'utf8')
  await writeFile(snapshotFile, good.slice(0, 40))
  let away = true
  const registry = registryOn(async () => {
    if (away) throw new Error('ClickHouse is away')
    return snapshotOf([added()], logger)
  })
  await registry.start()
  expect(registry.known()).toBe(false)
  away = false
  await registry.refresh()
  expect(registry.anchors()).toHaveLength(1)
  expect(await readFile(snapshotFile, 'utf8')).toBe(good)
  await registry.stop()
})

test('a snapshot that cannot be written is in effect all the same', async () => {
  const file = join(directory, 'a file')
  await writeFile(file, '')
  const load = async () => snapshotOf([added(), row('device:t-1', 'device.status', { status: 'revoked' })], logger)
  const registry = createRegistry({ snapshotFile: join(file, 'registry.json'), load, clock, logger, intervalMs: 60_000 })
  await expect(registry.refresh()).rejects.toThrow('a file')
  expect(registry.deviceStatus('thermostats', 't-1')).toBe('revoked')
})

test('refresh takes effect at once and equal snapshots keep the same array of anchors', async () => {
  let rows: unknown[] = [added()]
  const registry = registryOn(async (): Promise<RegistrySnapshot> => snapshotOf(rows, logger))
  await registry.start()
  const anchors = registry.anchors()
  await registry.refresh()
  expect(registry.anchors()).toBe(anchors)
  rows = [added(), row('device:t-1', 'device.status', { status: 'disabled' })]
  await registry.refresh()
  expect(registry.deviceStatus('thermostats', 't-1')).toBe('disabled')
  await registry.stop()
})

test('the source is asked again by itself', async () => {
  let reads = 0
  const registry = createRegistry({ snapshotFile, clock, logger, intervalMs: 5, load: async () => { reads += 1; return { v: 1, fleets: {} } } })
  await registry.start()
  while (reads < 3) await new Promise((resolve) => setTimeout(resolve, 5))
  await registry.stop()
})
