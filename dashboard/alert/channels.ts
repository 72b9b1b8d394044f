import { setTimeout as delay } from 'node:timers/promises'
import { Counter } from 'prom-client'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { Clock } from '../../infra/service/clock.ts'
import { messageOf } from '../../infra/service/errors.ts'
import type { Logger } from '../../infra/service/logger.ts'
import type { Metrics } from '../../infra/service/metrics.ts'
import { fromRow, type Alert } from '../detect/alerts.ts'
import type { Queue } from '../detect/finding.ts'
import { sqlTime } from '../detect/time.ts'
import { toDetectionFinding } from './ocsf.ts'
import { formatAlert } from './text.ts'
import { faultOf, isFinal, tryWebhook, type Attempt, type Webhook } from './webhook.ts'

/**
 * Tells people of alerts, and keeps what became of it in `deliveries`: one row per try.
 *
 * Promise: at least once. Each try is written down when it is over; what has no final try is told again after a restart
 * (resume). The message id is the same in every try of an alert's version, so a receiver that keeps ids hears it once.
 * Between tries: 2 s, growing fourfold, up to 8 tries (about 3 h in all), each pause drawn from its upper half so that many
 * alerts don't knock together. Pauses are of this machine, not of the story's clock.
 */
export interface Channel extends Webhook {
  /** What it hears of; security only when left out. */
  queues?: readonly Queue[]
}

export interface ChannelsDeps {
  clickhouse: ClickHouse
  clock: Clock
  logger: Logger
  metrics: Metrics
  settings: { channels: readonly Channel[]; /** Address of the dashboard, for links. */ pageUrl?: string; firstPauseMs?: number; maxTries?: number }
}

export interface Channels {
  /** For createDetectors: returns at once. */
  notify(alert: Alert): void
  /** Takes up what a restart left untold; call it once at start. */
  resume(): Promise<void>
  /** Resolves when nothing is under way. */
  idle(): Promise<void>
  /** Gives up waiting; untold alerts are told after the next start. */
  stop(): Promise<void>
}

const MAX_UNDER_WAY = 1000

export function createChannels({ clickhouse, clock, logger, metrics, settings }: ChannelsDeps): Channels {
  const { channels, pageUrl = '', firstPauseMs = 2000, maxTries = 8 } = settings
  const tries = new Counter({ name: 'overrun_alert_deliveries_total', help: 'Tries to tell somebody of an alert. A rise of anything but delivered: a channel is in trouble, and people may not hear of alerts.', labelNames: ['channel', 'result'], registers: [metrics] })
  const stopped = new AbortController()
  const underWay = new Set<Promise<void>>()
  for (const channel of channels) {
    const fault = faultOf(channel)
    if (fault !== '') logger.error({ stage: 'alert', slug: 'channel-unusable', channel: channel.name, reason: fault }, 'a webhook can not be used')
  }

  function notify(alert: Alert): void {
    for (const channel of channels) if (hears(channel, alert)) send(channel, alert, 1)
  }

  function send(channel: Channel, alert: Alert, firstTry: number): void {
    if (underWay.size >= MAX_UNDER_WAY) {
      logger.error({ stage: 'alert', slug: 'too-many-deliveries', channel: channel.name, alert: alert.id }, 'too many messages are under way; this one is told after the next start')
      return
    }
    const job = deliver(channel, alert, firstTry).finally(() => underWay.delete(job))
    underWay.add(job)
  }

  async function deliver(channel: Channel, alert: Alert, firstTry: number): Promise<void> {
    const message = messageFor(alert, pageUrl)
    for (let attempt = firstTry; attempt <= maxTries && !stopped.signal.aborted; attempt++) {
      const result = await tryWebhook(channel, message, { signal: stopped.signal })
      if (stopped.signal.aborted && result.outcome !== 'delivered') return
      const last = isFinal(result.outcome) || attempt === maxTries
      await record(channel, alert, attempt, result, last)
      if (last) return
      const pause = firstPauseMs * 4 ** (attempt - 1)
      await delay(pause * (0.5 + Math.random() / 2), undefined, { signal: stopped.signal }).catch(() => {})
    }
  }

  async function record(channel: Channel, alert: Alert, attempt: number, { outcome, detail }: Attempt, last: boolean): Promise<void> {
    tries.inc({ channel: channel.name, result: outcome })
    const row = {
      fleet: alert.fleet, alert: alert.id, version: alert.evidence.tell.version, channel: channel.name, at: sqlTime(clock.now()), attempt,
      outcome: last && !isFinal(outcome) ? 'gave-up' : outcome, detail: last && !isFinal(outcome) ? `after ${attempt} tries: ${outcome} ${detail}` : detail,
    }
    if (outcome !== 'delivered') logger.warn({ stage: 'alert', slug: row.outcome, channel: channel.name, alert: alert.id, version: row.version, attempt, reason: row.detail }, 'an alert was not delivered')
    try {
      await clickhouse.insert({ table: 'deliveries', values: [row], format: 'JSONEachRow' })
    } catch (error) {
      logger.error({ stage: 'alert', slug: 'delivery-not-recorded', channel: channel.name, alert: alert.id, reason: messageOf(error) }, 'a try could not be written down; after a restart it is made again with the same id')
    }
  }

  async function resume(): Promise<void> {
    if (channels.length === 0) return
    const result = await clickhouse.query({ query: RECENT_SQL, query_params: { now: sqlTime(clock.now()) }, format: 'JSONEachRow' })
    const alerts = (await result.json<Parameters<typeof fromRow>[0]>()).map(fromRow)
    const told = await clickhouse.query({ query: TRIES_SQL, query_params: { alerts: alerts.map(({ id }) => id) }, format: 'JSONEachRow' })
    const tried = new Map((await told.json<{ fleet: string; alert: string; version: number; channel: string; attempts: number; over: number }>())
      .map((row) => [[row.fleet, row.alert, row.version, row.channel].join(' '), row]))
    for (const alert of alerts) {
      for (const channel of channels.filter((candidate) => hears(candidate, alert))) {
        const before = tried.get([alert.fleet, alert.id, alert.evidence.tell.version, channel.name].join(' '))
        if (!before?.over) send(channel, alert, (before?.attempts ?? 0) + 1)
      }
    }
  }

  return {
    notify,
    resume,
    async idle() { while (underWay.size > 0) await Promise.all(underWay) },
    async stop() {
      stopped.abort()
      while (underWay.size > 0) await Promise.all(underWay)
    },
  }
}

const hears = (channel: Channel, alert: Alert): boolean => (channel.queues ?? ['security']).includes(alert.evidence.queue)

// Small tables at any number of crashes.
const RECENT_SQL = `
SELECT * FROM alerts FINAL WHERE updated_at > {now:DateTime64(3, 'UTC')} - INTERVAL 1 DAY ORDER BY updated_at, id LIMIT 500 SETTINGS max_execution_time = 30`
const TRIES_SQL = `
SELECT fleet, alert, version, channel, max(attempt) AS attempts, countIf(outcome IN ('delivered', 'url-refused', 'address-refused', 'gone', 'gave-up')) > 0 AS over
FROM deliveries FINAL WHERE alert IN ({alerts:Array(String)})
GROUP BY fleet, alert, version, channel SETTINGS max_execution_time = 30`

export function messageFor(alert: Alert, pageUrl: string): { id: string; body: string } {
  const link = `${pageUrl}/campaigns/${alert.id}?fleet=${encodeURIComponent(alert.fleet)}`
  const { tell } = alert.evidence
  const body = {
    type: `alert.${tell.what}`,
    timestamp: new Date(alert.updatedAt).toISOString(),
    data: {
      fleet: alert.fleet, alert: alert.id, version: tell.version, pattern: alert.pattern, severity: alert.severity, state: alert.state, title: alert.title, link,
      text: formatAlert(alert, link), finding: toDetectionFinding(alert, link),
    },
  }
  return { id: `alert_${alert.fleet}_${alert.id}_${tell.version}`.replaceAll(/[^\w-]/g, '-'), body: JSON.stringify(body) }
}
