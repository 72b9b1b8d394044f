import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/**
 * Which of these crashes does `crashes` hold already, from which place in the log, and up to which revision?
 * crash_ids finds the key, but only the table itself says that the row is there: a kill may fall between the two.
 * Two look-ups by primary key: some milliseconds for 256 ids at 100 M rows.
 */
const SQL = `
SELECT id, topic, partition, min(offset) AS offset, max(revision) AS revision
FROM crashes
WHERE (fleet, event_time, id) IN (SELECT fleet, event_time, id FROM crash_ids WHERE id IN {ids:Array(String)})
GROUP BY id, topic, partition`

export interface Written { topic: string; partition: number; offset: number; revision: number }

export async function written(clickhouse: ClickHouse, ids: readonly string[]): Promise<Map<string, Written[]>> {
  const found = new Map<string, Written[]>()
  if (ids.length === 0) return found
  const result = await clickhouse.query({ query: SQL, query_params: { ids }, format: 'JSONEachRow' })
  for (const row of await result.json<{ id: string; topic: string; partition: number; offset: string; revision: number }>()) {
    found.set(row.id, [...(found.get(row.id) ?? []), { topic: row.topic, partition: row.partition, offset: Number(row.offset), revision: row.revision }])
  }
  return found
}
