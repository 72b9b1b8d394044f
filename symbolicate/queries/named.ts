import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/**
 * Which of these objects does a crash name, or a dead letter that may still be put back?
 * Two columns of the whole table, in which one value repeats for a whole batch: some seconds at 100 M rows, for thousands
 * of keys at once, a few times a day. Letters are searched for anything that looks like a key, because a letter of a newer
 * version says in its own way where its dump is; as many rows as there are letters.
 */
const CRASHES_SQL = `
SELECT DISTINCT key
FROM (SELECT arrayJoin([pack, manifest_pack]) AS key FROM crashes WHERE pack IN {keys:Array(String)} OR manifest_pack IN {keys:Array(String)})
WHERE key IN {keys:Array(String)}`

const LETTERS_SQL = `
SELECT DISTINCT arrayJoin(extractAll(tryBase64Decode(message), 'dumps/[A-Za-z0-9._=+@,-]+')) AS key
FROM dead_letters`

export async function namedObjects(clickhouse: ClickHouse, keys: readonly string[]): Promise<Set<string>> {
  const ask = async (query: string, query_params: Record<string, unknown>) =>
    (await (await clickhouse.query({ query, query_params, format: 'JSONEachRow' })).json<{ key: string }>()).map(({ key }) => key)
  const [crashes, letters] = await Promise.all([ask(CRASHES_SQL, { keys }), ask(LETTERS_SQL, {})])
  // What looks like a key in a letter may run on into the bytes behind it.
  return new Set([...crashes, ...keys.filter((key) => letters.some((found) => found.startsWith(key)))])
}

/** When was the archive swept last? A tiny table. */
const LAST_SQL = 'SELECT toUnixTimestamp64Milli(max(at)) AS at FROM sweeps'

export async function lastSweep(clickhouse: ClickHouse): Promise<number> {
  const result = await clickhouse.query({ query: LAST_SQL, format: 'JSONEachRow' })
  return Number((await result.json<{ at: string }>())[0]?.at ?? 0)
}
