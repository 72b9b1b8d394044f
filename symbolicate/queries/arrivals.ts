import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { elfNames } from '../symbols/elf-name.ts'

/** Which symbols has a dashboard taken since then? Reads the audit log, which grows with what people do: milliseconds. */
const SQL = `
SELECT hash, subject, JSONExtractString(body, 'elf_sha256') AS elf_sha256, JSONExtract(body, 'digest_ids', 'Array(String)') AS digest_ids, toUnixTimestamp64Milli(at) AS at_ms
FROM events
WHERE kind = 'symbols.uploaded' AND at >= {since:DateTime64(3, 'UTC')}
ORDER BY at, hash
SETTINGS max_execution_time = 5`

/** `names`: what waits for it may call it by its debug id, or by its file's digest. */
export interface Arrival { hash: string; names: string[]; at: number }

export async function arrivalsSince(clickhouse: ClickHouse, since: number): Promise<Arrival[]> {
  const result = await clickhouse.query({ query: SQL, query_params: { since: new Date(Math.max(0, since)).toISOString().replace('T', ' ').replace('Z', '') }, format: 'JSONEachRow' })
  const rows = await result.json<{ hash: string; subject: string; elf_sha256: string; digest_ids: string[]; at_ms: string }>()
  return rows.map(({ hash, subject, elf_sha256: sha256, digest_ids: digestIds, at_ms: at }) => ({ hash, names: [subject.replace(/^symbols:/, ''), ...digestIds, ...(sha256 === '' ? [] : elfNames(sha256))], at: Number(at) }))
}
