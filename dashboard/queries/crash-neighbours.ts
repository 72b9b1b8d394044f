import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, sqlTime } from './ask.ts'
import { ALWAYS, CURRENT, scopeParams } from './scope.ts'

/**
 * Which crash of the bucket came just before, and which just after?
 * Each reads a few of the bucket's own rows, which lie side by side in `bucket_crashes`.
 */
const row = z.object({ id: z.string() })
const OF_BUCKET = `FROM bucket_crashes FINAL WHERE fleet = {fleet:String} AND bucket IN {members:Array(String)} AND standing IN ('counted', 'claimed') AND ${CURRENT}`
const PREVIOUS = { sql: `SELECT id ${OF_BUCKET} AND (event_time, id) < ({at:DateTime64(3)}, {id:String}) ORDER BY event_time DESC, id DESC LIMIT 1`, row }
const NEXT = { sql: `SELECT id ${OF_BUCKET} AND (event_time, id) > ({at:DateTime64(3)}, {id:String}) ORDER BY event_time, id LIMIT 1`, row }

export async function readNeighbours(clickhouse: ClickHouse, crash: { fleet: string; id: string; event_time: string }, members: readonly string[]): Promise<{ previous: string | null; next: string | null }> {
  const params = { ...scopeParams({ fleet: crash.fleet, ...ALWAYS }), members, at: sqlTime(Date.parse(crash.event_time)), id: crash.id }
  const [before, after] = await Promise.all([ask(clickhouse, PREVIOUS, params), ask(clickhouse, NEXT, params)])
  return { previous: before[0]?.id ?? null, next: after[0]?.id ?? null }
}
