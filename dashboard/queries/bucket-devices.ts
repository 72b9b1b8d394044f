import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, number, time } from './ask.ts'
import { COUNTED, CURRENT, scopeParams, type Scope } from './scope.ts'

/**
 * Which devices crashed in this bucket, those with most crashes first, a page at a time?
 * Reads the bucket's own rows of the range (`bucket_crashes`): 1 s of CPU for a million of them.
 */
const QUESTION = {
  sql: `
SELECT device, count() AS crashes, min(event_time) AS first_seen, max(event_time) AS last_seen,
       argMax(swversion, event_time) AS swversion, argMax(hwmodel, event_time) AS hwmodel, argMax(auth_level, event_time) AS auth_level,
       argMax(key_protection, event_time) AS key_protection, argMax(source, event_time) AS source
FROM bucket_crashes FINAL
WHERE ${COUNTED} AND bucket IN {members:Array(String)} AND ${CURRENT}
GROUP BY device
HAVING NOT {after:UInt8} OR (crashes, device) < ({after_crashes:UInt64}, {after_device:String})
ORDER BY crashes DESC, device DESC
LIMIT {limit:UInt32}`,
  row: z.object({
    device: z.string(), crashes: number, first_seen: time, last_seen: time, swversion: z.string(), hwmodel: z.string(),
    auth_level: z.string(), key_protection: z.string(), source: z.string(),
  }),
}

/** Where a page ended: crashes, device. */
export type DeviceKey = readonly [number, string]

export async function readBucketDevices(clickhouse: ClickHouse, scope: Scope, members: readonly string[], { limit, after }: { limit: number; after?: DeviceKey | undefined }): Promise<z.output<typeof QUESTION.row>[]> {
  return ask(clickhouse, QUESTION, { ...scopeParams(scope), members, limit, after: after ? 1 : 0, after_crashes: after?.[0] ?? 0, after_device: after?.[1] ?? '' })
}
