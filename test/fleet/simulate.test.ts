import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Alert } from '../../dashboard/detect/alerts.ts'
import { createDetectors } from '../../dashboard/detect/detectors.ts'
import { createManualClock } from '../../infra/service/clock.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { byteSweep } from '../synth/attacks.ts'
import { startTestEngine, type TestEngine } from './engine.ts'
import { createRandom } from './random.ts'
import { simulateFleet, spreadCampaign } from './simulate.ts'

/**
 * The short form runs with every test. OVERRUN_SIMULATE=long prints the figures of a fleet of 100,000 devices:
 *   OVERRUN_SIMULATE=long npx vitest run test/fleet
 */
const LONG = process.env.OVERRUN_SIMULATE === 'long'
const SEEDS = (process.env.OVERRUN_SEEDS ?? '101,102,103,104').split(',').map(Number)
const HOUR = 3_600_000
const DAY = 24 * HOUR
const END = Date.UTC(2026, 10, 20)
const logger = createLogger({ part: 'test', level: 'silent' })

let engine: TestEngine
beforeAll(async () => { engine = await startTestEngine() })
afterAll(async () => { await engine.stop() })
beforeEach(async () => {
  await engine.clear()
  await engine.say({ at: END - 90 * DAY, kind: 'fleet.settings', subject: 'fleet', body: { net_facing: ['httpd', 'mqttd'] } })
})

test('a week without an attacker, with a release, an outage, failing and dying devices, gives no security alert', async () => {
  const alerts = await watch({ seed: 1, devices: 2000, everyHours: 12 })
  const queues = (queue: string) => alerts.filter(({ evidence }) => evidence.queue === queue).map(({ title }) => title)
  expect(queues('security')).toEqual([])
  expect(queues('operations')).toHaveLength(1)
}, 120_000)

test('in such a week, three campaigns and a sweep are found while they run', async () => {
  const fleet = 2000
  await engine.insert(simulateFleet({ seed: 2, devices: fleet, days: 36, end: END }))
  const results = [await campaign('ctl', 4, 3, 6 * DAY, fleet), await campaign('corrupt', 3, 5, 4 * DAY, fleet), await campaign('corrupt-wide', 3, 10, 2 * DAY, fleet)]
  for (const result of results) expect(result.devicesAtDetection, JSON.stringify(result)).toBeLessThanOrEqual(5)
  const start = END - 12 * HOUR
  await engine.insert(byteSweep({ device: 'd5', start, random: createRandom(3) }))
  const { detectors, told } = create(start + 60_000)
  await detectors.evaluate()
  expect(told.filter(({ pattern }) => pattern === 'PRB-SWEEP')).toMatchObject([{ device: 'd5' }])
}, 120_000)

if (LONG) test('100,000 devices: false alerts a week and detection, on seeds that nothing was tuned on', async () => {
  const weeks: { seed: number; security: string[]; release: number; operations: number }[] = []
  for (const seed of SEEDS) {
    await engine.clear()
    await engine.say({ at: END - 90 * DAY, kind: 'fleet.settings', subject: 'fleet', body: { net_facing: ['httpd', 'mqttd'] } })
    const alerts = await watch({ seed, devices: 100_000, everyHours: 3 })
    const of = (queue: string) => alerts.filter(({ evidence }) => evidence.queue === queue)
    weeks.push({ seed, security: of('security').map(({ pattern, stratum, devices, lnP }) => `${pattern} ${stratum} n=${devices} ln p=${lnP?.toFixed(1)}`), release: of('release').length, operations: of('operations').length })
    const results = []
    for (const [evidence, devices] of [[4, 3], [3, 5], [3, 10]] as const) {
      for (let n = 0; n < 5; n++) results.push(await campaign(`c-${seed}-${evidence}-${devices}-${n}`, evidence, devices, (1 + n) * DAY, 100_000))
    }
    console.log(JSON.stringify({ ...weeks.at(-1), campaigns: results }))
  }
}, 7_200_000)

/** Seven days of evaluation after 28 days of history; every alert that was opened. */
async function watch({ seed, devices, everyHours }: { seed: number; devices: number; everyHours: number }): Promise<Alert[]> {
  await engine.insert(simulateFleet({ seed, devices, days: 36, end: END }))
  const { detectors, clock, told } = create(END - 7 * DAY)
  for (; clock.now() < END; clock.advance(everyHours * HOUR)) await detectors.evaluate()
  return told.filter(({ evidence }) => evidence.tell.what !== 'resolved')
}

/** Evaluates ten seconds after each malicious crash, as the running product would. */
async function campaign(name: string, evidence: 3 | 4, devices: number, beforeEnd: number, fleet: number) {
  const random = createRandom(beforeEnd / HOUR + devices + evidence * 1000 + fleet)
  const crashes = spreadCampaign({ name, devices, over: 6 * HOUR, evidence, at: END - beforeEnd, random, fleet })
  await engine.insert(crashes)
  for (const [index, crash] of crashes.entries()) {
    const { detectors, told } = create(crash.at + 10_000)
    await detectors.evaluate()
    if (told.some(({ bucket }) => bucket === name)) return { name, devices, devicesAtDetection: index + 1, hours: Number(((crash.at - crashes[0]!.at) / HOUR).toFixed(1)) }
  }
  return { name, devices, devicesAtDetection: Infinity, hours: Infinity }
}

function create(at: number) {
  const clock = createManualClock(at)
  const told: Alert[] = []
  return { clock, told, detectors: createDetectors({ clickhouse: engine.clickhouse, clock, logger, metrics: createMetrics({ defaults: false }), notify: (alert) => told.push(alert) }) }
}
