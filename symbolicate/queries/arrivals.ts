import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/** Which symbols has a dashboard taken since then? Reads the audit log, which grows with what people do: milliseconds. */
const SQL = `
SELECT hash, subject, toUnixTimestamp64Milli(at) AS at_ms
FROM events
WHERE kind = 'symbols.uploaded' AND at >= {since:DateTime64(3, 'UTC')}
ORDER BY at, hash
SETTINGS max_execution_time = 5`

export interface Arrival { hash: string; debugId: string; at: number }

export async function arrivalsSince(clickhouse: ClickHouse, since: number): Promise<Arrival[]> {
  const result = await clickhouse.query({ query: SQL, query_params: { since: new Date(Math.max(0, since)).toISOString().replace('T', ' ').replace('Z', '') }, format: 'JSONEachRow' })
  const rows = await result.json<{ hash: string; subject: string; at_ms: string }>()
  return rows.map(({ hash, subject, at_ms: at }) => ({ hash, debugId: subject.replace(/^symbols:/, ''), at: Number(at) }))
}
