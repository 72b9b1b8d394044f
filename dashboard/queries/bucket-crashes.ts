import type { CrashSummary } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, sqlTime } from './ask.ts'
import { CRASH_COLUMNS, crashRow } from './crash-columns.ts'
import { COUNTED, scopeParams, type Scope } from './scope.ts'

/**
 * Which crashes does a bucket have, newest first, a page at a time?
 * Reads backwards along the key until the page is full: milliseconds for a busy bucket, the whole range for a rare one (0.1 s per day at 100 M rows over 28 days).
 */
const QUESTION = {
  sql: `
SELECT ${CRASH_COLUMNS}
FROM crashes FINAL
WHERE ${COUNTED} AND bucket IN {members:Array(String)} AND (event_time, id) < ({before_time:DateTime64(3)}, {before_id:String})
ORDER BY event_time DESC, id DESC
LIMIT {limit:UInt32}`,
  row: crashRow,
}

/** Where a page ended: ms, id. */
export type CrashKey = readonly [number, string]

export async function readBucketCrashes(clickhouse: ClickHouse, scope: Scope, members: readonly string[], { limit, before }: { limit: number; before?: CrashKey | undefined }): Promise<CrashSummary[]> {
  const [beforeMs, beforeId] = before ?? [scope.to, '']
  return ask(clickhouse, QUESTION, { ...scopeParams(scope), members, limit, before_time: sqlTime(beforeMs), before_id: beforeId })
}
