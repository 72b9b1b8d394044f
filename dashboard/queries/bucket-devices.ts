import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, number, time } from './ask.ts'
import { COUNTED, CURRENT, scopeParams, type Scope } from './scope.ts'

/**
 * Which devices crashed in this bucket, those with most crashes first, a page at a time?
 * Counts the bucket's own rows of the range (`bucket_crashes`): 0.4 s for a million of them, 2 s for ten million, the largest bucket of 28 days
 * at 100 M crashes.
 */
const MOST = {
  sql: `
SELECT device, count() AS crashes
FROM bucket_crashes FINAL
WHERE ${COUNTED} AND bucket IN {members:Array(String)} AND ${CURRENT}
GROUP BY device
HAVING NOT {after:UInt8} OR (crashes, device) < ({after_crashes:UInt64}, {after_device:String})
ORDER BY crashes DESC, device DESC
LIMIT {limit:UInt32}`,
  row: z.object({ device: z.string(), crashes: number }),
}

// What the devices of the page said of themselves in these crashes: from their own rows, which lie side by side in `device_crashes`.
const THEIRS = {
  sql: `
SELECT device, min(event_time) AS first_seen, max(event_time) AS last_seen,
       argMax(swversion, event_time) AS swversion, argMax(hwmodel, event_time) AS hwmodel, argMax(auth_level, event_time) AS auth_level,
       argMax(key_protection, event_time) AS key_protection, argMax(source, event_time) AS source
FROM device_crashes FINAL
WHERE ${COUNTED} AND bucket IN {members:Array(String)} AND device IN {devices:Array(String)}
GROUP BY device`,
  row: z.object({ device: z.string(), first_seen: time, last_seen: time, swversion: z.string(), hwmodel: z.string(), auth_level: z.string(), key_protection: z.string(), source: z.string() }),
}
export type BucketDevice = z.output<typeof THEIRS.row> & { crashes: number }

/** Where a page ended: crashes, device. */
export type DeviceKey = readonly [number, string]

export async function readBucketDevices(clickhouse: ClickHouse, scope: Scope, members: readonly string[], { limit, after }: { limit: number; after?: DeviceKey | undefined }): Promise<BucketDevice[]> {
  const most = await ask(clickhouse, MOST, { ...scopeParams(scope), members, limit, after: after ? 1 : 0, after_crashes: after?.[0] ?? 0, after_device: after?.[1] ?? '' })
  if (most.length === 0) return []
  const theirs = new Map((await ask(clickhouse, THEIRS, { ...scopeParams(scope), members, devices: most.map(({ device }) => device) })).map((row) => [row.device, row]))
  return most.flatMap(({ device, crashes }) => {
    const said = theirs.get(device)
    // Forgotten between the two questions.
    return said === undefined ? [] : [{ ...said, crashes }]
  })
}
