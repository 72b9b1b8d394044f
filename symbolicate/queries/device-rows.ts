import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/**
 * Everything that the tables hold of one device: where its bytes lie, and how its rows are taken away. Once, when somebody
 * asks to forget it: each deletion writes the parts anew that hold its rows, which takes minutes at 100 M rows, in the
 * background, while the tables are read and written.
 */
export interface OfDevice { fleet: string; device: string }
export interface DeviceObject { key: string; ranges: { offset: number; length: number }[] }

/** Its objects behind `after`, in the order of their keys. Every version of a row, since a re-read batch may name another pack. */
const OBJECTS_SQL = `
SELECT place.1 AS key, groupUniqArray((place.2, place.3)) AS ranges
FROM (
    SELECT arrayJoin([(pack, dump_offset, dump_length), (manifest_pack, manifest_offset, manifest_length)]) AS place
    FROM crashes
    WHERE fleet = {fleet:String} AND device = {device:String}
)
WHERE place.1 > {after:String} AND place.3 > 0
GROUP BY key
ORDER BY key
LIMIT {limit:UInt32}`

export async function deviceObjects(clickhouse: ClickHouse, of: OfDevice, after: string, limit: number): Promise<DeviceObject[]> {
  const result = await clickhouse.query({ query: OBJECTS_SQL, query_params: { ...of, after, limit }, format: 'JSONEachRow' })
  return (await result.json<{ key: string; ranges: [string, string][] }>()).map(({ key, ranges }) =>
    ({ key, ranges: ranges.map(([offset, length]) => ({ offset: Number(offset), length: Number(length) })) }))
}

/** What was counted in sets can't be taken out of them; a stone in its place says that it counts no longer (009-counts.sql). */
const STONES_SQL = `
INSERT INTO revised_crashes (fleet, event_time, id, revision, first_bucket, partition, offset, standing)
SELECT fleet, event_time, id, 4294967295, if(revision = 0, bucket, first_bucket), partition, offset, 'forgotten'
FROM crashes
WHERE fleet = {fleet:String} AND device = {device:String}`

/** Tables that say a device's name, whoever made them; views feed tables, and the audit log names devices in its subjects only. */
const TABLES_SQL = `
SELECT table
FROM system.columns
WHERE database = currentDatabase() AND name IN ('fleet', 'device')
  AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree')
GROUP BY table
HAVING count() = 2
ORDER BY table`

const BY_NAME = 'fleet = {fleet:String} AND device = {device:String}'
const BY_CRASH = 'id IN (SELECT id FROM crashes WHERE fleet = {fleet:String} AND device = {device:String})'
const BY_KEY = 'key = {log_key:String}'

/** An alert about several devices stays, without this one's name. */
const ALERTS_SQL = `
ALTER TABLE alerts
UPDATE evidence = replaceRegexpAll(evidence, {word:String}, '\\\\1(forgotten)\\\\2'), query_params = replaceRegexpAll(query_params, {word:String}, '\\\\1(forgotten)\\\\2'),
       title = replaceRegexpAll(title, {word:String}, '\\\\1(forgotten)\\\\2')
WHERE fleet = {fleet:String} AND device != {device:String} AND (position(evidence, {name:String}) > 0 OR position(query_params, {name:String}) > 0 OR position(title, {name:String}) > 0)`

/** How many rows there were, by table. The rows of `crashes`, by which all others are found, are left for `forgetCrashes`. */
export async function forgetRows(clickhouse: ClickHouse, of: OfDevice): Promise<Record<string, number>> {
  const params = paramsOf(of)
  await clickhouse.command({ query: STONES_SQL, query_params: params })
  const named = await (await clickhouse.query({ query: TABLES_SQL, format: 'JSONEachRow' })).json<{ table: string }>()
  const wheres = new Map(named.filter(({ table }) => table !== 'crashes').map(({ table }) => [table, BY_NAME]))
  for (const [table, where] of [['crash_ids', BY_CRASH], ['counters', BY_CRASH], ['dead_letters', BY_KEY]] as const) wheres.set(table, where)
  const rows: Record<string, number> = {}
  for (const [table, where] of wheres) {
    const count = await countOf(clickhouse, table, where, params)
    if (count === 0) continue
    rows[table] = count
    await clickhouse.command({ query: `ALTER TABLE ${table} DELETE WHERE ${where}`, query_params: params })
  }
  await clickhouse.command({ query: ALERTS_SQL, query_params: params })
  const crashes = await countOf(clickhouse, 'crashes', BY_NAME, params)
  return crashes === 0 ? rows : { ...rows, crashes }
}

export async function forgetCrashes(clickhouse: ClickHouse, of: OfDevice): Promise<void> {
  await clickhouse.command({ query: `ALTER TABLE crashes DELETE WHERE ${BY_NAME}`, query_params: paramsOf(of) })
}

/** Deletions that ClickHouse has taken on and not finished; `failure` is what keeps one from it. */
const PENDING_SQL = `
SELECT count() AS pending, max(latest_fail_reason) AS failure
FROM system.mutations
WHERE database = currentDatabase() AND NOT is_done`

export async function pendingDeletions(clickhouse: ClickHouse): Promise<{ pending: number; failure: string }> {
  const [row] = await (await clickhouse.query({ query: PENDING_SQL, format: 'JSONEachRow' })).json<{ pending: string; failure: string }>()
  return { pending: Number(row?.pending ?? 0), failure: row?.failure ?? '' }
}

async function countOf(clickhouse: ClickHouse, table: string, where: string, query_params: Record<string, string>): Promise<number> {
  const result = await clickhouse.query({ query: `SELECT count() AS rows FROM ${table} WHERE ${where}`, query_params, format: 'JSONEachRow' })
  return Number((await result.json<{ rows: string }>())[0]?.rows ?? 0)
}

/** `name` as JSON writes it; `word`: the same as a pattern that is no part of a longer name. */
function paramsOf({ fleet, device }: OfDevice): Record<string, string> {
  const name = JSON.stringify(device).slice(1, -1)
  const edge = '[^A-Za-z0-9._:/-]'
  return { fleet, device, log_key: `${fleet}/${device}`, name, word: `(^|${edge})${name.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')}($|${edge})` }
}
