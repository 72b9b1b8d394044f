import { queueOf, strataOf } from '../detect/finding.ts'
import { readAlerts, type StoredAlert } from '../queries/alerts.ts'
import { iso } from '../queries/ask.ts'
import type { CountedBucket } from '../queries/buckets.ts'
import { readDeviceStates, readTriage, readVerdicts } from '../queries/decisions.ts'
import type { KnownDevice } from '../queries/devices.ts'
import type { Merges } from '../queries/merges.ts'
import type { Scope } from '../queries/scope.ts'
import { slotted } from '../queries/series.ts'
import { readSparklines } from '../queries/sparklines.ts'
import { DAY, type ApiDeps } from './api.ts'
import type { AlertSummary, BucketSummary, DeviceSummary } from './contract.ts'

/** Counts joined with what people decided and with what detectors found: by lists of ids here, not in SQL. */
const MOST_OPEN_ALERTS = 1000
const SPARKLINE_SLOTS = 60
const HOUR = 3_600_000

export async function alertSummaries({ clickhouse }: ApiDeps, fleet: string, alerts: readonly StoredAlert[]): Promise<AlertSummary[]> {
  const verdicts = alerts.length === 0 ? new Map() : await readVerdicts(clickhouse, fleet)
  return alerts.map((alert) => ({ ...alert, queue: queueOf(alert.stratum), verdict: verdicts.get(alert.id) ?? null }))
}

/** Of the security queue: a bucket or device that is `in` them is part of a campaign. */
export const readOpenAlerts = ({ clickhouse }: ApiDeps, fleet: string): Promise<StoredAlert[]> => readAlerts(clickhouse, fleet, { limit: MOST_OPEN_ALERTS, state: 'open', strata: strataOf('security') })

export async function bucketSummaries(deps: ApiDeps, asked: Scope, merges: Merges, buckets: readonly CountedBucket[]): Promise<BucketSummary[]> {
  // Past a week a slot is a day, which is counted from sets of days.
  const { scope, stepMs } = slotted(asked, SPARKLINE_SLOTS, asked.to - asked.from > 7 * DAY ? DAY : HOUR)
  const [lines, triage, open] = await Promise.all([
    readSparklines(deps.clickhouse, scope, stepMs, merges, buckets.map(({ id }) => id)),
    readTriage(deps.clickhouse, scope.fleet),
    readOpenAlerts(deps, scope.fleet),
  ])
  return buckets.map(({ id, ...bucket }) => ({
    ...bucket,
    bucket: id,
    is_new: Date.parse(bucket.first_seen) >= Math.min(asked.to, deps.clock.now()) - DAY,
    sparkline: { from: iso(scope.from), step_seconds: stepMs / 1000, crashes: lines.get(id) ?? [] },
    triage: triage.get(id) ?? null,
    alerts: open.filter((alert) => alert.bucket !== '' && merges.target(alert.bucket) === id).map((alert) => alert.id),
    merged: merges.members(id).slice(1),
  }))
}

export async function deviceSummaries(deps: ApiDeps, fleet: string, devices: readonly KnownDevice[]): Promise<DeviceSummary[]> {
  const [states, open] = await Promise.all([readDeviceStates(deps.clickhouse, fleet), readOpenAlerts(deps, fleet)])
  return devices.map((device) => ({
    ...device,
    status: states.of(device.device).status,
    alerts: open.filter((alert) => alert.device === device.device).map(({ id }) => id),
  }))
}
