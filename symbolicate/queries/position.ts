import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/** How far has a worker written this partition? One key of a tiny table; 0 where nobody has. */
const SQL = `
SELECT max(next_offset) AS next_offset
FROM positions
WHERE topic = {topic:String} AND partition = {partition:UInt32}`

/** When was the last message of this partition written? Null where nobody has. */
const WRITTEN_AT_SQL = `
SELECT argMax(written_at, next_offset) AS written_at
FROM positions
WHERE topic = {topic:String} AND partition = {partition:UInt32}
HAVING count() > 0`

export async function writtenAt(clickhouse: ClickHouse, topic: string, partition: number): Promise<string | null> {
  const result = await clickhouse.query({ query: WRITTEN_AT_SQL, query_params: { topic, partition }, format: 'JSONEachRow' })
  return (await result.json<{ written_at: string }>())[0]?.written_at ?? null
}

/** How far is each partition of a topic written? As many rows as it has partitions. */
const POSITIONS_SQL = `
SELECT partition, max(next_offset) AS next_offset
FROM positions
WHERE topic = {topic:String}
GROUP BY partition`

export async function writtenPositions(clickhouse: ClickHouse, topic: string): Promise<Map<number, number>> {
  const result = await clickhouse.query({ query: POSITIONS_SQL, query_params: { topic }, format: 'JSONEachRow' })
  return new Map((await result.json<{ partition: number; next_offset: string }>()).map(({ partition, next_offset }) => [partition, Number(next_offset)]))
}

export async function nextOffset(clickhouse: ClickHouse, topic: string, partition: number): Promise<number> {
  const result = await clickhouse.query({ query: SQL, query_params: { topic, partition }, format: 'JSONEachRow' })
  const [row] = await result.json<{ next_offset: string }>()
  return Number(row?.next_offset ?? 0)
}
