import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, sqlTime } from './ask.ts'

/**
 * Which crash of the bucket came just before, and which just after?
 * Each reads along the key until the first hit: milliseconds in a busy bucket, up to the fleet's whole history in a rare one.
 */
const row = z.object({ id: z.string() })
const OF_BUCKET = `FROM crashes FINAL WHERE fleet = {fleet:String} AND bucket IN {members:Array(String)} AND standing IN ('counted', 'claimed')`
const PREVIOUS = { sql: `SELECT id ${OF_BUCKET} AND (event_time, id) < ({at:DateTime64(3)}, {id:String}) ORDER BY event_time DESC, id DESC LIMIT 1`, row }
const NEXT = { sql: `SELECT id ${OF_BUCKET} AND (event_time, id) > ({at:DateTime64(3)}, {id:String}) ORDER BY event_time, id LIMIT 1`, row }

export async function readNeighbours(clickhouse: ClickHouse, crash: { fleet: string; id: string; event_time: string }, members: readonly string[]): Promise<{ previous: string | null; next: string | null }> {
  const params = { fleet: crash.fleet, members, at: sqlTime(Date.parse(crash.event_time)), id: crash.id }
  const [before, after] = await Promise.all([ask(clickhouse, PREVIOUS, params), ask(clickhouse, NEXT, params)])
  return { previous: before[0]?.id ?? null, next: after[0]?.id ?? null }
}
