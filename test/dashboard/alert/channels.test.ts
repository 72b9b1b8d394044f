import { randomBytes } from 'node:crypto'
import { Webhook as Verifier } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { createChannels, messageFor, type Channel } from '../../../dashboard/alert/channels.ts'
import { nextAlert, writeAlerts, type Alert } from '../../../dashboard/detect/alerts.ts'
import { createManualClock } from '../../../infra/service/clock.ts'
import { createLogger } from '../../../infra/service/logger.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'
import { startTestEngine, type TestEngine } from '../../fleet/engine.ts'
import { someFinding } from '../../fleet/finding.ts'
import { startReceiver, type Receiver } from './receiver.ts'

const NOW = Date.UTC(2026, 10, 20, 12)
const SECRET = `whsec_${randomBytes(24).toString('base64')}`
const logger = createLogger({ part: 'test', level: 'silent' })

let engine: TestEngine
let receiver: Receiver
beforeAll(async () => { engine = await startTestEngine() })
afterAll(async () => { await engine.stop() })
beforeEach(async () => {
  await engine.clear()
  receiver = await startReceiver()
})
afterEach(async () => { await receiver.stop() })

test('an alert is delivered, signed, and written down', async () => {
  const channels = create()
  channels.notify(alert())
  await channels.idle()
  const [{ headers, body }] = receiver.received as [Receiver['received'][0]]
  const told = new Verifier(SECRET).verify(body, headers as Record<string, string>) as ReturnType<typeof JSON.parse>
  expect(told).toMatchObject({ type: 'alert.opened', data: { pattern: 'PRB-SPREAD', severity: 'high', finding: { class_uid: 2004, type_uid: 200401, severity_id: 4, is_alert: true } } })
  expect(await deliveries()).toMatchObject([{ alert: alert().id, version: 1, channel: 'hook', attempt: 1, outcome: 'delivered' }])
})

test('a receiver that fails is tried again with the same id, until it takes it', async () => {
  receiver.answer = (response, count) => response.writeHead(count < 3 ? 503 : 200).end()
  const channels = create()
  channels.notify(alert())
  await channels.idle()
  expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
  expect((await deliveries()).map(({ attempt, outcome }) => [attempt, outcome])).toEqual([[1, 'status'], [2, 'status'], [3, 'delivered']])
})

test('it gives up after the last try and says so', async () => {
  receiver.answer = (response) => response.writeHead(500).end()
  const channels = create({}, 2)
  channels.notify(alert())
  await channels.idle()
  expect((await deliveries()).map(({ outcome }) => outcome)).toEqual(['status', 'gave-up'])
})

test('what a restart left untold is told once, and what was told is not', async () => {
  await writeAlerts(engine.clickhouse, [alert(), alert({ bucket: 'other' })])
  const first = create()
  first.notify(alert())
  await first.idle()
  await first.stop()
  const second = create()
  await second.resume()
  await second.idle()
  expect(receiver.received.map(({ headers }) => headers['webhook-id'])).toEqual([messageFor(alert(), '').id, messageFor(alert({ bucket: 'other' }), '').id])
})

test('an address inside is refused once, written down and not tried again', async () => {
  const channels = create({ allowPrivate: false })
  channels.notify(alert())
  await channels.idle()
  expect(receiver.received).toEqual([])
  expect((await deliveries()).map(({ outcome }) => outcome)).toEqual(['address-refused'])
})

test('a channel hears of the queues that it asked for', async () => {
  const channels = create()
  channels.notify(alert({ stratum: 'release', evidence: { ...someFinding().evidence, queue: 'release' } }))
  await channels.idle()
  expect(receiver.received).toEqual([])
})

test('stopping does not wait for a receiver that never answers', async () => {
  receiver.answer = () => {}
  const channels = create()
  channels.notify(alert())
  while (receiver.received.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  await channels.stop()
  expect(await deliveries()).toEqual([])
})

const alert = (change: Parameters<typeof someFinding>[0] = {}): Alert => nextAlert(undefined, someFinding(change), NOW)!

function create(channel: Partial<Channel> = {}, maxTries = 4) {
  return createChannels({
    clickhouse: engine.clickhouse, clock: createManualClock(NOW), logger, metrics: createMetrics({ defaults: false }),
    settings: { channels: [{ name: 'hook', url: receiver.url, secrets: [SECRET], allowPrivate: true, ...channel }], firstPauseMs: 1, maxTries },
  })
}

async function deliveries() {
  const result = await engine.clickhouse.query({ query: 'SELECT * FROM deliveries FINAL ORDER BY alert, attempt', format: 'JSONEachRow' })
  return result.json<{ alert: string; version: number; channel: string; attempt: number; outcome: string }>()
}
