import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { CrashRow } from '../write.ts'

/**
 * The next crashes of these partitions that wait for one of these modules' symbols, whole rows in the order of the key; `after` is the last key of the
 * page before; `claimed`: those that stand on another crash's dump, or those with one of their own. Reads the column missing_symbols of the fleet's history and the other columns of the hits only: seconds at
 * 100 M rows, once per upload, however many files it was.
 */
const SQL = `
SELECT *
FROM crashes FINAL
WHERE arrayExists(m -> has({debug_ids:Array(String)}, m.debug_id), missing_symbols)
  AND partition IN {partitions:Array(UInt32)}
  AND (claimed_of != '') = {claimed:Bool}
  AND (fleet, event_time, id) > ({fleet:String}, {event_time:DateTime64(3, 'UTC')}, {id:String})
ORDER BY fleet, event_time, id
LIMIT {limit:UInt32}`

export interface CrashKey { fleet: string; event_time: string; id: string }
export const FIRST_KEY: CrashKey = { fleet: '', event_time: '1970-01-01 00:00:00.000', id: '' }

export async function waitingFor(
  clickhouse: ClickHouse, { debugIds, partitions, claimed, after, limit }: { debugIds: readonly string[]; partitions: readonly number[]; claimed: boolean; after: CrashKey; limit: number },
): Promise<CrashRow[]> {
  const result = await clickhouse.query({ query: SQL, query_params: { debug_ids: debugIds, partitions, claimed, ...after, limit }, format: 'JSONEachRow' })
  return result.json<CrashRow>()
}
