import { createHash } from 'node:crypto'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { SEVERITIES, STRATA, scoreOf, worse, type AlertEvidence, type Finding, type Pattern, type Severity, type Stratum } from './finding.ts'
import { DAY, iso, msOf, sqlTime } from './time.ts'

/**
 * From findings to alerts: one alert per pattern and subject for seven days, updated in place.
 *
 *   nothing   a finding that opens                          -> open, version 1
 *   open      more devices, twice the crashes, more severe  -> open, next version (severity and devices only go up)
 *   open      no finding, not even one that lingers         -> open, calm since now
 *   calm      a finding of either sort                      -> open, not calm any more
 *   calm      for 24 h                                      -> resolved
 *   resolved  a finding that opens, within 7 days           -> open again, the same alert
 *
 * A finding lingers from the threshold to its square root, so an alert near the threshold doesn't flap. The state is all
 * in the newest row: a detector that was killed goes on where it was, and saying a version twice changes nothing.
 */
export const STATES = ['open', 'resolved'] as const
export const DEDUPE_MS = 7 * DAY
export const CALM_MS = DAY

/** What people are told, and with which version; versions in between are silent. */
export interface Tell { version: number; what: 'opened' | 'worse' | 'reopened' | 'resolved' }
export interface KeptEvidence extends AlertEvidence { tell: Tell; calm_since: string | null }

export interface Alert {
  fleet: string
  id: string
  version: number
  pattern: Pattern
  severity: Severity
  state: (typeof STATES)[number]
  bucket: string
  device: string
  title: string
  openedAt: number
  updatedAt: number
  firstEvent: number
  lastEvent: number
  /** The most within one window, over the alert's life. */
  devices: number
  crashes: number
  lnP: number | null
  score: number
  stratum: Stratum
  evidence: KeptEvidence
  query: string
  queryParams: Record<string, unknown>
}

export const keyOf = ({ pattern, device, bucket }: Pick<Finding, 'pattern' | 'device' | 'bucket'>): string => `${pattern} ${device || bucket}`

/** The next version of an alert, or undefined when nothing has changed. */
export function nextAlert(previous: Alert | undefined, finding: Finding | undefined, now: number): Alert | undefined {
  if (previous === undefined || (previous.state === 'resolved' && now - previous.updatedAt > DEDUPE_MS)) return finding?.opens ? opened(finding, now) : undefined
  if (previous.state === 'resolved') return finding?.opens ? changed(previous, finding, now, 'reopened') : undefined
  if (finding?.opens) {
    const grown = finding.devices > previous.devices || finding.crashes >= 2 * previous.crashes || rank(finding.severity) > rank(previous.severity)
    if (grown) return changed(previous, finding, now, isWorse(previous, finding) ? 'worse' : undefined)
  }
  if (finding !== undefined) return previous.evidence.calm_since === null ? undefined : silent(previous, now, { calm_since: null })
  if (previous.evidence.calm_since === null) return silent(previous, now, { calm_since: iso(now) })
  if (now - Date.parse(previous.evidence.calm_since) < CALM_MS) return undefined
  const version = previous.version + 1
  return { ...previous, version, state: 'resolved', updatedAt: now, evidence: { ...previous.evidence, tell: { version, what: 'resolved' } } }
}

function opened(finding: Finding, now: number): Alert {
  const { pattern, fleet, bucket, device, stratum, severity, title, firstEvent, lastEvent, devices, crashes, lnP, query, queryParams } = finding
  return {
    fleet, id: idOf(finding, now), version: 1, pattern, severity, state: 'open', bucket, device, title, openedAt: now, updatedAt: now, firstEvent, lastEvent,
    devices, crashes, lnP, score: scoreOf(finding.evidence), stratum, query, queryParams,
    evidence: { ...finding.evidence, tell: { version: 1, what: 'opened' }, calm_since: null },
  }
}

function changed(previous: Alert, finding: Finding, now: number, what: Tell['what'] | undefined): Alert {
  const version = previous.version + 1
  // What was security once stays security: a crash that a release also brings is not explained away by it.
  const stratum = rank(STRATA[finding.stratum].severity) >= rank(STRATA[previous.stratum].severity) ? finding.stratum : previous.stratum
  return {
    ...previous, version, state: 'open', updatedAt: now, stratum, severity: worse(previous.severity, finding.severity), title: finding.title, bucket: finding.bucket,
    firstEvent: Math.min(previous.firstEvent, finding.firstEvent), lastEvent: Math.max(previous.lastEvent, finding.lastEvent),
    devices: Math.max(previous.devices, finding.devices), crashes: Math.max(previous.crashes, finding.crashes), lnP: finding.lnP, score: scoreOf(finding.evidence),
    evidence: { ...finding.evidence, queue: STRATA[stratum].queue, tell: what ? { version, what } : previous.evidence.tell, calm_since: null },
    query: finding.query, queryParams: finding.queryParams,
  }
}

const silent = (previous: Alert, now: number, mark: Pick<KeptEvidence, 'calm_since'>): Alert =>
  ({ ...previous, version: previous.version + 1, updatedAt: now, evidence: { ...previous.evidence, ...mark } })

/** Worth a second message: more severe, or the devices have doubled (1, 2-3, 4-7, ...). */
const isWorse = (previous: Alert, finding: Finding): boolean =>
  rank(finding.severity) > rank(previous.severity) || Math.floor(Math.log2(finding.devices)) > Math.floor(Math.log2(Math.max(1, previous.devices)))

const rank = (severity: Severity): number => SEVERITIES.indexOf(severity)

/** The same for everybody who computes it in the same week, so that two detectors at once open one alert. */
function idOf(finding: Finding, now: number): string {
  const text = JSON.stringify([finding.fleet, keyOf(finding), Math.floor(now / DEDUPE_MS)])
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}

// One row per version and alert, a few thousand in all: small at any number of crashes.
const CURRENT_SQL = `
SELECT * FROM alerts FINAL
WHERE fleet = {fleet:String} AND (state = 'open' OR updated_at > {now:DateTime64(3, 'UTC')} - INTERVAL 7 DAY)
ORDER BY updated_at, id
SETTINGS max_execution_time = 30`

/** A NaN goes in as 'nan' and comes out as null. */
interface Row {
  fleet: string; id: string; version: number; pattern: Pattern; severity: Severity; state: 'open' | 'resolved'; bucket: string; device: string; title: string
  opened_at: string; updated_at: string; first_event: string; last_event: string; devices: string; crashes: string; p_value: number | null | 'nan'; ln_p: number | null | 'nan'; score: number
  stratum: Stratum; evidence: string; query: string; query_params: string
}

/** The alerts that a finding may continue; the newest of each pattern and subject. */
export async function readCurrentAlerts(clickhouse: ClickHouse, fleet: string, now: number): Promise<Map<string, Alert>> {
  const result = await clickhouse.query({ query: CURRENT_SQL, query_params: { fleet, now: sqlTime(now) }, format: 'JSONEachRow' })
  return new Map((await result.json<Row>()).map(fromRow).map((alert) => [keyOf(alert), alert]))
}

export async function writeAlerts(clickhouse: ClickHouse, alerts: readonly Alert[]): Promise<void> {
  if (alerts.length > 0) await clickhouse.insert({ table: 'alerts', values: alerts.map(toRow), format: 'JSONEachRow' })
}

export function fromRow(row: Row): Alert {
  return {
    fleet: row.fleet, id: row.id, version: row.version, pattern: row.pattern, severity: row.severity, state: row.state, bucket: row.bucket, device: row.device,
    title: row.title, openedAt: msOf(row.opened_at), updatedAt: msOf(row.updated_at), firstEvent: msOf(row.first_event), lastEvent: msOf(row.last_event),
    devices: Number(row.devices), crashes: Number(row.crashes), lnP: row.ln_p === 'nan' ? null : row.ln_p, score: row.score, stratum: row.stratum,
    // Written below and nowhere else.
    evidence: JSON.parse(row.evidence) as KeptEvidence, query: row.query, queryParams: JSON.parse(row.query_params) as Record<string, unknown>,
  }
}

function toRow(alert: Alert): Row {
  return {
    fleet: alert.fleet, id: alert.id, version: alert.version, pattern: alert.pattern, severity: alert.severity, state: alert.state, bucket: alert.bucket,
    device: alert.device, title: alert.title, opened_at: sqlTime(alert.openedAt), updated_at: sqlTime(alert.updatedAt), first_event: sqlTime(alert.firstEvent),
    last_event: sqlTime(alert.lastEvent), devices: String(alert.devices), crashes: String(alert.crashes), p_value: alert.lnP === null ? 'nan' : Math.exp(alert.lnP), ln_p: alert.lnP ?? 'nan',
    score: alert.score, stratum: alert.stratum, evidence: JSON.stringify(alert.evidence), query: alert.query, query_params: JSON.stringify(alert.queryParams),
  }
}
