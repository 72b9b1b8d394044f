import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Finding } from '../../../dashboard/detect/finding.ts'
import { readReleases } from '../../../dashboard/detect/releases.ts'
import { readFleetSettings } from '../../../dashboard/detect/settings.ts'
import { spread } from '../../../dashboard/detect/spread.ts'
import { readMerges } from '../../../dashboard/queries/merges.ts'
import type { TestCrash } from '../../fleet/crash-row.ts'
import { startTestEngine, type TestEngine } from '../../fleet/engine.ts'
import { createRandom } from '../../fleet/random.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const NOW = Date.UTC(2026, 10, 20, 12)

let engine: TestEngine
beforeAll(async () => { engine = await startTestEngine() })
afterAll(async () => { await engine.stop() })
beforeEach(async () => {
  await engine.clear()
  await engine.say({ at: NOW - 40 * DAY, kind: 'fleet.settings', subject: 'fleet', body: { net_facing: ['httpd'] } })
})

test('a memory corruption that was never seen before fires when it reaches 5 devices of a part that faces the network in 6 h', async () => {
  await engine.insert([...background(1), ...hits({ bucket: 'smash', devices: 5, over: 5 * HOUR, evidence: 3 })])
  const [finding, ...others] = await evaluate()
  expect(others).toEqual([])
  expect(finding).toMatchObject({ pattern: 'PRB-SPREAD', bucket: 'smash', stratum: 'E3-net', severity: 'high', opens: true, devices: 5, crashes: 5 })
  expect(finding!.lnP).toBeLessThan(Math.log(1e-5))
  expect(finding!.evidence.queue).toBe('security')
  expect(slugs(finding!.evidence.for)).toEqual(expect.arrayContaining(['memory-corruption', 'faces-network', 'never-seen', 'many-versions', 'no-outage']))
  expect(finding!.evidence.devices).toHaveLength(5)
  expect(finding!.evidence.series).toHaveLength(72)
  expect(finding!.evidence.series.reduce((sum, slot) => sum + slot.devices, 0)).toBe(5)
})

test('ln p is the reference value: 3 times the smallest of the three windows', async () => {
  await engine.insert([...background(1, { grows: false }), ...hits({ bucket: 'smash', devices: 5, over: 5 * HOUR, evidence: 3 })])
  const [finding] = await evaluate()
  // 5 in 6 h after 28 empty days: I_{6/678}(5, 0.5) by mpmath with 50 digits.
  expect(finding!.lnP).toBeCloseTo(Math.log(3 * 1.340651622338691e-11), 8)
})

test('the same five devices are no alert where the part does not face the network', async () => {
  await engine.insert([...background(1), ...hits({ bucket: 'smash', devices: 5, over: 5 * HOUR, evidence: 3, compartment: 'logger' })])
  expect(opened(await evaluate())).toEqual([])
})

test('loss of control flow fires at two devices, one is not enough', async () => {
  await engine.insert([...background(1), ...hits({ bucket: 'jump-1', devices: 1, over: HOUR, evidence: 4 }), ...hits({ bucket: 'jump-2', devices: 2, over: HOUR, evidence: 4 })])
  expect(opened(await evaluate()).map((finding) => [finding.bucket, finding.stratum])).toEqual([['jump-2', 'E4-net']])
})

test('one device that crashes 10,000 times does not fire', async () => {
  const loop = Array.from({ length: 10_000 }, (_, n): TestCrash => ({ id: `loop-${n}`, at: NOW - 6 * HOUR + n * 2000, device: 'd7', bucket: 'loop', evidence: 4 }))
  await engine.insert([...background(1), ...loop])
  expect(await evaluate()).toEqual([])
})

test('a known crash at its usual rate does not fire', async () => {
  const random = createRandom(4)
  const usual = Array.from({ length: 30 * 20 }, (_, n): TestCrash => ({ id: `usual-${n}`, at: NOW - random.next() * 30 * DAY, device: `d${random.below(400)}`, bucket: 'usual', evidence: 3 }))
  await engine.insert([...background(1), ...usual])
  expect(await evaluate()).toEqual([])
})

test('a release that brings crashes is the release queue, not security', async () => {
  const bad = hits({ bucket: 'null-write', devices: 40, over: 20 * HOUR, evidence: 1, swversion: '4.2.0' })
  await engine.insert([...background(1), ...rollout('4.2.0', 6 * DAY), ...bad])
  const findings = await evaluate()
  expect(findings).toMatchObject([{ bucket: 'null-write', stratum: 'release', severity: 'low', opens: true, evidence: { queue: 'release' } }])
  expect(slugs(findings[0]!.evidence.against)).toContain('newest-firmware-only')
})

test('memory corruption on new firmware only waits in the release queue as medium, and is security when one source network sends it', async () => {
  await engine.insert([...background(1), ...rollout('4.2.0', 6 * DAY)])
  await engine.insert(hits({ bucket: 'smash', devices: 8, over: 5 * HOUR, evidence: 3, swversion: '4.2.0' }))
  expect(await evaluate()).toMatchObject([{ bucket: 'smash', stratum: 'release', severity: 'medium', opens: true }])
  await engine.insert(hits({ bucket: 'smash-2', devices: 8, over: 5 * HOUR, evidence: 3, swversion: '4.2.0', source: '203.0.113.0/24' }))
  expect((await evaluate()).map(({ bucket, stratum }) => [bucket, stratum]).toSorted()).toEqual([['smash', 'release'], ['smash-2', 'E3-net']])
})

test('an outage that makes 300 devices fail stays out of security', async () => {
  await engine.insert([...background(1), ...hits({ bucket: 'timeout', devices: 300, over: 2 * HOUR, evidence: 1, from: 0 })])
  const findings = await evaluate()
  expect(findings).toMatchObject([{ bucket: 'timeout', stratum: 'rest', severity: 'low', opens: true, evidence: { queue: 'operations' } }])
  expect(slugs(findings[0]!.evidence.against)).toContain('outage')
})

test('during an outage an attack is still found, and the outage is said beside it', async () => {
  await engine.insert([
    ...background(1), ...hits({ bucket: 'timeout', devices: 300, over: 2 * HOUR, evidence: 1, from: 0 }),
    ...hits({ bucket: 'smash', devices: 5, over: 5 * HOUR, evidence: 3 }),
  ])
  const attack = (await evaluate()).find((finding) => finding.bucket === 'smash')
  expect(attack).toMatchObject({ stratum: 'E3-net', opens: true })
  expect(slugs(attack!.evidence.against)).toContain('outage')
})

test('what speaks against an attack is computed: one hardware model, flipped bits, the usual source network', async () => {
  const flip = { slug: 'bit-flip', text: 'one flipped bit would explain it' }
  const nat = background(1).map((crash) => ({ ...crash, source: '192.0.2.0/24' }))
  await engine.insert([...nat, ...hits({ bucket: 'smash', devices: 6, over: 5 * HOUR, evidence: 3, hwmodel: 'T200', against: [flip], source: '192.0.2.0/24' })])
  const [finding] = await evaluate()
  expect(slugs(finding!.evidence.against)).toEqual(expect.arrayContaining(['one-model', 'bit-flips', 'usual-source']))
  expect(finding!.evidence.score_terms).toEqual(expect.arrayContaining([{ name: 'single hardware model', value: -1.5 }, { name: 'bit flips', value: -2.5 }]))
  expect(slugs(finding!.evidence.for)).not.toContain('shared-source')
})

test('whom the devices had just heard is evidence where the fleet usually hears others, also behind one NAT', async () => {
  const nat = background(1).map((crash, n) => ({ ...crash, source: '192.0.2.0/24', peer: `10.0.${n % 50}.7` }))
  const smash = hits({ bucket: 'smash', devices: 5, over: 5 * HOUR, evidence: 3, source: '192.0.2.0/24' }).map((crash, n) => ({ ...crash, peer: `203.0.113.${n}` }))
  await engine.insert([...nat, ...smash])
  const [finding] = await evaluate()
  expect(finding!.evidence.for.find(({ slug }) => slug === 'shared-peer')?.text).toBe('5 of 5 devices had just heard 203.0.113.0/24; usually 0 % of the crashing devices have')
  expect(finding!.evidence.score_terms).toContainEqual({ name: 'shared peer', value: 3 })
  expect(finding!.evidence.peers).toEqual([{ peer: '203.0.113.0/24', devices: 5 }])
  expect(finding!.evidence.do_now).toContain('Watch or block 203.0.113.0/24 at the edge.')
  expect(slugs(finding!.evidence.against)).toContain('usual-source')
})

test('peers are grouped by /24 and /48, and a hash stays what it is', async () => {
  const peers = ['2001:db8:1:2::3', '2001:db8:1:9::4', '2001:db8:1::', 'h:00ff', 'not an address']
  await engine.insert([...background(1), ...hits({ bucket: 'smash', devices: 5, over: 5 * HOUR, evidence: 3 }).map((crash, n) => ({ ...crash, peer: peers[n]! }))])
  const [finding] = await evaluate()
  expect(finding!.evidence.peers).toEqual([{ peer: '2001:db8:1::/48', devices: 3 }, { peer: 'h:00ff', devices: 1 }, { peer: 'not an address', devices: 1 }])
})

test('project-key reports and stale counters never count', async () => {
  await engine.insert([
    ...background(1), ...hits({ bucket: 'forged', devices: 50, over: HOUR, evidence: 4, authLevel: 'project-key' }),
    ...hits({ bucket: 'replayed', devices: 50, over: HOUR, evidence: 4, standing: 'stale-counter' }),
  ])
  expect(await evaluate()).toEqual([])
})

test('a block that was written twice and a reprocessed crash change nothing', async () => {
  const rows = [...background(1), ...hits({ bucket: 'smash', devices: 5, over: 5 * HOUR, evidence: 3 })]
  await engine.insert(rows)
  const once = await evaluate()
  await engine.insert(rows)
  expect(await evaluate()).toEqual(once)
  // A new ruleset moves the crashes of three devices elsewhere; only the highest revision counts.
  await engine.insert(rows.filter((row) => row.bucket === 'smash').slice(0, 3).map((row) => ({ ...row, bucket: 'other', revision: 1 })))
  expect((await evaluate()).map(({ bucket, devices }) => [bucket, devices])).not.toContainEqual(['smash', 5])
})

test('buckets that people merged count as one, through a chain, and unmerging takes it back', async () => {
  await engine.insert([
    ...background(1), ...hits({ bucket: 'a', devices: 2, over: 5 * HOUR, evidence: 3, from: 0 }), ...hits({ bucket: 'b', devices: 2, over: 5 * HOUR, evidence: 3, from: 2 }),
    ...hits({ bucket: 'c', devices: 2, over: 5 * HOUR, evidence: 3, from: 4 }),
  ])
  expect(opened(await evaluate())).toEqual([])
  await engine.say({ at: NOW - HOUR, kind: 'bucket.merged', subject: 'bucket:a', body: { into: 'b' } })
  await engine.say({ at: NOW - HOUR, kind: 'bucket.merged', subject: 'bucket:b', body: { into: 'c' } })
  expect(opened(await evaluate())).toMatchObject([{ bucket: 'c', devices: 6 }])
  await engine.say({ at: NOW - HOUR, kind: 'bucket.unmerged', subject: 'bucket:b', body: {} })
  expect(opened(await evaluate())).toMatchObject([{ bucket: 'b', devices: 4 }])
})

test('counts that swing from day to day need more than an ordinary swing', async () => {
  const random = createRandom(9)
  const swinging = Array.from({ length: 28 }, (_, day) => day % 7 === 0 ? 40 : 1).flatMap((devices, day) =>
    Array.from({ length: devices }, (_, n): TestCrash => ({ id: `s-${day}-${n}`, at: NOW - (day + 1) * DAY - random.next() * 20 * HOUR, device: `d${n}`, bucket: 'swing', evidence: 3 })))
  await engine.insert([...background(1), ...swinging, ...hits({ bucket: 'swing', devices: 30, over: 20 * HOUR, evidence: 3, from: 100 })])
  expect(opened(await evaluate())).toEqual([])
})

test('a fleet that was connected yesterday has one day of history, not 28 days of silence', async () => {
  await engine.insert([...background(1).filter((row) => row.at > NOW - 26 * HOUR), ...hits({ bucket: 'smash', devices: 5, over: 20 * HOUR, evidence: 3 })])
  expect(opened(await evaluate())).toEqual([])
})

test('the fleet may set its own thresholds, and another fleet is not touched by them', async () => {
  await engine.insert([...background(1), ...hits({ bucket: 'smash', devices: 3, over: 20 * HOUR, evidence: 3, compartment: 'logger' })])
  expect(opened(await evaluate())).toEqual([])
  await engine.say({ at: NOW - DAY, kind: 'fleet.settings', subject: 'fleet', body: { net_facing: ['httpd'], spread_tau: { 'E34-inside': 1e-3 } } })
  expect(opened(await evaluate())).toMatchObject([{ bucket: 'smash', stratum: 'E34-inside' }])
  expect((await readFleetSettings(engine.clickhouse, 'other')).settings.netFacing).toEqual([])
})

async function evaluate(now = NOW): Promise<Finding[]> {
  const { settings } = await readFleetSettings(engine.clickhouse, 'demo')
  const releases = await readReleases(engine.clickhouse, 'demo', now)
  return spread.evaluate({ clickhouse: engine.clickhouse, fleet: 'demo', now, settings, releases, merges: await readMerges(engine.clickhouse, 'demo') })
}

const opened = (findings: Finding[]): Finding[] => findings.filter((finding) => finding.opens)
const slugs = (reasons: { slug: string }[]): string[] => reasons.map((reason) => reason.slug)
const versionOf = (device: number): string => (device % 4 === 0 ? '3.9.2' : '4.1.0')

/** 400 devices, 32 days, about 24 dull crashes a day in 30 buckets. Without growth all devices were there on the first day. */
function background(seed: number, { grows = true } = {}): TestCrash[] {
  const random = createRandom(seed)
  const start = NOW - 32 * DAY
  const first = grows ? [] : Array.from({ length: 400 }, (_, n): TestCrash => ({ id: `first-${n}`, at: start + n, device: `d${n}`, bucket: 'first-boot', evidence: 1, swversion: versionOf(n) }))
  return [...first, ...Array.from({ length: 32 * 24 }, (_, n): TestCrash => {
    const device = random.below(400)
    return {
      id: `background-${seed}-${n}`, at: start + random.next() * 32 * DAY, device: `d${device}`, bucket: `dull-${random.below(30)}`, evidence: 1,
      compartment: random.pick(['httpd', 'sensor', 'logger']), swversion: versionOf(device), hwmodel: device % 3 ? 'T100' : 'T200', source: `198.51.${device % 50}.0/24`,
    }
  })]
}

function hits(wave: Partial<TestCrash> & { bucket: string; devices: number; over: number; evidence: TestCrash['evidence']; from?: number }): TestCrash[] {
  const { devices, over, from = 11, ...crash } = wave
  return Array.from({ length: devices }, (_, n) => ({
    id: `${wave.bucket}-${n}`, at: NOW - 60_000 - Math.floor((over * (devices - 1 - n)) / Math.max(1, devices)), device: `d${from + n}`,
    swversion: versionOf(from + n), hwmodel: (from + n) % 3 ? 'T100' : 'T200', source: `198.51.${(from + n) % 50}.0/24`, ...crash,
  }))
}

/** The new version is first seen `ago`, on ten devices that crash in dull ways. */
function rollout(swversion: string, ago: number): TestCrash[] {
  return Array.from({ length: 10 }, (_, n) => ({ id: `rollout-${n}`, at: NOW - ago + n * HOUR, device: `d${200 + n}`, bucket: `dull-${n}`, evidence: 1, swversion }))
}
