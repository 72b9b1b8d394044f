import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { number } from './ask.ts'
import { askCounts, type Revised } from './counts.ts'
import type { Merges } from './merges.ts'
import { MERGED, mergeParams, type Scope } from './scope.ts'
import { longestIn } from './series.ts'

/**
 * How many crashes fell into each slot, for each bucket of a page? Slots without a crash are filled with zeros here.
 * Slots are whole hours of an aligned range (series.ts), so only sets of `bucket_counts` are read; slots of whole days take those of days.
 */
const QUESTION = {
  sql: (COUNTS: string) => `
SELECT ${MERGED} AS id, intDiv(toUnixTimestamp64Milli(toDateTime64(sets.start, 3, 'UTC')) - {first:Int64}, {step:Int64}) AS slot, groupBitmapMerge(sets.crashes) AS crashes
FROM (${COUNTS}) AS sets
GROUP BY id, slot`,
  row: z.object({ id: z.string(), slot: number, crashes: number }),
}

export async function readSparklines(clickhouse: ClickHouse, scope: Scope, stepMs: number, merges: Merges, buckets: readonly string[], revised?: Revised): Promise<Map<string, number[]>> {
  const slots = Math.ceil((scope.to - scope.from) / stepMs)
  const lines = new Map(buckets.map((bucket) => [bucket, new Array<number>(slots).fill(0)]))
  if (buckets.length === 0) return lines
  const members = buckets.flatMap((bucket) => merges.members(bucket))
  const rows = await askCounts(clickhouse, { scope, only: members, columns: ['bucket', 'start', 'crashes'], longest: longestIn(scope, stepMs), revised }, QUESTION, { ...mergeParams(merges), first: scope.from, step: stepMs })
  for (const { id, slot, crashes } of rows) {
    const line = lines.get(id)
    if (line && slot < slots) line[slot] = crashes
  }
  return lines
}
