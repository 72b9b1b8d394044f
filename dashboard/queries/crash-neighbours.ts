import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, sqlTime } from './ask.ts'
import { ALWAYS, COUNTED, CURRENT, scopeParams } from './scope.ts'
import { DAY } from './spans.ts'

/**
 * Which crash of the bucket came just before, and which just after?
 * Of the bucket's own rows, which lie side by side in `bucket_crashes`, those of the day before and after are read, and only where
 * there is none all others, which are few then or have a gap: 0.04 s for the bucket with a million of 10 M crashes in 28 days;
 * at 100 M no more than a page of its crashes (bucket-crashes.ts).
 */
const row = z.object({ id: z.string() })
const OF_BUCKET = `FROM bucket_crashes FINAL WHERE ${COUNTED} AND bucket IN {members:Array(String)} AND ${CURRENT}`
const PREVIOUS = { sql: `SELECT id ${OF_BUCKET} AND (event_time, id) < ({at:DateTime64(3)}, {id:String}) ORDER BY event_time DESC, id DESC LIMIT 1`, row }
const NEXT = { sql: `SELECT id ${OF_BUCKET} AND (event_time, id) > ({at:DateTime64(3)}, {id:String}) ORDER BY event_time, id LIMIT 1`, row }

export async function readNeighbours(clickhouse: ClickHouse, crash: { fleet: string; id: string; event_time: string }, members: readonly string[]): Promise<{ previous: string | null; next: string | null }> {
  const at = Date.parse(crash.event_time)
  const nearest = async (question: typeof NEXT, ranges: { from: number; to: number }[]) => {
    for (const range of ranges) {
      const [found] = await ask(clickhouse, question, { ...scopeParams({ fleet: crash.fleet, ...range }), members, at: sqlTime(at), id: crash.id })
      if (found) return found.id
    }
    return null
  }
  const [previous, next] = await Promise.all([
    nearest(PREVIOUS, [{ from: at - DAY, to: at + 1 }, { from: ALWAYS.from, to: at - DAY }]), nearest(NEXT, [{ from: at, to: at + DAY }, { from: at + DAY, to: ALWAYS.to }]),
  ])
  return { previous, next }
}
