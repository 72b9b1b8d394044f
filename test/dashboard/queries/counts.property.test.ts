import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readBucketCorrelations } from '../../../dashboard/queries/bucket-correlations.ts'
import { readBucketCrashes, type CrashKey } from '../../../dashboard/queries/bucket-crashes.ts'
import { readBucketDevices } from '../../../dashboard/queries/bucket-devices.ts'
import { readBuckets } from '../../../dashboard/queries/buckets.ts'
import { readNeighbours } from '../../../dashboard/queries/crash-neighbours.ts'
import { readBucketLife } from '../../../dashboard/queries/bucket.ts'
import { readDeviceTimeline } from '../../../dashboard/queries/device.ts'
import { mergesOf, type Merges } from '../../../dashboard/queries/merges.ts'
import { readRevised } from '../../../dashboard/queries/counts.ts'
import { readChanges } from '../../../dashboard/queries/overview.ts'
import { readSeries } from '../../../dashboard/queries/series.ts'
import { readSparklines } from '../../../dashboard/queries/sparklines.ts'
import { forgetCrashes, forgetRows } from '../../../symbolicate/queries/device-rows.ts'
import { startTestClickHouse, until, rowsOf, type TestClickHouse } from '../../infra/clickhouse-fixture.ts'
import { crashRow, insertCrashes, STORY_START } from '../crash-row.ts'

/**
 * Whatever is written twice, late, analysed again, merged or forgotten: what the API counts is what a naive model counts,
 * right away and after the engine has merged everything.
 */
const HOUR = 3_600_000
const DAY = 24 * HOUR
const SPAN = 4 * DAY
const RUNS = process.env['OVERRUN_LONG'] === '1' ? 60 : 6

let world: TestClickHouse
beforeAll(async () => { world = await startTestClickHouse() })
afterAll(() => world.stop())

const bucketName = (n: number): string => `${n}`.repeat(16)
const BUCKETS = [1, 2, 3, 4]

interface Crash { at: number; device: number; bucket: number; evidence: number; waiting: boolean; verified: boolean; standing: 'counted' | 'claimed' | 'stale-counter'; swversion: string }
const evidence = fc.constantFrom(0, 1, 1, 1, 3, 4)
const waiting = fc.constantFrom(false, false, true)
const crash: fc.Arbitrary<Crash> = fc.record({
  // Many at the edges of hours and days, where two parts of an answer meet, and many alike within an hour, so that sets are left by some of their crashes and not by others; and many
  // of one millisecond, where pages end and neighbours are.
  at: fc.oneof(fc.constant(2 * DAY + HOUR / 2), fc.integer({ min: DAY, max: DAY + HOUR - 1 }), fc.integer({ min: DAY, max: DAY + HOUR - 1 }), fc.integer({ min: 0, max: SPAN - 1 }), fc.integer({ min: 0, max: SPAN / HOUR - 1 }).map((hour) => hour * HOUR), fc.integer({ min: 1, max: SPAN / DAY }).map((day) => day * DAY - 1)),
  device: fc.integer({ min: 0, max: 5 }), bucket: fc.constantFrom(...BUCKETS), evidence, waiting,
  verified: fc.boolean(), standing: fc.constantFrom('counted', 'counted', 'claimed', 'stale-counter'), swversion: fc.constantFrom('1', '2'),
})
type Step =
  | { do: 'write'; crashes: Crash[] }
  | { do: 'again'; share: number; from: number }
  | { do: 'revise'; which: number; bucket: number; evidence: number; waiting: boolean }
  | { do: 'forget'; device: number }
  | { do: 'merge'; bucket: number; into: number }
  | { do: 'optimize' }
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('write' as const), crashes: fc.array(crash, { minLength: 1, maxLength: 40 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('again' as const), share: fc.integer({ min: 1, max: 4 }), from: fc.nat(100) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('revise' as const), which: fc.nat(1000), bucket: fc.constantFrom(...BUCKETS), evidence, waiting }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('forget' as const), device: fc.integer({ min: 0, max: 5 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('merge' as const), bucket: fc.constantFrom(...BUCKETS), into: fc.constantFrom(...BUCKETS) }) },
  { weight: 1, arbitrary: fc.constant({ do: 'optimize' as const }) },
)
const asked = fc.array(fc.tuple(fc.integer({ min: 0, max: SPAN }), fc.integer({ min: 0, max: SPAN }), fc.boolean()), { minLength: 2, maxLength: 2 })

let fleets = 0
test('the API counts what a naive model counts, whatever is said twice, late or anew', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 14 }), asked, async (steps, ranges) => {
    const play = new Play(`fleet-${fleets++}`)
    for (const one of steps) await play.step(one)
    await play.check(ranges)
    for (const table of ['crashes', 'bucket_counts', 'bucket_crashes', 'fleet_counts', 'property_counts', 'revised_crashes', 'device_crashes']) await world.clickhouse.command({ query: `OPTIMIZE TABLE ${table} FINAL` })
    await play.check(ranges)
  }), { numRuns: RUNS, seed: RUNS === 6 ? 20261122 : Date.now(), endOnFailure: true })
}, 600_000)

test('a set that some of its crashes have left, analysed again or forgotten, counts those that stayed', async () => {
  const play = new Play(`fleet-${fleets++}`)
  const alike = (n: number): Crash => ({ at: DAY + n * 60_000, device: n % 6, bucket: 1, evidence: 1, waiting: true, verified: n % 6 > 0, standing: 'counted', swversion: '1' })
  const [hour, days] = [[DAY, DAY + HOUR, true], [0, SPAN, true]] as const
  await play.step({ do: 'write', crashes: Array.from({ length: 12 }, (_, n) => alike(n)) })
  for (const which of [0, 4]) {
    await play.step({ do: 'revise', which, bucket: 2, evidence: 3, waiting: false })
    await play.check([hour, days])
  }
  await play.step({ do: 'forget', device: 2 })
  await play.check([hour, days, [DAY + HOUR / 2, 2 * DAY, false]])
}, 120_000)

/** `told`: its rows say in which bucket it was first, as those of today's worker do and those of earlier ones don't. */
interface Kept extends Crash { id: string; revision: number; versions: Crash[]; told: boolean }

class Play {
  readonly fleet: string
  readonly kept: Kept[] = []
  written = 0
  merges: Merges = mergesOf([])
  readonly #merged: { bucket: string; into: string; reason: string; at: string; actor: string }[] = []

  constructor(fleet: string) { this.fleet = fleet }

  async step(one: Step): Promise<void> {
    switch (one.do) {
      case 'write': {
        const added = one.crashes.map((each, n): Kept => ({ ...each, id: `${this.fleet}-${this.written++}-`.padEnd(32, 'x'), revision: 0, versions: [each], told: this.written % 3 > 0 }))
        this.kept.push(...added)
        return this.#insert(added.map((each) => this.#row(each, each, 0)))
      }
      case 'again': // Every version of some of them, as a log that is read again and a worker that was frozen may say them.
        return this.#insert(this.kept.filter((_, n) => (n + one.from) % 5 < one.share).flatMap((each) => each.versions.map((version, revision) => this.#row(each, version, revision))))
      case 'revise': {
        const each = this.kept[one.which % Math.max(1, this.kept.length)]
        if (each === undefined) return
        Object.assign(each, { bucket: one.bucket, evidence: one.evidence, waiting: one.waiting, revision: each.revision + 1 })
        each.versions.push({ ...each })
        return this.#insert([this.#row(each, each, each.revision)])
      }
      case 'forget': {
        const of = { fleet: this.fleet, device: `dev-${one.device}` }
        await forgetRows(world.clickhouse, of)
        await this.#settled()
        await forgetCrashes(world.clickhouse, of)
        await this.#settled()
        for (let n = this.kept.length - 1; n >= 0; n--) if (this.kept[n]!.device === one.device) this.kept.splice(n, 1)
        return
      }
      case 'merge':
        this.#merged.push({ bucket: bucketName(one.bucket), into: bucketName(one.into), reason: '', at: '', actor: '' })
        this.merges = mergesOf(this.#merged)
        return
      case 'optimize':
        await world.clickhouse.command({ query: 'OPTIMIZE TABLE bucket_counts' })
    }
  }

  #settled = () => until(async () => (await rowsOf<{ n: string }>(world.clickhouse, 'SELECT count() AS n FROM system.mutations WHERE NOT is_done'))[0]?.n === '0', 'the rows are gone')

  #insert(rows: ReturnType<typeof crashRow>[]): Promise<void> { return rows.length === 0 ? Promise.resolve() : insertCrashes(world.clickhouse, rows) }

  #row({ id, at, device, verified, standing, swversion, versions, told }: Kept, version: Crash, revision: number) {
    return crashRow({
      first_bucket: told && revision > 0 ? bucketName(versions[0]!.bucket) : '',
      id, fleet: this.fleet, at: STORY_START + at, revision, device: `dev-${device}`, device_number: String(device + 1), bucket: bucketName(version.bucket), evidence: version.evidence, standing, swversion,
      auth_level: verified ? 'payload-signed' : 'project-key', missing_symbols: version.waiting ? [{ debug_file: 'x', debug_id: `m${device}`, code_id: '' }] : [], title: `title ${version.bucket}`,
    })
  }

  async check(ranges: readonly (readonly [number, number, boolean])[]): Promise<void> {
    for (const [a, b, whole] of ranges) {
      const [low, high] = [Math.min(a, b), Math.max(a, b)].map((at) => STORY_START + (whole ? Math.floor(at / HOUR) * HOUR : at)) as [number, number]
      await this.#checkRange(low, high)
    }
    for (const bucket of BUCKETS) await this.#checkNeighbours(bucket)
    for (const bucket of BUCKETS.map(bucketName)) {
      const its = this.#counted().filter((each) => bucketName(each.bucket) === bucket)
      const life = await readBucketLife(world.clickhouse, this.fleet, [bucket])
      const times = its.map(({ at }) => STORY_START + at)
      expect(life === null ? null : [life.first_seen, life.last_seen, life.evidence]).toEqual(
        its.length === 0 ? null : [iso(Math.min(...times)), iso(Math.max(...times)), Math.max(...its.map(({ evidence }) => evidence))])
    }
    const timeline = await readDeviceTimeline(world.clickhouse, this.fleet, 'dev-1')
    expect(timeline.map(({ id, bucket }) => [id, bucket]).toSorted()).toEqual(this.kept.filter(({ device }) => device === 1).map(({ id, bucket }) => [id, bucketName(bucket)]).toSorted())
  }

  /** Two spans of whole hours around the range, the first without the end of its last hour. */
  async #checkOverview(from: number, to: number): Promise<void> {
    const [first, end] = [Math.floor(from / HOUR) * HOUR, Math.ceil(to / HOUR) * HOUR]
    const middle = Math.ceil((first + end) / 2 / HOUR) * HOUR
    const beforeEnd = middle - ((to - from) % HOUR)
    const days = { fleet: this.fleet, from: first, middle, beforeEnd, to: end }
    const changes = await readChanges(world.clickhouse, days, await readRevised(world.clickhouse, days))
    const [early, late] = [this.#counted(first, beforeEnd), this.#counted(middle, end)]
    const waiting = late.filter((each) => each.waiting)
    expect([changes.crashes, changes.devices, changes.by_evidence, changes.unsymbolicated]).toEqual([
      { now: late.length, before: early.length }, { now: devicesOf(late), before: devicesOf(early) }, [0, 1, 2, 3, 4].map((evidence) => late.filter((each) => each.evidence === evidence).length),
      { crashes: waiting.length, devices: devicesOf(waiting), modules: devicesOf(waiting) },
    ])
    const byHour = Array.from({ length: (end - first) / HOUR }, (_, slot) => this.#counted(first + slot * HOUR, first + (slot + 1) * HOUR))
    expect([changes.series.crashes, changes.series.devices]).toEqual([byHour.map((slot) => slot.length), byHour.map(devicesOf)])
  }

  async #checkRange(from: number, to: number): Promise<void> {
    const scope = { fleet: this.fleet, from, to }
    const its = this.#counted(from, to)
    for (const swversion of ['', '1']) {
      const listed = await readBuckets(world.clickhouse, { scope, merges: this.merges, limit: 50, filter: swversion === '' ? {} : { swversion } })
      const model = groupBy(its.filter((each) => swversion === '' || each.swversion === swversion), ({ bucket }) => this.merges.target(bucketName(bucket)))
      expect(Object.fromEntries(listed.map(({ id, crashes, devices, verified_devices, evidence }) => [id, [crashes, devices, verified_devices, evidence]]))).toEqual(
        Object.fromEntries([...model].map(([id, of]) => [id, [of.length, devicesOf(of), devicesOf(of.filter(({ verified }) => verified)), Math.max(...of.map(({ evidence }) => evidence))]])))
    }
    await this.#checkOverview(from, to)
    for (const bucket of BUCKETS) {
      const now = its.filter((each) => each.bucket === bucket)
      await this.#checkPages(scope, bucket, now)
      expect((await readBucketDevices(world.clickhouse, scope, [bucketName(bucket)], { limit: 50 })).reduce((sum, { crashes }) => sum + crashes, 0)).toBe(now.length)
      const versions = (await readBucketCorrelations(world.clickhouse, scope, [bucketName(bucket)])).filter(({ key }) => key === 'swversion')
      expect(Object.fromEntries(versions.map(({ value, in_bucket, bucket_total, overall, overall_total }) => [value, [in_bucket, bucket_total, overall, overall_total]]))).toEqual(
        Object.fromEntries([...groupBy(now, ({ swversion }) => swversion)].map(([version, of]) => [version, [of.length, now.length, its.filter(({ swversion }) => swversion === version).length, its.length]])))
    }
    const hours = { ...scope, from: Math.floor(from / HOUR) * HOUR, to: Math.ceil(to / HOUR) * HOUR }
    if (hours.from === hours.to) return
    const hourly = this.#counted(hours.from, hours.to)
    const slots = (of: readonly Kept[]) => Array.from({ length: (hours.to - hours.from) / HOUR }, (_, slot) => of.filter(({ at }) => Math.floor((STORY_START + at - hours.from) / HOUR) === slot))
    const series = await readSeries(world.clickhouse, hours, HOUR)
    expect([series.crashes, series.devices]).toEqual([slots(hourly).map((slot) => slot.length), slots(hourly).map(devicesOf)])
    const [name] = [this.merges.target(bucketName(1))]
    const lines = await readSparklines(world.clickhouse, hours, HOUR, this.merges, [name])
    expect(lines.get(name)).toEqual(slots(hourly.filter(({ bucket }) => this.merges.target(bucketName(bucket)) === name)).map((slot) => slot.length))
  }

  /** Newest first, in pages that are now full of the last day and now of all days before. */
  async #checkPages(scope: { fleet: string; from: number; to: number }, bucket: number, its: readonly Kept[]): Promise<void> {
    const pages: string[] = []
    for (let before: CrashKey | undefined, limit = 2; ; limit *= 5) {
      const page = await readBucketCrashes(world.clickhouse, scope, [bucketName(bucket)], { limit, before })
      pages.push(...page.map(({ id }) => id))
      const last = page.at(-1)
      if (page.length < limit || last === undefined) break
      before = [Date.parse(last.event_time), last.id]
    }
    expect(pages).toEqual(its.toSorted(byTime).map(({ id }) => id).toReversed())
  }

  async #checkNeighbours(bucket: number): Promise<void> {
    const its = this.#counted().filter((each) => each.bucket === bucket).toSorted(byTime)
    for (const n of new Set([0, Math.floor(its.length / 2), its.length - 1])) {
      const each = its[n]
      if (each === undefined) continue
      const found = await readNeighbours(world.clickhouse, { fleet: this.fleet, id: each.id, event_time: iso(STORY_START + each.at) }, [bucketName(bucket)])
      expect(found).toEqual({ previous: its[n - 1]?.id ?? null, next: its[n + 1]?.id ?? null })
    }
  }

  #counted(from = 0, to = Infinity): Kept[] {
    return this.kept.filter(({ at, standing }) => standing !== 'stale-counter' && STORY_START + at >= from && STORY_START + at < to)
  }
}

const byTime = (a: Kept, b: Kept): number => a.at - b.at || (a.id < b.id ? -1 : 1)
const iso = (ms: number): string => new Date(ms).toISOString()
const devicesOf = (crashes: readonly Kept[]): number => new Set(crashes.map(({ device }) => device)).size
function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) groups.set(key(item), [...groups.get(key(item)) ?? [], item])
  return groups
}
