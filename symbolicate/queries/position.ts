import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/** How far has a worker written this partition? One key of a tiny table; 0 where nobody has. */
const SQL = `
SELECT max(next_offset) AS next_offset
FROM positions
WHERE topic = {topic:String} AND partition = {partition:UInt32}`

export async function nextOffset(clickhouse: ClickHouse, topic: string, partition: number): Promise<number> {
  const result = await clickhouse.query({ query: SQL, query_params: { topic, partition }, format: 'JSONEachRow' })
  const [row] = await result.json<{ next_offset: string }>()
  return Number(row?.next_offset ?? 0)
}
