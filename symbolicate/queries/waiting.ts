import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { CrashRow } from '../write.ts'

/**
 * The next crashes that wait for a module's symbols, whole rows in the order of the key; `after` is the last key of the
 * page before; `claimed`: those that stand on another crash's dump, or those with one of their own. Reads the column missing_symbols of the fleet's history and the other columns of the hits only: seconds at
 * 100 M rows, once per uploaded symbol file.
 */
const SQL = `
SELECT *
FROM crashes FINAL
WHERE arrayExists(m -> m.debug_id = {debug_id:String}, missing_symbols)
  AND (claimed_of != '') = {claimed:Bool}
  AND (fleet, event_time, id) > ({fleet:String}, {event_time:DateTime64(3, 'UTC')}, {id:String})
ORDER BY fleet, event_time, id
LIMIT {limit:UInt32}`

export interface CrashKey { fleet: string; event_time: string; id: string }
export const FIRST_KEY: CrashKey = { fleet: '', event_time: '1970-01-01 00:00:00.000', id: '' }

export async function waitingFor(clickhouse: ClickHouse, debugId: string, claimed: boolean, after: CrashKey, limit: number): Promise<CrashRow[]> {
  const result = await clickhouse.query({ query: SQL, query_params: { debug_id: debugId, claimed, ...after, limit }, format: 'JSONEachRow' })
  return result.json<CrashRow>()
}
