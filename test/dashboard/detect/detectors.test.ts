import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { messageFor } from '../../../dashboard/alert/channels.ts'
import type { Alert } from '../../../dashboard/detect/alerts.ts'
import { createDetectors, DETECTORS, type DetectorsDeps } from '../../../dashboard/detect/detectors.ts'
import { createManualClock } from '../../../infra/service/clock.ts'
import { createLogger } from '../../../infra/service/logger.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'
import type { TestCrash } from '../../fleet/crash-row.ts'
import { startTestEngine, type TestEngine } from '../../fleet/engine.ts'
import { createRandom } from '../../fleet/random.ts'
import { byteSweep } from '../../synth/attacks.ts'

const HOUR = 3_600_000
const NOW = Date.UTC(2026, 10, 20, 12)
const logger = createLogger({ part: 'test', level: 'silent' })

let engine: TestEngine
beforeAll(async () => { engine = await startTestEngine() })
afterAll(async () => { await engine.stop() })
beforeEach(async () => {
  await engine.clear()
  await engine.say({ at: NOW - 40 * 24 * HOUR, kind: 'fleet.settings', subject: 'fleet', body: { net_facing: ['httpd'] } })
  await engine.insert([{ id: 'first', at: NOW - 30 * 24 * HOUR, device: 'd0', bucket: 'old', evidence: 1 }])
})

test('a spread becomes one alert that grows in place, is told once, calms down and is resolved', async () => {
  const { detectors, clock, told } = create()
  await engine.insert(spreadOver(5))
  await detectors.evaluate()
  clock.advance(10_000)
  await detectors.evaluate()
  expect(await alerts()).toMatchObject([{ version: 1, state: 'open', pattern: 'PRB-SPREAD', bucket: 'smash', devices: '5', stratum: 'E3-net', severity: 'high' }])

  await engine.insert(spreadOver(7))
  await detectors.evaluate()
  expect(await alerts()).toMatchObject([{ version: 2, devices: '7' }])
  expect(told).toMatchObject([{ version: 1 }])

  for (const hours of [20, 8, 23, 1]) {
    expect((await alerts())[0]).toMatchObject({ state: 'open' })
    clock.advance(hours * HOUR)
    await detectors.evaluate()
  }
  const [row] = await alerts()
  expect(row).toMatchObject({ state: 'resolved' })
  expect(told.map((alert) => alert.evidence.tell.what)).toEqual(['opened', 'resolved'])
  await detectors.stop()
})

test('the query that is kept with the alert gives the numbers of the alert again', async () => {
  const { detectors } = create()
  await engine.insert(spreadOver(5))
  await detectors.evaluate()
  const [row] = await alerts()
  const again = await engine.clickhouse.query({ query: row!.query, query_params: JSON.parse(row!.query_params) as Record<string, unknown>, format: 'JSONEachRow' })
  expect(await again.json()).toMatchObject([{ bucket: 'smash', ln_p: row!.ln_p, devices_in_window: '5' }])
})

test('a detector that fails is counted, the others still run, and its alerts stay open', async () => {
  const { detectors, metrics } = create({
    detectors: DETECTORS.map((detector) => detector.pattern === 'PRB-SPREAD' ? { ...detector, evaluate: () => Promise.reject(new Error('too slow')) } : detector),
  })
  const healthy = create()
  await engine.insert([...spreadOver(5), ...byteSweep({ device: 'd9', start: NOW - 600_000, random: createRandom(1) })])
  await healthy.detectors.evaluate()
  await detectors.evaluate(NOW + 30 * HOUR)
  expect((await alerts()).map(({ pattern, ln_p }) => [pattern, ln_p === null])).toEqual(expect.arrayContaining([['PRB-SPREAD', false], ['PRB-SWEEP', true]]))
  expect((await alerts()).map(({ pattern, evidence }) => [pattern, (JSON.parse(evidence) as { calm_since: string | null }).calm_since !== null]).toSorted()).toEqual([['PRB-SPREAD', false], ['PRB-SWEEP', true]])
  expect(await metrics.metrics()).toContain('overrun_detector_runs_total{rule="PRB-SPREAD",result="failed"} 1')
})

test('a judged alert is this detector\'s record in the next one', async () => {
  const { detectors } = create()
  await engine.insert(spreadOver(5))
  await detectors.evaluate()
  const [row] = await alerts()
  await engine.say({ at: NOW, kind: 'alert.verdict', subject: `alert:${row!.id}`, body: { verdict: 'lab', note: 'ours' } })
  await engine.insert(spreadOver(6, 'smash-2'))
  const findings = await detectors.evaluate(NOW + 1000)
  expect(findings.find(({ bucket }) => bucket === 'smash-2')!.evidence.false_alarms).toContain('1 of 1 judged alert')
})

test('two fleets with the same bucket have two alerts', async () => {
  const { detectors } = create()
  await engine.say({ fleet: 'other', at: NOW - 1, kind: 'fleet.settings', subject: 'fleet', body: { net_facing: ['httpd'] } })
  const both = [{ id: 'first', at: NOW - 30 * 24 * HOUR, device: 'd0', bucket: 'old', evidence: 1 as const }, ...spreadOver(5)]
  await engine.insert([...both, ...both.map((crash) => ({ ...crash, fleet: 'other' }))])
  await detectors.evaluate()
  const rows = await alerts()
  expect(rows.map(({ fleet }) => fleet).toSorted()).toEqual(['demo', 'other'])
  expect(new Set(rows.map(({ id }) => id)).size).toBe(2)
})

test('started, it evaluates by itself until it is stopped', async () => {
  const { detectors, told } = create({ intervalMs: 20 })
  detectors.start()
  await engine.insert(spreadOver(5))
  while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 10))
  await detectors.stop()
  expect(told).toMatchObject([{ bucket: 'smash', version: 1 }])
})

test('two dashboards that look at the same time have one alert, and tell it under one message id', async () => {
  const pair = [create(), create()]
  await engine.insert(spreadOver(5))
  await Promise.all(pair.map(({ detectors }) => detectors.evaluate()))
  await engine.insert(spreadOver(11))
  await Promise.all(pair.map(({ detectors }) => detectors.evaluate()))
  expect(await alerts()).toMatchObject([{ version: 2, devices: '11' }])
  const ids = pair.flatMap(({ told }) => told.map((alert) => messageFor(alert, '').id))
  expect(new Set(ids).size).toBe(2)
})

function create(settings: NonNullable<DetectorsDeps['settings']> = {}) {
  const clock = createManualClock(NOW)
  const metrics = createMetrics({ defaults: false })
  const told: Alert[] = []
  const detectors = createDetectors({ clickhouse: engine.clickhouse, clock, logger, metrics, settings, notify: (alert) => told.push(alert) })
  return { detectors, clock, metrics, told }
}

async function alerts() {
  const result = await engine.clickhouse.query({ query: 'SELECT * FROM alerts FINAL ORDER BY fleet, opened_at, id', format: 'JSONEachRow' })
  return result.json<{ fleet: string; id: string; version: number; state: string; pattern: string; evidence: string; query: string; query_params: string; ln_p: number | null }>()
}

function spreadOver(devices: number, bucket = 'smash'): TestCrash[] {
  return Array.from({ length: devices }, (_, n) => ({ id: `${bucket}-${n}`, at: NOW - HOUR - n * 600_000, device: `d${n}`, bucket, evidence: 3, compartment: 'httpd' }))
}
