import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/**
 * Which reports has this device key sent with these counters in the same life of them, and where in the log do they lie?
 * `counters` is ordered by exactly that: some milliseconds for 256 keys at 100 M rows.
 */
const SQL = `
SELECT device_key, bootcount, seq, epoch, id, topic, partition, min(offset) AS offset
FROM counters
WHERE (device_key, bootcount, seq) IN (SELECT arrayJoin(arrayZip({keys:Array(String)}, {boots:Array(UInt64)}, {seqs:Array(UInt64)})))
GROUP BY device_key, bootcount, seq, epoch, id, topic, partition`

export interface Counter { deviceKey: string; epoch: number; bootcount: number; seq: number }
export interface Used { id: string; topic: string; partition: number; offset: number }

export const counterKey = ({ deviceKey, epoch, bootcount, seq }: Counter): string => `${deviceKey} ${epoch} ${bootcount} ${seq}`

export async function usedCounters(clickhouse: ClickHouse, counters: readonly Counter[]): Promise<Map<string, Used[]>> {
  const found = new Map<string, Used[]>()
  if (counters.length === 0) return found
  const query_params = { keys: counters.map((c) => c.deviceKey), boots: counters.map((c) => c.bootcount), seqs: counters.map((c) => c.seq) }
  const result = await clickhouse.query({ query: SQL, query_params, format: 'JSONEachRow' })
  type Row = { device_key: string; bootcount: string; seq: string; epoch: number; id: string; topic: string; partition: number; offset: string }
  for (const row of await result.json<Row>()) {
    const key = counterKey({ deviceKey: row.device_key, epoch: row.epoch, bootcount: Number(row.bootcount), seq: Number(row.seq) })
    found.set(key, [...(found.get(key) ?? []), { id: row.id, topic: row.topic, partition: row.partition, offset: Number(row.offset) }])
  }
  return found
}
