import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, parseJson, time } from './ask.ts'

/**
 * Which buckets did people put together? The newest event of a bucket decides; chains are followed to their end, and a
 * chain that bites its own tail ends where it began. A few rows per merge that was ever made, whatever `crashes` holds.
 */
const QUESTION = {
  sql: `
SELECT subject, argMax(kind, number) AS newest, argMax(body, number) AS body, argMax(actor, number) AS actor, max(at) AS at
FROM events FINAL
WHERE fleet = {fleet:String} AND kind IN ('bucket.merged', 'bucket.unmerged')
GROUP BY subject`,
  row: z.object({ subject: z.string(), newest: z.string(), body: z.string(), actor: z.string(), at: time }),
}
const bodySchema = z.object({ into: z.string(), reason: z.string().default('') })

export interface Merge { bucket: string; into: string; reason: string; at: string; actor: string }
export interface Merges {
  /** Parallel: bucket from[i] counts as into[i]. */
  from: string[]
  into: string[]
  all: Merge[]
  /** Where a bucket's crashes are counted. */
  target(bucket: string): string
  /** The bucket and what was merged into it. */
  members(bucket: string): string[]
}

export async function readMerges(clickhouse: ClickHouse, fleet: string): Promise<Merges> {
  const rows = await ask(clickhouse, QUESTION, { fleet })
  return mergesOf(rows.flatMap(({ subject, newest, body, at, actor }): Merge[] => {
    const parsed = bodySchema.safeParse(parseJson(body))
    return newest === 'bucket.merged' && parsed.success ? [{ bucket: subject.slice('bucket:'.length), ...parsed.data, at, actor }] : []
  }))
}

export function mergesOf(all: readonly Merge[]): Merges {
  const next = new Map(all.map(({ bucket, into }) => [bucket, into]))
  const target = (bucket: string): string => {
    const seen = new Set([bucket])
    for (let at = bucket; ; ) {
      const into = next.get(at)
      if (into === undefined) return at
      if (seen.has(into)) return bucket
      seen.add(into)
      at = into
    }
  }
  const from = [...next.keys()].filter((bucket) => target(bucket) !== bucket)
  return {
    from,
    into: from.map(target),
    all: [...all],
    target,
    members: (bucket) => [bucket, ...from.filter((each) => target(each) === bucket)],
  }
}
