import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, number, real, sqlTime, time } from './ask.ts'

/**
 * Which alerts are there, open ones and newest first, a page at a time; all of them, or those of a bucket or a device?
 * As many rows as there were ever alerts: milliseconds, whatever `crashes` holds.
 */
const COLUMNS = 'id, version, pattern, severity, state, bucket, device, title, opened_at, updated_at, first_event, last_event, devices, crashes, p_value, ln_p, score, stratum'
export const alertRow = z.object({
  id: z.string(), version: number, pattern: z.string(), severity: z.string(), state: z.string(), bucket: z.string(), device: z.string(), title: z.string(),
  opened_at: time, updated_at: time, first_event: time, last_event: time, devices: number, crashes: number, p_value: real, ln_p: real, score: real, stratum: z.string(),
})
export type StoredAlert = z.output<typeof alertRow>

const LIST = {
  sql: `
SELECT ${COLUMNS}
FROM alerts FINAL
WHERE fleet = {fleet:String}
  AND ({state:String} = 'all' OR (state = 'open') = ({state:String} = 'open'))
  AND ({pattern:String} = '' OR pattern = {pattern:String})
  AND (empty({strata:Array(String)}) OR stratum IN {strata:Array(String)})
  AND (empty({buckets:Array(String)}) OR bucket IN {buckets:Array(String)})
  AND (empty({devices:Array(String)}) OR device IN {devices:Array(String)})
  AND (NOT {after:UInt8} OR (state = 'open', opened_at, id) < ({after_open:UInt8}, {after_time:DateTime64(3)}, {after_id:String}))
ORDER BY state = 'open' DESC, opened_at DESC, id DESC
LIMIT {limit:UInt32}`,
  row: alertRow,
}

/** Where a page ended: open or not, opened at (ms), id. */
export type AlertKey = readonly [number, number, string]
export interface AlertsAsked { limit: number; state?: 'open' | 'closed' | 'all'; pattern?: string; strata?: readonly string[]; buckets?: readonly string[]; devices?: readonly string[]; after?: AlertKey | undefined }

export async function readAlerts(clickhouse: ClickHouse, fleet: string, { limit, state = 'all', pattern = '', strata = [], buckets = [], devices = [], after }: AlertsAsked): Promise<StoredAlert[]> {
  return ask(clickhouse, LIST, {
    fleet, limit, state, pattern, strata, buckets, devices,
    after: after ? 1 : 0, after_open: after?.[0] ?? 0, after_time: sqlTime(after?.[1] ?? 0), after_id: after?.[2] ?? '',
  })
}

// By primary key.
const ONE = {
  sql: `SELECT ${COLUMNS}, evidence, query, query_params FROM alerts FINAL WHERE fleet = {fleet:String} AND id = {id:String}`,
  row: alertRow.extend({ evidence: z.string(), query: z.string(), query_params: z.string() }),
}

export const readAlert = async (clickhouse: ClickHouse, fleet: string, id: string): Promise<z.output<typeof ONE.row> | null> => (await ask(clickhouse, ONE, { fleet, id }))[0] ?? null

// By primary key, newest first.
const VERSIONS = {
  sql: `
SELECT version, state, severity, updated_at, devices, crashes, score
FROM alert_versions FINAL
WHERE fleet = {fleet:String} AND id = {id:String}
ORDER BY version DESC
LIMIT 200`,
  row: alertRow.pick({ version: true, state: true, severity: true, updated_at: true, devices: true, crashes: true, score: true }),
}

export const readAlertVersions = (clickhouse: ClickHouse, fleet: string, id: string): Promise<z.output<typeof VERSIONS.row>[]> => ask(clickhouse, VERSIONS, { fleet, id })

// One small aggregate over the alerts.
const OPEN = { sql: `SELECT count() AS open FROM alerts FINAL WHERE fleet = {fleet:String} AND state = 'open' AND stratum IN {strata:Array(String)}`, row: z.object({ open: number }) }
export const countOpenAlerts = async (clickhouse: ClickHouse, fleet: string, strata: readonly string[]): Promise<number> => (await ask(clickhouse, OPEN, { fleet, strata }))[0]?.open ?? 0
