import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { COUNTED_SQL, ENGINE_SETTINGS_SQL } from './counted.ts'
import { sqlTime } from './time.ts'

/**
 * Which firmware is new: a version whose first crash in this fleet lies within the last 14 days, on at least 3 devices,
 * while another version of the same software was there before it. Nobody has to announce a release, and a fleet that has
 * just been connected has none.
 *
 * At 100 M rows: the version and device columns of 28 days; asked once in ten minutes of the clock (detectors.ts).
 */
const SQL = `
SELECT swname, swversion, min(first) AS since
FROM
(
    SELECT swname, swversion, min(event_time) AS first, uniqExact(device) AS devices, min(first) OVER (PARTITION BY swname) AS beginning
    FROM crashes FINAL
    WHERE ${COUNTED_SQL} AND swversion != ''
      AND event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 28 DAY AND event_time <= {now:DateTime64(3, 'UTC')}
    GROUP BY swname, swversion
)
WHERE devices >= 3 AND first > {now:DateTime64(3, 'UTC')} - INTERVAL 14 DAY AND first > beginning + INTERVAL 1 DAY
GROUP BY swname, swversion
ORDER BY since DESC, swname, swversion
LIMIT 100
SETTINGS max_execution_time = 60, ${ENGINE_SETTINGS_SQL}`

export interface Release { swname: string; swversion: string; since: string }

export async function readReleases(clickhouse: ClickHouse, fleet: string, now: number): Promise<Release[]> {
  const result = await clickhouse.query({ query: SQL, query_params: { fleet, now: sqlTime(now) }, format: 'JSONEachRow' })
  return result.json<Release>()
}
