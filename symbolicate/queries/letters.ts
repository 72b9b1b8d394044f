import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/**
 * Dead letters by their places, whole: with their bytes, and whether they were put back. A few rows by primary key, of up
 * to a megabyte each; ask for few at a time.
 */
const LETTERS_SQL = `
SELECT topic, partition, offset, slug, key, headers, message_bytes, message,
       (topic, partition, offset) IN (SELECT topic, partition, offset FROM dead_letter_replays) AS replayed
FROM dead_letters FINAL
WHERE (topic, partition, offset) IN (SELECT arrayJoin(arrayZip({topics:Array(String)}, {partitions:Array(UInt32)}, {offsets:Array(UInt64)})))
ORDER BY topic, partition, offset`

/** Places of the letters that wait, all or those with one reason, in the order of the log. As many rows as there are letters. */
const WAITING_SQL = `
SELECT topic, partition, offset
FROM dead_letters FINAL
WHERE slug IN {slugs:Array(String)} AND (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM dead_letter_replays)
ORDER BY topic, partition, offset
LIMIT {limit:UInt32}`

export interface LetterPlace { topic: string; partition: number; offset: number }
export interface StoredLetter extends LetterPlace { slug: string; key: string; headers: Record<string, string>; messageBytes: number; message: Uint8Array; replayed: boolean }

export async function lettersAt(clickhouse: ClickHouse, places: readonly LetterPlace[]): Promise<StoredLetter[]> {
  const query_params = { topics: places.map(({ topic }) => topic), partitions: places.map(({ partition }) => partition), offsets: places.map(({ offset }) => offset) }
  const result = await clickhouse.query({ query: LETTERS_SQL, query_params, format: 'JSONEachRow' })
  type Row = { topic: string; partition: number; offset: string; slug: string; key: string; headers: Record<string, string>; message_bytes: string; message: string; replayed: number }
  return (await result.json<Row>()).map(({ offset, message_bytes, message, replayed, ...row }) =>
    ({ ...row, offset: Number(offset), messageBytes: Number(message_bytes), message: Buffer.from(message, 'base64'), replayed: replayed === 1 }))
}

export async function waitingLetters(clickhouse: ClickHouse, slugs: readonly string[], limit: number): Promise<LetterPlace[]> {
  const result = await clickhouse.query({ query: WAITING_SQL, query_params: { slugs, limit }, format: 'JSONEachRow' })
  return (await result.json<{ topic: string; partition: number; offset: string }>()).map((row) => ({ ...row, offset: Number(row.offset) }))
}
