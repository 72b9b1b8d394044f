import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { prefixIn } from '../symbols/elf-name.ts'
import type { ModuleIdentity } from '../symbols/source.ts'

/** Which modules do the crashes of these partitions wait for? Two columns of the whole table; asked when a worker gets partitions. */
const SQL = `
SELECT DISTINCT m.debug_file AS debug_file, m.debug_id AS debug_id, m.code_id AS code_id
FROM (SELECT arrayJoin(missing_symbols) AS m FROM crashes FINAL WHERE partition IN {partitions:Array(UInt32)})
WHERE debug_id != ''
LIMIT 100000`

export async function missingModules(clickhouse: ClickHouse, partitions: readonly number[]): Promise<(ModuleIdentity & { debugId: string })[]> {
  const result = await clickhouse.query({ query: SQL, query_params: { partitions }, format: 'JSONEachRow' })
  const rows = await result.json<{ debug_file: string; debug_id: string; code_id: string }>()
  return rows.map((row) => ({ debugFile: row.debug_file || null, debugId: row.debug_id, codeId: row.code_id || null, elfSha256: prefixIn(row.debug_id) }))
}
