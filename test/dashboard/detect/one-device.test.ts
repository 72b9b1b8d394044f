import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { canary } from '../../../dashboard/detect/canary.ts'
import type { Detector, Finding } from '../../../dashboard/detect/finding.ts'
import { pattern } from '../../../dashboard/detect/pattern.ts'
import { SPREAD_TAU } from '../../../dashboard/detect/settings.ts'
import { sweep } from '../../../dashboard/detect/sweep.ts'
import type { TestCrash } from '../../fleet/crash-row.ts'
import { startTestEngine, type TestEngine } from '../../fleet/engine.ts'
import { createRandom } from '../../fleet/random.ts'
import * as attacks from '../../synth/attacks.ts'
import { crashRow, insertCrashes } from '../crash-row.ts'

const NOW = Date.UTC(2026, 10, 20, 12)
const one = (device = 1) => ({ device: `d${device}`, start: NOW - 50 * 60_000, random: createRandom(device) })

let engine: TestEngine
beforeAll(async () => { engine = await startTestEngine() })
afterAll(async () => { await engine.stop() })
beforeEach(async () => { await engine.clear() })

const evaluate = (detector: Detector, now = NOW): Promise<Finding[]> =>
  detector.evaluate({ clickhouse: engine.clickhouse, fleet: 'demo', now, settings: { netFacing: ['httpd'], spreadTau: SPREAD_TAU }, releases: [], merges: { from: [], into: [] } })

test('a byte sweep is found', async () => {
  await engine.insert(attacks.byteSweep(one()))
  const [finding] = await evaluate(sweep)
  expect(finding).toMatchObject({ pattern: 'PRB-SWEEP', device: 'd1', severity: 'high', crashes: 64, opens: true })
  expect(finding!.evidence.for.map(({ slug }) => slug)).toEqual(expect.arrayContaining(['bytes', 'march', 'one-program']))
})

test('a byte sweep is found before its 20th crash, within a minute', async () => {
  await engine.insert(attacks.byteSweep(one()))
  expect(await evaluate(sweep, one().start + 19 * 3000)).toHaveLength(1)
})

test('page guesses with a fixed offset are found, in random order and in sequence', async () => {
  await engine.insert([...attacks.pageGuesses(one()), ...attacks.pageGuesses(one(2), { marching: true })])
  const findings = await evaluate(sweep)
  expect(findings.map(({ device }) => device).toSorted()).toEqual(['d1', 'd2'])
  for (const { evidence } of findings) expect(evidence.for.map(({ slug }) => slug)).toContain('pages')
})

test.each([
  ['a crash loop under address randomisation', attacks.aslrCrashLoop],
  ['an uninitialised pointer that is hit now and then', attacks.uninitialisedPointer],
  ['failing memory that makes many programs crash', attacks.dyingMemory],
  ['endless recursion in a loop of restarts', attacks.stackExhaustion],
  ['a backlog of rare crashes that is uploaded at once', attacks.backlog],
] as const)('%s is no sweep', async (_, generate) => {
  await engine.insert(Array.from({ length: 8 }, (_, n) => generate(one(n))).flat())
  expect(await evaluate(sweep)).toEqual([])
})

test('a storm digest that tells of guessing is a sweep, one that tells of a loop is none, and a device that also sent dumps is one finding', async () => {
  const digest = (device: string, slug: string, said: object = {}) => ({
    ...crashRow({ id: device.padStart(32, '5'), at: NOW - 60_000, device, kind: 'crash-storm', evidence_for: [{ slug: 'crash-storm', text: '4000 crashes between 10 s and 900 s of uptime' }, { slug, text: `what ${slug} says` }] }), ...said,
  })
  await insertCrashes(engine.clickhouse, [digest('guessed', 'storm-sweep'), digest('looping', 'storm-loop'), digest('d1', 'storm-sweep'), digest('stranger', 'storm-sweep', { auth_level: 'project-key' })])
  await engine.insert(attacks.byteSweep(one()))
  const findings = await evaluate(sweep)
  expect(findings.map(({ device, crashes }) => [device, crashes])).toEqual([['d1', 65], ['guessed', 1]])
  expect(findings[1]).toMatchObject({ pattern: 'PRB-SWEEP', severity: 'high', opens: true, evidence: { what: expect.stringContaining('4000 crashes between 10 s and 900 s of uptime') } })
  expect(findings[1]!.evidence.for[0]).toEqual({ slug: 'storm-sweep', text: 'what storm-sweep says' })
})

test('project-key reports are never a sweep', async () => {
  await engine.insert(attacks.byteSweep(one()).map((crash) => ({ ...crash, authLevel: 'project-key' })))
  expect(await evaluate(sweep)).toEqual([])
})

test('a sweep whose crashes were written twice is the same finding', async () => {
  await engine.insert(attacks.byteSweep(one()))
  const once = await evaluate(sweep)
  await engine.insert(attacks.byteSweep(one()))
  expect(await evaluate(sweep)).toEqual(once)
})

test('a stack guard that is guessed is found, a boot loop is not, nor is a program that does not face the network', async () => {
  await engine.insert([
    ...attacks.canaryGuesses(one()), ...attacks.canaryBootLoop(one(2)),
    ...attacks.canaryGuesses(one(3)).map((crash): TestCrash => ({ ...crash, compartment: 'logger', process: 'logger' })),
  ])
  expect(await evaluate(canary)).toMatchObject([{ pattern: 'PRB-CANARY', device: 'd1', severity: 'high', crashes: 40 }])
})

test('five misses of the guard in ten minutes are medium', async () => {
  await engine.insert(attacks.canaryGuesses({ ...one(), start: NOW - 5 * 60_000 }, { misses: 5 }))
  expect(await evaluate(canary)).toMatchObject([{ severity: 'medium', crashes: 5 }])
})

test('one cyclic pattern is enough, text needs two devices', async () => {
  const shaped = (bucket: string, device: string, shape: TestCrash['pattern']): TestCrash =>
    ({ id: `${bucket}-${device}`, at: NOW - 60_000, device, bucket, evidence: 4, ...(shape ? { pattern: shape } : {}) })
  await engine.insert([shaped('cyclic', 'd1', 'cyclic'), shaped('text-1', 'd2', 'printable'), shaped('text-2', 'd3', 'printable'), shaped('text-2', 'd4', 'printable'), shaped('plain', 'd5', undefined)])
  const findings = await evaluate(pattern)
  expect(findings.map(({ bucket, severity, devices }) => [bucket, severity, devices])).toEqual([['text-2', 'critical', 2], ['cyclic', 'high', 1]])
  expect(findings[0]!.evidence.against.map(({ slug }) => slug)).toContain('honest-text')
  expect(findings[1]!.lnP).toBeCloseTo(Math.log(4.7e-6))
})
