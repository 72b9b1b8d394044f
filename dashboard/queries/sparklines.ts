import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, number } from './ask.ts'
import type { Merges } from './merges.ts'
import { COUNTED, MERGED, mergeParams, scopeParams, type Scope } from './scope.ts'

/**
 * How many crashes fell into each slot, for each bucket of a page? Slots without a crash are filled with zeros here.
 * Reads time and bucket of the range, as far as the index on bucket leaves: below the list's own cost.
 */
const QUESTION = {
  sql: `
SELECT ${MERGED} AS id, intDiv(toUnixTimestamp64Milli(event_time) - {start:Int64}, {step:Int64}) AS slot, count() AS crashes
FROM crashes FINAL
WHERE ${COUNTED} AND bucket IN {buckets:Array(String)}
GROUP BY id, slot`,
  row: z.object({ id: z.string(), slot: number, crashes: number }),
}

export async function readSparklines(clickhouse: ClickHouse, scope: Scope, stepMs: number, merges: Merges, buckets: readonly string[]): Promise<Map<string, number[]>> {
  const slots = Math.ceil((scope.to - scope.from) / stepMs)
  const lines = new Map(buckets.map((bucket) => [bucket, new Array<number>(slots).fill(0)]))
  if (buckets.length === 0) return lines
  const members = buckets.flatMap((bucket) => merges.members(bucket))
  for (const { id, slot, crashes } of await ask(clickhouse, QUESTION, { ...scopeParams(scope), ...mergeParams(merges), buckets: members, start: scope.from, step: stepMs })) {
    const line = lines.get(id)
    if (line && slot < slots) line[slot] = crashes
  }
  return lines
}
