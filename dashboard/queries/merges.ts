import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { parseJson } from './ask.ts'
import { readNewestEvents, type NewestEvent } from './newest-events.ts'

/**
 * Which buckets did people put together? The newest event of a bucket decides; chains are followed to their end, and a
 * chain that bites its own tail ends where it began.
 */
export const MERGE_KINDS = ['bucket.merged', 'bucket.unmerged'] as const
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
  return mergesSaid(await readNewestEvents(clickhouse, fleet, MERGE_KINDS))
}

export function mergesSaid(events: readonly NewestEvent[]): Merges {
  return mergesOf(events.flatMap(({ subject, kind, body, at, actor }): Merge[] => {
    const parsed = bodySchema.safeParse(parseJson(body))
    return kind === 'bucket.merged' && parsed.success ? [{ bucket: subject.slice('bucket:'.length), ...parsed.data, at, actor }] : []
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
