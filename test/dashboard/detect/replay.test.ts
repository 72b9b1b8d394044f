import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { replay } from '../../../dashboard/detect/replay.ts'
import type { Finding } from '../../../dashboard/detect/finding.ts'
import { SPREAD_TAU } from '../../../dashboard/detect/settings.ts'
import { crashRow, insertCrashes } from '../crash-row.ts'
import { startTestEngine, type TestEngine } from '../../fleet/engine.ts'

const NOW = Date.UTC(2026, 10, 20, 12)
const MINUTE = 60_000

let engine: TestEngine
beforeAll(async () => { engine = await startTestEngine() })
afterAll(async () => { await engine.stop() })
beforeEach(async () => {
  await engine.clear()
  await engine.clickhouse.command({ query: 'TRUNCATE TABLE svns' })
})

const evaluate = (now = NOW): Promise<Finding[]> =>
  replay.evaluate({ clickhouse: engine.clickhouse, fleet: 'demo', now, settings: { netFacing: [], spreadTau: SPREAD_TAU }, releases: [], merges: { from: [], into: [] } })

let made = 0
/** A report that came `minutes` before now. */
const report = (minutes: number, said: Record<string, unknown> = {}) => {
  const n = String(++made)
  return crashRow({ id: n.padStart(32, '0'), at: NOW - minutes * MINUTE, digest: n.padStart(64, '0'), bootcount: n, seq: '0', ...said })
}
const insert = (...rows: ReturnType<typeof report>[]) => insertCrashes(engine.clickhouse, rows)
const signs = (finding: Finding | undefined) => finding?.evidence.for.map(({ slug }) => slug)

test('honest reports are no finding: new boots, a renewed key, a lost network, a backlog, an update, a report that was written twice', async () => {
  const twice = report(40, { bootcount: '9' })
  await insert(
    report(60), report(50, { device: 'dev-2', device_key: 'key-2' }), report(45, { device_key: 'key-renewed' }), twice, twice, { ...twice, revision: 1 },
    ...[5, 6, 7, 8].map((boot, i) => report(30 - i, { device: 'dev-3', device_key: 'key-3', bootcount: String(boot), source: i % 2 ? '198.51.100.0/24' : '203.0.113.0/24' })),
    ...[9, 10, 8, 7].map((boot, i) => report(20 - i, { device: 'dev-4', device_key: 'key-4', bootcount: String(boot), source: i === 0 ? '198.51.100.0/24' : '203.0.113.0/24' })),
    ...[[3, 1], [4, 2], [2, 1], [5, 2]].map(([boot, svn], i) => report(10 - i, { device: 'dev-5', device_key: 'key-5', bootcount: String(boot), svn: String(svn) })),
  )
  expect(await evaluate()).toEqual([])
})

test('one counter for two dumps is a finding, whoever judged it and in whatever order', async () => {
  await insert(
    report(30, { bootcount: '7', seq: '1', standing: 'counter-reuse' }),
    report(30, { device: 'raced', device_key: 'key-r', bootcount: '8' }), report(29, { device: 'raced', device_key: 'key-r', bootcount: '8' }),
  )
  const findings = await evaluate()
  expect(findings.map(({ device, severity, opens }) => [device, severity, opens])).toEqual([['dev-1', 'high', true], ['raced', 'high', true]])
  expect(findings[1]).toMatchObject({ pattern: 'PRB-REPLAY', stratum: 'one-device', crashes: 2, evidence: { queue: 'security', for: [{ slug: 'counter-reuse', text: expect.stringContaining('boot 8 report 0') }] } })
  expect(findings[1]!.evidence.first_crash_ids).toHaveLength(2)
  expect(findings[1]!.evidence.series).toHaveLength(24)
  expect(findings[1]!.evidence.series.filter(({ devices }) => devices > 0)).toEqual([{ at: new Date(NOW - 60 * MINUTE).toISOString(), devices: 1 }])
})

test('a report that claims to be years old is judged by when it came', async () => {
  const old = { event_time: '2020-01-01 00:00:00.000' }
  await insert(report(30, { bootcount: '7', ...old }), report(29, { bootcount: '7', ...old }))
  expect(await evaluate()).toHaveLength(1)
  expect(await evaluate(NOW - 31 * MINUTE)).toEqual([])
  expect(await evaluate(NOW + 25 * 60 * MINUTE)).toEqual([])
})

test('one key under two devices is a finding on one of them that names both, also when the other came long ago', async () => {
  await insert(report(30 * 24 * 60, { device: 'original', device_key: 'stolen' }))
  expect(await evaluate()).toEqual([])
  await insert(report(5, { device: 'copy', device_key: 'stolen' }))
  expect(await evaluate()).toMatchObject([{ device: 'copy', devices: 2, evidence: { devices: ['copy', 'original'], for: [{ slug: 'shared-key', text: 'one key speaks for 2 devices: copy, original' }] } }])
})

test('one key in two far-apart networks that keeps going back to an earlier boot is a finding, two networks of one /16 are none', async () => {
  const flip = (device: string, places: readonly [string, string]) => [20, 7, 21, 8, 22].map((boot, i) => report(20 - i, { device, device_key: device, bootcount: String(boot), source: places[i % 2] }))
  await insert(...flip('far', ['198.51.100.0/24', '203.0.113.0/24']), ...flip('near', ['198.51.100.0/24', '198.51.7.0/24']), ...flip('six', ['2001:db8:1::/48', '2a00:1:2::/48']))
  const findings = await evaluate()
  expect(findings.map(({ device, severity }) => [device, severity])).toEqual([['far', 'medium'], ['six', 'medium']])
  expect(findings[0]!.evidence.for[0]!.text).toContain('went back 2 times to an earlier boot in another network (198.51 and 203.0)')
})

test('a security version lower than in an earlier boot is a rollback; a late report of an older boot is none', async () => {
  await insert(report(60, { bootcount: '10', svn: '4' }), report(50, { bootcount: '12', svn: '5' }), report(40, { bootcount: '11', svn: '4' }))
  expect(await evaluate()).toEqual([])
  await insert(report(30, { bootcount: '13', svn: '4' }))
  const [finding] = await evaluate()
  expect(finding).toMatchObject({ device: 'dev-1', severity: 'high', evidence: { for: [{ slug: 'rollback', text: expect.stringContaining('security version 4 after 5') }] } })
})

test('several signs on one device are one finding', async () => {
  await insert(report(30, { bootcount: '7' }), report(29, { bootcount: '7' }), report(20, { bootcount: '20', svn: '5' }), report(10, { bootcount: '21', svn: '4' }))
  const findings = await evaluate()
  expect(findings).toHaveLength(1)
  expect(signs(findings[0])).toEqual(['counter-reuse', 'rollback'])
})

test('reports that prove nothing about their sender are no finding', async () => {
  await insert(...[1, 2].map((n) => report(n, { bootcount: '7', auth_level: 'project-key' })))
  expect(await evaluate()).toEqual([])
})

test('a device that was rebased may use its counters again, and a rollback across the reset is still one', async () => {
  await insert(
    report(60, { bootcount: '1' }), report(50, { bootcount: '90', source: '198.51.100.0/24', svn: '5' }),
    report(40, { bootcount: '1', epoch: 17 }), report(30, { bootcount: '2', epoch: 17, source: '203.0.113.0/24', svn: '5' }), report(20, { bootcount: '90', svn: '5' }),
  )
  // The last one used boot 90 again in the same epoch as the first.
  expect((await evaluate()).map((finding) => [signs(finding), finding.evidence.for[0]!.text])).toEqual([[['counter-reuse'], expect.stringContaining('1 of its counters')]])
  await insert(report(10, { bootcount: '3', epoch: 17, svn: '4' }))
  const [finding] = await evaluate()
  expect(signs(finding)).toEqual(['counter-reuse', 'rollback'])
  expect(finding!.evidence.for[1]!.text).toContain('security version 4 after 5')
})

test('a late report of the life before a reset is no rollback', async () => {
  await insert(report(60, { bootcount: '90', svn: '4' }), report(50, { bootcount: '5', epoch: 17, svn: '5' }), report(40, { bootcount: '91', svn: '4' }))
  expect(await evaluate()).toEqual([])
})

const SAID = {
  'counter-reuse': () => [report(30, { bootcount: '7' }), report(29, { bootcount: '7' })],
  'shared-key': () => [report(30, { device: 'original', device_key: 'stolen' }), report(29, { device: 'copy', device_key: 'stolen' })],
  'two-places': () => [20, 7, 21, 8, 22].map((boot, i) => report(20 - i, { bootcount: String(boot), source: i % 2 ? '198.51.100.0/24' : '203.0.113.0/24' })),
  rollback: () => [report(30, { bootcount: '7', svn: '5' }), report(29, { bootcount: '8', svn: '4' }), report(28, { bootcount: '9', svn: '4' })],
}

/** Every part stays as it was inserted. */
async function unmerged(work: () => Promise<void>): Promise<void> {
  await engine.clickhouse.command({ query: 'SYSTEM STOP MERGES crashes' })
  await work().finally(() => engine.clickhouse.command({ query: 'SYSTEM START MERGES crashes' }))
}

test.each(Object.entries(SAID))('%s: reports that stand twice, one of them analysed again, say what they said once', (sign, said) => unmerged(async () => {
  const evaluated = async () => (await evaluate()).map((finding) => ({ ...finding, evidence: { ...finding.evidence, first_crash_ids: finding.evidence.first_crash_ids.toSorted() } }))
  const rows = said()
  await insert(...rows)
  const [once] = await evaluated()
  expect(signs(once as Finding | undefined)).toEqual([sign])
  await insert({ ...rows.at(-1)!, revision: 1, bucket: '00000000000000bb' })
  for (const row of rows) await insert(row)
  expect(await evaluated()).toEqual([{ ...once, bucket: '00000000000000bb', evidence: { ...once!.evidence, buckets: ['00000000000000bb'] } }])
}))

test('a report has the standing of its highest revision', () => unmerged(async () => {
  const reused = report(30, { device: 'reused', device_key: 'key-r', standing: 'counter-reuse' })
  const lower = report(20, { bootcount: '8', svn: '4' })
  await insert(report(25, { bootcount: '7', svn: '5' }), lower, reused)
  expect((await evaluate()).map(signs)).toEqual([['rollback'], ['counter-reuse']])
  await insert({ ...reused, revision: 1, standing: 'counted' }, { ...lower, revision: 1, standing: 'stale-counter' })
  expect(await evaluate()).toEqual([])
  // Another report of the same counter leads to it, and still its standing is the newest one.
  await insert({ ...report(10), device: 'reused', device_key: 'key-r', bootcount: reused.bootcount, digest: reused.digest })
  expect(await evaluate()).toEqual([])
}))
