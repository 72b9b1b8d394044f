import { z } from 'zod'
import type { CrashSummary } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, number, strings, time } from './ask.ts'
import { CRASH_COLUMNS, crashRow } from './crash-columns.ts'

/**
 * One device: its last crashes of any standing, the credentials that it used, and the firmware that it ran.
 * Each reads the device's own rows, which lie side by side in `device_crashes`: milliseconds at any size of the fleet.
 */
const TIMELINE = {
  sql: `
SELECT ${CRASH_COLUMNS}
FROM device_crashes FINAL
WHERE fleet = {fleet:String} AND device = {device:String}
ORDER BY event_time DESC, id DESC
LIMIT 500`,
  row: crashRow,
}

const CREDENTIALS = {
  sql: `
SELECT device_key, argMax(issuer, event_time) AS issuer, argMax(anchor, event_time) AS anchor, argMax(key_protection, event_time) AS key_protection,
       argMax(auth_level, event_time) AS auth_level, min(event_time) AS first_seen, max(event_time) AS last_seen, count() AS crashes,
       arraySort(groupUniqArrayArray(20)(arrayMap(flag -> toString(flag), flags))) AS flags
FROM device_crashes FINAL
WHERE fleet = {fleet:String} AND device = {device:String}
GROUP BY device_key
ORDER BY last_seen DESC
LIMIT 100`,
  row: z.object({
    device_key: z.string(), issuer: z.string(), anchor: z.string(), key_protection: z.string(), auth_level: z.string(), first_seen: time, last_seen: time, crashes: number, flags: strings,
  }),
}

/** The same key under several names: one row per device and credential of the fleet is read. */
const SHARED = {
  sql: `
SELECT device_key, arraySort(groupUniqArray(20)(device)) AS devices
FROM devices
WHERE fleet = {fleet:String} AND device_key IN {keys:Array(String)} AND device_key != '' AND device != {device:String}
GROUP BY device_key`,
  row: z.object({ device_key: z.string(), devices: strings }),
}

const VERSIONS = {
  sql: `
SELECT toString(swversion) AS swversion, min(event_time) AS first_seen, max(event_time) AS last_seen, count() AS crashes
FROM device_crashes FINAL
WHERE fleet = {fleet:String} AND device = {device:String}
GROUP BY swversion
ORDER BY first_seen
LIMIT 200`,
  row: z.object({ swversion: z.string(), first_seen: time, last_seen: time, crashes: number }),
}

export type Credential = z.output<typeof CREDENTIALS.row> & { shared_with: string[] }

export const readDeviceTimeline = (clickhouse: ClickHouse, fleet: string, device: string): Promise<CrashSummary[]> => ask(clickhouse, TIMELINE, { fleet, device })
export const readDeviceVersions = (clickhouse: ClickHouse, fleet: string, device: string): Promise<z.output<typeof VERSIONS.row>[]> => ask(clickhouse, VERSIONS, { fleet, device })

export async function readDeviceCredentials(clickhouse: ClickHouse, fleet: string, device: string): Promise<Credential[]> {
  const credentials = await ask(clickhouse, CREDENTIALS, { fleet, device })
  const shared = new Map((await ask(clickhouse, SHARED, { fleet, device, keys: credentials.map(({ device_key }) => device_key) })).map((row) => [row.device_key, row.devices]))
  return credentials.map((credential) => ({ ...credential, shared_with: shared.get(credential.device_key) ?? [] }))
}
