import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { Before } from '../write.ts'

/**
 * Which of these crashes does `crashes` hold already, from which place in the log, and as what does its highest revision count?
 * crash_ids finds the key, but only the table itself says that the row is there: a kill may fall between the two.
 * Two look-ups by primary key: some milliseconds for 256 ids at 100 M rows.
 */
const SQL = `
SELECT id, topic, partition, offset, newest.1 AS revision, newest.2 AS first_bucket, newest.3 AS bucket, newest.4 AS evidence, newest.5 AS kind, newest.6 AS standing, newest.7 AS auth_level, newest.8 AS provisional, newest.9 AS waiting
FROM
(
    SELECT id, topic, partition, min(crashes.offset) AS offset,
           max((revision, first_bucket, bucket, evidence, toString(kind), toString(standing), toString(auth_level), provisional, notEmpty(missing_symbols))) AS newest
    FROM crashes
    WHERE (fleet, event_time, id) IN (SELECT fleet, event_time, id FROM crash_ids WHERE id IN {ids:Array(String)})
    GROUP BY id, topic, partition
)`

export interface Written extends Before { topic: string; partition: number; offset: number }

export async function written(clickhouse: ClickHouse, ids: readonly string[]): Promise<Map<string, Written[]>> {
  const found = new Map<string, Written[]>()
  if (ids.length === 0) return found
  const result = await clickhouse.query({ query: SQL, query_params: { ids }, format: 'JSONEachRow' })
  for (const { offset, ...row } of await result.json<Omit<Written, 'offset'> & { id: string; offset: string }>()) {
    found.set(row.id, [...(found.get(row.id) ?? []), { ...row, offset: Number(offset) }])
  }
  return found
}
