import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { queueOf, strataOf } from '../detect/finding.ts'
import { readAlerts, type StoredAlert } from '../queries/alerts.ts'
import { iso } from '../queries/ask.ts'
import { readLives, type CountedBucket, type Life } from '../queries/buckets.ts'
import type { Revised } from '../queries/counts.ts'
import { readDecisions, readDeviceStates, type Decisions } from '../queries/decisions.ts'
import type { KnownDevice } from '../queries/devices.ts'
import type { Scope } from '../queries/scope.ts'
import { slotted } from '../queries/series.ts'
import { readSparklines } from '../queries/sparklines.ts'
import { DAY, type ApiDeps } from './api.ts'
import type { AlertSummary, BucketSummary, DeviceSummary } from './contract.ts'

/** Counts joined with what people decided and with what detectors found: by lists of ids here, not in SQL. */
export const MOST_OPEN_ALERTS = 1000
const SPARKLINE_SLOTS = 60
const HOUR = 3_600_000

/** What people decided, and the open alerts of the security queue, newest first: a bucket or device that is `in` them is part of a campaign. */
export interface Judgements extends Decisions { open: StoredAlert[] }

export async function readJudgements({ clickhouse }: ApiDeps, fleet: string): Promise<Judgements> {
  const [decisions, open] = await Promise.all([readDecisions(clickhouse, fleet), readOpenAlerts(clickhouse, fleet)])
  return { ...decisions, open }
}

const readOpenAlerts = (clickhouse: ClickHouse, fleet: string): Promise<StoredAlert[]> => readAlerts(clickhouse, fleet, { limit: MOST_OPEN_ALERTS, state: 'open', strata: strataOf('security') })

export const alertSummaries = (alerts: readonly StoredAlert[], verdicts: Decisions['verdicts']): AlertSummary[] =>
  alerts.map((alert) => ({ ...alert, queue: queueOf(alert.stratum), verdict: verdicts.get(alert.id) ?? null }))

/** `revised`: as askCounts() takes it. `lines` and `lives`: of these buckets, where somebody has asked before; lines in the slots of sparklineOf(). */
export async function bucketSummaries(
  deps: ApiDeps, asked: Scope, { merges, triage, open }: Judgements, buckets: readonly CountedBucket[], known: { revised?: Revised; lines?: Map<string, number[]> | undefined; lives?: Life[] } = {},
): Promise<BucketSummary[]> {
  const { scope, stepMs } = sparklineOf(asked)
  const ids = buckets.map(({ id }) => id)
  const [lines, lives] = await Promise.all([
    known.lines ?? readSparklines(deps.clickhouse, scope, stepMs, merges, ids, known.revised), known.lives ?? readLives(deps.clickhouse, scope.fleet, merges, ids),
  ])
  const lifeOf = new Map(lives.map((life) => [life.id, life]))
  return buckets.flatMap(({ id, ...bucket }) => {
    // A bucket whose last device was forgotten between two questions.
    const life = lifeOf.get(id)
    if (life === undefined) return []
    return [{
      ...bucket,
      bucket: id,
      first_seen: life.first_seen,
      last_seen: life.last_seen,
      is_new: Date.parse(life.first_seen) >= Math.min(asked.to, deps.clock.now()) - DAY,
      sparkline: { from: iso(scope.from), step_seconds: stepMs / 1000, crashes: lines.get(id) ?? [] },
      triage: triage.get(id) ?? null,
      alerts: open.filter((alert) => alert.bucket !== '' && merges.target(alert.bucket) === id).map((alert) => alert.id),
      merged: merges.members(id).slice(1),
    }]
  })
}

/** Past a week a slot is a day, which is counted from sets of days. */
export const sparklineOf = (asked: Scope): ReturnType<typeof slotted> => slotted(asked, SPARKLINE_SLOTS, asked.to - asked.from > 7 * DAY ? DAY : HOUR)

export async function deviceSummaries(deps: ApiDeps, fleet: string, devices: readonly KnownDevice[]): Promise<DeviceSummary[]> {
  const [states, open] = await Promise.all([readDeviceStates(deps.clickhouse, fleet), readOpenAlerts(deps.clickhouse, fleet)])
  return devices.map((device) => ({
    ...device,
    status: states.of(device.device).status,
    alerts: open.filter((alert) => alert.device === device.device).map(({ id }) => id),
  }))
}
