import { setTimeout as delay } from 'node:timers/promises'
import { Counter, Gauge, Histogram } from 'prom-client'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { Clock } from '../../infra/service/clock.ts'
import { messageOf } from '../../infra/service/errors.ts'
import type { Logger } from '../../infra/service/logger.ts'
import type { Metrics } from '../../infra/service/metrics.ts'
import { readMerges } from '../queries/merges.ts'
import { keyOf, nextAlert, readCurrentAlerts, writeAlerts, type Alert } from './alerts.ts'
import { canary } from './canary.ts'
import { SEVERITIES, type Detector, type Finding, type Pattern } from './finding.ts'
import { pattern } from './pattern.ts'
import { readReleases, type Release } from './releases.ts'
import { replay } from './replay.ts'
import { readFleetSettings } from './settings.ts'
import { spread } from './spread.ts'
import { sweep } from './sweep.ts'

/**
 * Runs every detector over every fleet, every 10 seconds, one run at a time, and keeps the alerts.
 *
 * Promise: an alert is a row in ClickHouse before anybody is told of it. A detector whose query fails is counted and
 * logged, the others still run, and no alert of its pattern is closed for it. The clock is the one that was handed in;
 * the pause between runs is of this machine.
 */
export const DETECTORS: readonly Detector[] = [spread, sweep, pattern, canary, replay]

export interface DetectorsDeps {
  clickhouse: ClickHouse
  clock: Clock
  logger: Logger
  metrics: Metrics
  settings?: { intervalMs?: number; detectors?: readonly Detector[] }
  /** Takes an alert that people should hear of, and returns at once; delivery is its own business (alert/channels.ts). */
  notify?: (alert: Alert) => void
}

export interface Detectors {
  /** One run over all fleets; what every detector found, alert or not. Runs are queued, never side by side. */
  evaluate(now?: number): Promise<Finding[]>
  start(): void
  /** Resolves when the run in hand is over; no other starts. */
  stop(): Promise<void>
}

const RELEASES_MS = 600_000

// The states of a few thousand buckets a fleet.
const FLEETS_SQL = 'SELECT fleet FROM buckets GROUP BY fleet ORDER BY fleet SETTINGS max_execution_time = 10'

export function createDetectors({ clickhouse, clock, logger, metrics, settings = {}, notify = () => {} }: DetectorsDeps): Detectors {
  const { intervalMs = 10_000, detectors = DETECTORS } = settings
  const meters = createMeters(metrics)
  const releases = new Map<string, { at: number; releases: Release[] }>()
  const stopped = new AbortController()
  const openByFleet = new Map<string, Alert[]>()
  let queue: Promise<unknown> = Promise.resolve()
  let loop: Promise<void> | undefined

  function evaluate(now = clock.now()): Promise<Finding[]> {
    const run = queue.then(() => runOnce(now))
    queue = run.catch(() => {})
    return run
  }

  async function runOnce(now: number): Promise<Finding[]> {
    const started = performance.now()
    const result = await clickhouse.query({ query: FLEETS_SQL, format: 'JSONEachRow' })
    const findings: Finding[] = []
    for (const { fleet } of await result.json<{ fleet: string }>()) {
      try {
        findings.push(...await evaluateFleet(fleet, now))
      } catch (error) {
        meters.runs.inc({ rule: 'fleet', result: 'failed' })
        logger.error({ stage: 'detect', fleet, reason: messageOf(error) }, 'a fleet could not be evaluated; the next run tries again')
      }
    }
    meters.runs.inc({ rule: 'all', result: 'ok' })
    meters.ruleSeconds.observe({ rule: 'all' }, (performance.now() - started) / 1000)
    meters.lastRun.set(Date.now() / 1000)
    return findings
  }

  async function evaluateFleet(fleet: string, now: number): Promise<Finding[]> {
    const { settings, problem } = await readFleetSettings(clickhouse, fleet)
    if (problem !== undefined) logger.warn({ stage: 'detect', slug: 'fleet-settings-invalid', fleet, reason: problem }, 'the fleet settings are not usable; defaults hold')
    const input = { clickhouse, fleet, now, settings, releases: await releasesOf(fleet, now), merges: await readMerges(clickhouse, fleet) }
    const findings: Finding[] = []
    const silent = new Set<Pattern>()
    for (const detector of detectors) {
      try {
        const began = performance.now()
        const found = await detector.evaluate(input)
        meters.ruleSeconds.observe({ rule: detector.pattern }, (performance.now() - began) / 1000)
        meters.runs.inc({ rule: detector.pattern, result: 'ok' })
        meters.findings.inc({ rule: detector.pattern }, found.length)
        findings.push(...found)
      } catch (error) {
        silent.add(detector.pattern)
        meters.runs.inc({ rule: detector.pattern, result: 'failed' })
        logger.error({ stage: 'detect', fleet, pattern: detector.pattern, reason: messageOf(error) }, 'a detector failed; the others go on')
      }
    }
    await keepAlerts(fleet, findings, silent, now)
    return findings
  }

  async function keepAlerts(fleet: string, findings: readonly Finding[], silent: ReadonlySet<Pattern>, now: number): Promise<void> {
    const current = await readCurrentAlerts(clickhouse, fleet, now)
    const found = new Map(findings.map((finding) => [keyOf(finding), finding]))
    const next: Alert[] = []
    for (const key of new Set([...current.keys(), ...found.keys()])) {
      const previous = current.get(key)
      if (previous && silent.has(previous.pattern)) continue
      const alert = nextAlert(previous, found.get(key), now)
      if (alert) next.push(alert)
    }
    await writeAlerts(clickhouse, next)
    for (const alert of next) {
      logger.info({ stage: 'detect', fleet, alert: alert.id, version: alert.version, pattern: alert.pattern, state: alert.state, severity: alert.severity, devices: alert.devices }, 'alert changed')
      if (alert.evidence.tell.version === alert.version) notify(alert)
    }
    const open = [...new Map([...current, ...next.map((alert) => [keyOf(alert), alert] as const)]).values()].filter((alert) => alert.state === 'open')
    openByFleet.set(fleet, open)
    for (const severity of SEVERITIES) meters.open.set({ severity }, [...openByFleet.values()].flat().filter((alert) => alert.severity === severity).length)
  }

  async function releasesOf(fleet: string, now: number): Promise<Release[]> {
    const known = releases.get(fleet)
    if (known && now >= known.at && now - known.at < RELEASES_MS) return known.releases
    const read = { at: now, releases: await readReleases(clickhouse, fleet, now) }
    releases.set(fleet, read)
    return read.releases
  }

  async function runUntilStopped(): Promise<void> {
    while (!stopped.signal.aborted) {
      try {
        await evaluate()
      } catch (error) {
        meters.runs.inc({ rule: 'all', result: 'failed' })
        logger.error({ stage: 'detect', reason: messageOf(error) }, 'detection could not run; it tries again')
      }
      await delay(intervalMs, undefined, { signal: stopped.signal }).catch(() => {})
    }
  }

  return {
    evaluate,
    start() { loop ??= runUntilStopped() },
    async stop() {
      stopped.abort()
      await loop
      await queue
    },
  }
}

function createMeters(metrics: Metrics) {
  const registers = [metrics]
  return {
    runs: new Counter({ name: 'overrun_detector_runs_total', labelNames: ['rule', 'result'], registers, help: 'Runs of each detector; "all" is one pass over every fleet. "failed" rising: that pattern is not watched. "all" standing still: nobody is watching.' }),
    ruleSeconds: new Histogram({ name: 'overrun_detector_run_seconds', labelNames: ['rule'], registers, buckets: [0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60], help: 'Time of one run of a detector, and of all ("all"). Rising above the pause between runs (10 s): alerts come late.' }),
    findings: new Counter({ name: 'overrun_detector_findings_total', labelNames: ['rule'], registers, help: 'Findings, also those that open no alert. A jump means unusual crashes.' }),
    lastRun: new Gauge({ name: 'overrun_detector_last_run_timestamp_seconds', registers, help: 'When the last pass ended. Standing still: nobody is watching.' }),
    open: new Gauge({ name: 'overrun_campaigns_open', labelNames: ['severity'], registers, help: 'Open alerts by severity, of all fleets. A rise is what the product is for: look at the campaigns page.' }),
  }
}
