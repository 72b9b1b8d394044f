import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ENGINE_SETTINGS_SQL } from './counted.ts'
import { sqlTime } from './time.ts'

/**
 * Which firmware is new: a version whose first crash in this fleet lies within the last 14 days, on at least 3 devices,
 * while another version of the same software was there before it. Nobody has to announce a release, and a fleet that has
 * just been connected has none.
 *
 * Read from `property_counts`: a row or two a version and day, however many crashes.
 */
const SQL = `
SELECT swname, swversion, since FROM
(
    SELECT name AS swname, value AS swversion, min(first) AS since, groupBitmapMerge(devices) AS its_devices, min(since) OVER (PARTITION BY swname) AS beginning
    FROM property_counts
    WHERE fleet = {fleet:String} AND span = 86400 AND property = 'swversion' AND start >= toStartOfDay({now:DateTime64(3, 'UTC')} - INTERVAL 28 DAY) AND value != '' AND proven
      AND first > {now:DateTime64(3, 'UTC')} - INTERVAL 28 DAY AND first <= {now:DateTime64(3, 'UTC')}
    GROUP BY swname, swversion
)
WHERE its_devices >= 3 AND since > {now:DateTime64(3, 'UTC')} - INTERVAL 14 DAY AND since > beginning + INTERVAL 1 DAY
ORDER BY since DESC, swname, swversion
LIMIT 100
SETTINGS max_execution_time = 60, ${ENGINE_SETTINGS_SQL}`

export interface Release { swname: string; swversion: string; since: string }

export async function readReleases(clickhouse: ClickHouse, fleet: string, now: number): Promise<Release[]> {
  const result = await clickhouse.query({ query: SQL, query_params: { fleet, now: sqlTime(now) }, format: 'JSONEachRow' })
  return result.json<Release>()
}
