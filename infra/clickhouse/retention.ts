import type { ClickHouse } from './client.ts'

const SET = '(start + toIntervalSecond(span))'

/**
 * How long rows stay: a table's TTL, which merges carry out in the background, hours after a row's time has come. What has
 * no age (buckets, devices, decisions, alerts, counters of keys) stays. A set of an hour, a day or a week is as old as the
 * newest crash that may be in it, so that no count misses one that is still there.
 */
const AGED: Readonly<Record<string, string>> = {
  crashes: 'event_time', device_crashes: 'event_time', revised_crashes: 'event_time', crash_ids: 'event_time', bucket_crashes: 'event_time', bucket_counts: SET, property_counts: SET,
  fleet_counts: '(start + toIntervalHour(1))', heartbeats: 'day', refusals: 'last_at', dead_letters: 'at',
}

// The state of each table; changes nothing.
const ENGINES = 'SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() AND name IN {tables:Array(String)}'

/** `undefined` keeps everything. Changes only tables that have another TTL; rows that are there already go with their next merge. */
export async function setRetention(clickhouse: ClickHouse, days: number | undefined): Promise<void> {
  const result = await clickhouse.query({ query: ENGINES, query_params: { tables: Object.keys(AGED) }, format: 'JSONEachRow' })
  const engines = new Map((await result.json<{ name: string; engine_full: string }>()).map(({ name, engine_full }) => [name, engine_full]))
  for (const [table, born] of Object.entries(AGED)) {
    const engine = engines.get(table) ?? ''
    const wanted = days === undefined ? null : `${born} + toIntervalDay(${days})`
    const now = / TTL (.*?)(?: SETTINGS |$)/.exec(engine)?.[1] ?? null
    if (wanted === now) continue
    await clickhouse.command({ query: wanted === null ? `ALTER TABLE ${table} REMOVE TTL` : `ALTER TABLE ${table} MODIFY TTL ${wanted} SETTINGS materialize_ttl_after_modify = 0` })
  }
}
