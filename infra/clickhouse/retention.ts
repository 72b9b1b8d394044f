import type { ClickHouse } from './client.ts'

/**
 * How long rows stay: a table's TTL, which merges carry out in the background, hours after a row's time has come. What has
 * no age (buckets, devices, decisions, alerts, counters of keys) stays. Sets of a day stay a day longer than its crashes, so
 * that no count misses one that is still there.
 */
const AGED = {
  crashes: ['event_time', 0], device_crashes: ['event_time', 0], revised_crashes: ['event_time', 0], crash_ids: ['event_time', 0], bucket_counts: ['start', 1], fleet_counts: ['start', 1], bucket_crashes: ['event_time', 0],
  property_counts: ['start', 1], heartbeats: ['day', 0], refusals: ['last_at', 0], dead_letters: ['at', 0],
} as const satisfies Record<string, readonly [column: string, longer: number]>

// The state of each table; changes nothing.
const ENGINES = 'SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() AND name IN {tables:Array(String)}'

/** `undefined` keeps everything. Changes only tables that have another TTL; rows that are there already go with their next merge. */
export async function setRetention(clickhouse: ClickHouse, days: number | undefined): Promise<void> {
  const result = await clickhouse.query({ query: ENGINES, query_params: { tables: Object.keys(AGED) }, format: 'JSONEachRow' })
  const engines = new Map((await result.json<{ name: string; engine_full: string }>()).map(({ name, engine_full }) => [name, engine_full]))
  for (const [table, [column, longer]] of Object.entries(AGED)) {
    const engine = engines.get(table) ?? ''
    const wanted = days === undefined ? null : `${column} + toIntervalDay(${days + longer})`
    const now = / TTL (.*?)(?: SETTINGS |$)/.exec(engine)?.[1] ?? null
    if (wanted === now) continue
    await clickhouse.command({ query: wanted === null ? `ALTER TABLE ${table} REMOVE TTL` : `ALTER TABLE ${table} MODIFY TTL ${wanted} SETTINGS materialize_ttl_after_modify = 0` })
  }
}
