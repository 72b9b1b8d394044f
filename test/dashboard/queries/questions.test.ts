import { afterAll, beforeAll, expect, test } from 'vitest'
import { createManualClock } from '../../../infra/service/clock.ts'
import { readAlert, readAlertVersions, readAlerts } from '../../../dashboard/queries/alerts.ts'
import { readBucketCorrelations } from '../../../dashboard/queries/bucket-correlations.ts'
import { readBucketCrashes } from '../../../dashboard/queries/bucket-crashes.ts'
import { readBucketDevices } from '../../../dashboard/queries/bucket-devices.ts'
import { readBucketFirmware } from '../../../dashboard/queries/bucket-firmware.ts'
import { readBucketLife } from '../../../dashboard/queries/bucket.ts'
import { readBuckets, readLives, type BucketsAsked } from '../../../dashboard/queries/buckets.ts'
import { readNeighbours } from '../../../dashboard/queries/crash-neighbours.ts'
import { readCrash } from '../../../dashboard/queries/crash.ts'
import { readDeadLetters } from '../../../dashboard/queries/dead-letters.ts'
import { readDecisions } from '../../../dashboard/queries/decisions.ts'
import { readDeviceCredentials, readDeviceTimeline, readDeviceVersions } from '../../../dashboard/queries/device.ts'
import { readDevices } from '../../../dashboard/queries/devices.ts'
import { createEventLog } from '../../../dashboard/queries/event-log.ts'
import { readEvents } from '../../../dashboard/queries/events.ts'
import { mergesOf, readMerges } from '../../../dashboard/queries/merges.ts'
import { readMissingSymbols } from '../../../dashboard/queries/missing-symbols.ts'
import { readMarks } from '../../../dashboard/queries/newest.ts'
import { readRevised } from '../../../dashboard/queries/counts.ts'
import { readChanges, readNewBuckets, twoDaysUntil } from '../../../dashboard/queries/overview.ts'
import type { Scope } from '../../../dashboard/queries/scope.ts'
import { readSeries, slotted } from '../../../dashboard/queries/series.ts'
import { readSparklines } from '../../../dashboard/queries/sparklines.ts'
import { startTestClickHouse, type TestClickHouse } from '../../infra/clickhouse-fixture.ts'
import { alertRow } from '../alert-row.ts'
import { STORY_START, crashRow, insertCrashes } from '../crash-row.ts'

const HOUR = 3_600_000
const AA = '00000000000000aa'
const BB = '00000000000000bb'
const CC = '00000000000000cc'
const NOW = STORY_START + 48 * HOUR
const scope: Scope = { fleet: 'demo', from: STORY_START, to: NOW }
const none = mergesOf([])
const id = (n: number): string => n.toString(16).padStart(32, '0')
let world: TestClickHouse

// bucket AA: one device that crashes 40 times. BB: 5 devices once each, one of them unsigned; corruption. CC: another fleet.
beforeAll(async () => {
  world = await startTestClickHouse()
  const loop = Array.from({ length: 40 }, (_, i) => crashRow({ id: id(i), device: 'loop', device_key: 'k-loop', at: STORY_START + i * HOUR, bucket: AA, swversion: '4.1.0' }))
  const wave = Array.from({ length: 5 }, (_, i) => crashRow({
    id: id(100 + i), device: `hit-${i}`, device_key: `k-hit-${i}`, at: STORY_START + 30 * HOUR + i * 600_000, bucket: BB, kind: 'heap-buffer-overflow', evidence: i === 2 ? 4 : 3, compartment: 'netd',
    title: i === 2 ? 'heap-buffer-overflow in <b>parse_range</b>' : 'heap-buffer-overflow in parse_range', signature: '1 | heap-buffer-overflow | parse_range', source: '203.0.113.0/24',
    fault_address: '18446744073709551615', auth_level: i === 4 ? 'project-key' : 'payload-signed', missing_symbols: [{ debug_file: 'netd.sym', debug_id: 'ABC0', code_id: '' }],
  }))
  const others = [
    crashRow({ id: id(200), fleet: 'other', bucket: CC, device: 'stranger' }),
    crashRow({ id: id(201), device: 'hit-0', device_key: 'k-hit-0', standing: 'stale-counter', bucket: BB, at: STORY_START + 31 * HOUR, flags: ['late'] }),
    crashRow({ id: id(202), device: 'clone', device_key: 'k-hit-0', at: STORY_START + 2 * HOUR }),
  ]
  await insertCrashes(world.clickhouse, [...loop, ...wave, ...others])
  // Everything twice, as after a kill: no answer below may notice.
  await insertCrashes(world.clickhouse, [...loop.slice(3, 20), ...wave, ...others])
})
afterAll(() => world.stop())

const buckets = (asked: Partial<BucketsAsked> = {}) => readBuckets(world.clickhouse, { scope, merges: none, limit: 50, ...asked })

test('five devices that crashed once come before one that crashed forty times', async () => {
  const [first, second, ...rest] = await buckets()
  expect(first).toMatchObject({ id: BB, crashes: 5, devices: 5, verified_devices: 4, evidence: 4, title: 'heap-buffer-overflow in <b>parse_range</b>', compartments: ['netd'] })
  expect(second).toMatchObject({ id: AA, crashes: 41, devices: 2, verified_devices: 2, swversions: ['4.1.0', '4.2.0'] })
  expect(rest).toEqual([])
  expect(await readLives(world.clickhouse, 'demo', none, [AA])).toMatchObject([{ id: AA, first_seen: new Date(STORY_START).toISOString() }])
})

test('each order and each filter does what it says', async () => {
  const order = async (asked: Partial<BucketsAsked>) => (await buckets(asked)).map((bucket) => bucket.id)
  expect(await order({ sort: 'crashes' })).toEqual([AA, BB])
  expect(await order({ sort: 'evidence' })).toEqual([BB, AA])
  expect(await order({ sort: 'last_seen' })).toEqual([AA, BB])
  expect(await order({ sort: 'first_seen' })).toEqual([BB, AA])
  expect(await order({ filter: { q: 'PARSE_RANGE' } })).toEqual([BB])
  expect(await order({ filter: { q: '%' } })).toEqual([])
  expect(await order({ filter: { q: '\' OR 1=1 --' } })).toEqual([])
  expect(await order({ filter: { kind: 'null-dereference' } })).toEqual([AA])
  expect(await order({ filter: { evidence: 4 } })).toEqual([BB])
  expect((await buckets({ filter: { swversion: '4.1.0' } })).map(({ id: bucket, crashes }) => [bucket, crashes])).toEqual([[AA, 40]])
  expect(await order({ only: [BB] })).toEqual([BB])
  expect(await order({ state: { buckets: [AA], inverted: false } })).toEqual([AA])
  expect(await order({ state: { buckets: [AA], inverted: true } })).toEqual([BB])
  expect(await order({ scope: { ...scope, from: STORY_START + 45 * HOUR } })).toEqual([])
})

test('pages by key meet every bucket once, in each order', async () => {
  for (const sort of ['devices', 'crashes', 'last_seen', 'first_seen', 'evidence'] as const) {
    const whole = await buckets({ sort })
    const [first] = await buckets({ sort, limit: 1 })
    const rest = await buckets({ sort, after: [first!.key_1, first!.key_2, first!.id] })
    expect([first, ...rest]).toEqual(whole)
  }
})

test('merged buckets count as one, through chains, and never in a circle', async () => {
  const merge = (bucket: string, into: string) => ({ bucket, into, reason: '', at: '', actor: '' })
  const merges = mergesOf([merge(AA, BB)])
  expect(await buckets({ merges })).toMatchObject([{ id: BB, crashes: 46, devices: 7, verified_devices: 6 }])
  expect(merges.members(BB)).toEqual([BB, AA])
  const chain = mergesOf([merge('a', 'b'), merge('b', 'c')])
  expect([chain.target('a'), chain.members('c')]).toEqual(['c', ['c', 'a', 'b']])
  const circle = mergesOf([merge('a', 'b'), merge('b', 'a')])
  expect([circle.target('a'), circle.target('b'), circle.from]).toEqual(['a', 'b', []])
})

test('series have no holes, and their sum is the count', async () => {
  const { scope: whole, stepMs } = slotted(scope, 60, HOUR)
  expect(stepMs).toBe(HOUR)
  const series = await readSeries(world.clickhouse, whole, stepMs, { buckets: [AA] })
  expect([series.crashes.length, series.crashes.reduce((a, b) => a + b), series.crashes[2], series.devices[2], series.crashes[41]]).toEqual([48, 41, 2, 2, 0])
  const lines = await readSparklines(world.clickhouse, whole, stepMs, none, [AA, BB, CC])
  expect(lines.get(AA)).toEqual(series.crashes)
  expect(lines.get(BB)?.[30]).toBe(5)
  expect(lines.get(CC)).toEqual(new Array(48).fill(0))
})

test('a bucket is described by its strongest crash', async () => {
  const life = await readBucketLife(world.clickhouse, 'demo', [BB])
  expect(life).toMatchObject({ strongest: id(102), newest: id(104), oldest: id(100), evidence: 4, signature: '1 | heap-buffer-overflow | parse_range', provisional: false })
  expect(await readBucketLife(world.clickhouse, 'demo', [CC])).toBeNull()
})

test('the crashes of a bucket come newest first, by pages, without those that do not count', async () => {
  const first = await readBucketCrashes(world.clickhouse, scope, [BB], { limit: 3 })
  expect(first.map((crash) => crash.id)).toEqual([id(104), id(103), id(102)])
  expect(first[0]?.fault_address).toBe('0xffffffffffffffff')
  const last = first.at(-1)!
  const rest = await readBucketCrashes(world.clickhouse, scope, [BB], { limit: 3, before: [Date.parse(last.event_time), last.id] })
  expect(rest.map((crash) => crash.id)).toEqual([id(101), id(100)])
})

test('devices and firmware of a bucket', async () => {
  const [first] = await readBucketDevices(world.clickhouse, scope, [AA], { limit: 1 })
  expect(first).toMatchObject({ device: 'loop', crashes: 40, swversion: '4.1.0' })
  expect(await readBucketDevices(world.clickhouse, scope, [AA], { limit: 5, after: [40, 'loop'] })).toMatchObject([{ device: 'clone', crashes: 1 }])
  expect(await readBucketFirmware(world.clickhouse, scope, [BB])).toMatchObject([{ swversion: '4.2.0', devices: 5, crashes: 5, active_devices: 6 }])
})

test('correlations show what the bucket has in common and the rest has not', async () => {
  const items = await readBucketCorrelations(world.clickhouse, scope, [BB])
  const source = items.find(({ value }) => value === '203.0.113.0/24')
  expect(source).toMatchObject({ key: 'source', in_bucket: 5, bucket_total: 5, overall: 5, overall_total: 46, share: 1 })
  expect(source?.lift).toBeCloseTo(46 / 5)
})

test('one crash, whole, with its neighbours', async () => {
  expect(await readCrash(world.clickhouse, id(102))).toMatchObject({ id: id(102), fleet: 'demo', fault_address: '0xffffffffffffffff', sp: '0x7fffffffe000', bootcount: 3, missing_symbols: [{ debug_file: 'netd.sym', debug_id: 'ABC0', code_id: '' }] })
  expect(await readCrash(world.clickhouse, id(102), 'other')).toBeNull()
  expect(await readCrash(world.clickhouse, id(999))).toBeNull()
  const crash = (await readCrash(world.clickhouse, id(102)))!
  expect(await readNeighbours(world.clickhouse, crash, [BB])).toEqual({ previous: id(101), next: id(103) })
})

test('devices by crashes, and a key that two devices share is seen', async () => {
  const devices = await readDevices(world.clickhouse, { scope, merges: none, limit: 3 })
  expect(devices[0]).toMatchObject({ device: 'loop', crashes: 40, buckets: 1, device_keys: 1, swversion: '4.1.0', evidence: 1 })
  const last = devices.at(-1)!
  const rest = await readDevices(world.clickhouse, { scope, merges: none, limit: 50, after: [last.key_1, last.key_2, last.device] })
  expect(new Set([...devices, ...rest].map(({ device }) => device))).toEqual(new Set(['loop', 'clone', 'hit-0', 'hit-1', 'hit-2', 'hit-3', 'hit-4']))
  expect(await readDevices(world.clickhouse, { scope, merges: none, limit: 9, q: 'HIT-3' })).toMatchObject([{ device: 'hit-3', evidence: 3 }])
  expect(await readDeviceCredentials(world.clickhouse, 'demo', 'hit-0')).toMatchObject([{ device_key: 'k-hit-0', crashes: 2, flags: ['late'], shared_with: ['clone'] }])
  expect((await readDeviceTimeline(world.clickhouse, 'demo', 'hit-0')).map((crash) => crash.standing)).toEqual(['stale-counter', 'counted'])
  expect(await readDeviceVersions(world.clickhouse, 'demo', 'loop')).toMatchObject([{ swversion: '4.1.0', crashes: 40 }])
})

test('missing symbols are ranked by what waits for them', async () => {
  expect(await readMissingSymbols(world.clickhouse, scope, none)).toMatchObject([{ debug_file: 'netd.sym', debug_id: 'ABC0', crashes: 5, devices: 5, buckets: 1 }])
})

test('the overview compares a day with the day before', async () => {
  const days = twoDaysUntil(NOW - 1, 'demo')
  const { series, ...changes } = await readChanges(world.clickhouse, days, await readRevised(world.clickhouse, days))
  expect(series.crashes.reduce((sum, crashes) => sum + crashes)).toBe(46)
  expect(changes).toEqual({
    crashes: { now: 21, before: 25 }, devices: { now: 6, before: 2 }, dead_letters: { now: 0, before: 0 },
    by_evidence: [0, 16, 0, 4, 1], unsymbolicated: { crashes: 5, devices: 5, modules: 1 },
  })
  expect(await readNewBuckets(world.clickhouse, days, none)).toEqual({ now: 1, before: 1, newest: [BB] })
  expect((await readNewBuckets(world.clickhouse, days, mergesOf([{ bucket: BB, into: AA, reason: '', at: '', actor: '' }]))).newest).toEqual([])
})

test('dead letters by pages, their bytes as hex', async () => {
  const letters = [1, 2, 3].map((offset) => ({ topic: 'crashes.accepted', partition: 0, offset: String(offset), at: new Date(STORY_START + offset).toISOString(), stage: 'decode', slug: 'message-undecodable', reason: '<script>', key: 'k', message: 'QUI=' }))
  await world.clickhouse.insert({ table: 'dead_letters', values: letters, format: 'JSONEachRow' })
  const [newest] = await readDeadLetters(world.clickhouse, { limit: 1 })
  expect(newest).toMatchObject({ offset: 3, message_length: 2, message_head: '4142' })
  expect((await readDeadLetters(world.clickhouse, { limit: 9, after: [STORY_START + 3, 'crashes.accepted', 0, 3] })).map(({ offset }) => offset)).toEqual([2, 1])
})

test('the newest version of an alert counts; open ones come first', async () => {
  await world.clickhouse.insert({ table: 'alerts', values: [
    alertRow({ id: 'a', version: 1, opened_at: STORY_START }), alertRow({ id: 'a', version: 2, opened_at: STORY_START, devices: 9 }),
    alertRow({ id: 'b', version: 1, opened_at: STORY_START + HOUR, state: 'closed', p_value: 'nan' }),
  ], format: 'JSONEachRow' })
  const [first, second] = await readAlerts(world.clickhouse, 'demo', { limit: 9 })
  expect([first?.id, first?.version, first?.devices, second?.id, second?.p_value]).toEqual(['a', 2, 9, 'b', null])
  expect((await readAlerts(world.clickhouse, 'demo', { limit: 9, after: [1, STORY_START, 'a'] })).map((alert) => alert.id)).toEqual(['b'])
  expect((await readAlerts(world.clickhouse, 'demo', { limit: 9, state: 'closed' })).map((alert) => alert.id)).toEqual(['b'])
  expect(await readAlert(world.clickhouse, 'demo', 'a')).toMatchObject({ version: 2, query: 'SELECT 1' })
  expect(await readAlert(world.clickhouse, 'other', 'a')).toBeNull()
  expect((await readAlertVersions(world.clickhouse, 'demo', 'a')).map(({ version, devices }) => [version, devices])).toEqual([[2, 9], [1, 4]])
})

test('what people say is kept as a chain, and the newest word counts', async () => {
  const clock = createManualClock(NOW)
  const log = createEventLog({ clickhouse: world.clickhouse, clock })
  const say = (state: string) => log.append({ fleet: 'demo', actor: 'admin', kind: 'bucket.triaged', subject: `bucket:${AA}`, body: { state, note: '\'; DROP TABLE events' } })
  await Promise.all([say('investigating'), say('resolved'), log.append({ fleet: 'demo', actor: 'admin', kind: 'bucket.merged', subject: `bucket:${BB}`, body: { into: AA, reason: 'same' } })])
  const events = await readEvents(world.clickhouse, 'demo', { limit: 10 })
  expect(events.map(({ number, intact }) => [number, intact])).toEqual([[3, true], [2, true], [1, true]])
  expect((await readDecisions(world.clickhouse, 'demo')).triage.get(AA)).toMatchObject({ state: 'resolved', fixed_in: null, actor: 'admin' })
  expect((await readMerges(world.clickhouse, 'demo')).target(BB)).toBe(AA)
  await log.append({ fleet: 'demo', actor: 'admin', kind: 'bucket.unmerged', subject: `bucket:${BB}`, body: { reason: '' } })
  expect((await readMerges(world.clickhouse, 'demo')).target(BB)).toBe(BB)

  await world.clickhouse.command({ query: 'ALTER TABLE events DELETE WHERE number = 2', clickhouse_settings: { mutations_sync: '2' } })
  expect((await readEvents(world.clickhouse, 'demo', { limit: 10 })).map(({ number, intact }) => [number, intact])).toEqual([[4, true], [3, false], [1, true]])
  expect(await readEvents(world.clickhouse, 'demo', { subjects: [`bucket:${AA}`], limit: 10 })).toMatchObject([{ number: 1, intact: true }])
})

test('marks name alerts, buckets and fleets with events', async () => {
  const marks = await readMarks(world.clickhouse)
  expect(new Set(marks.map(({ type }) => type))).toEqual(new Set(['alert', 'bucket', 'event']))
})
