import { z } from 'zod'
import type { EventKind } from './event-log.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, time } from './ask.ts'

/**
 * What did people say last about each subject, of some kinds? One kind takes the other back in two pairs, which count as one here.
 * A few rows per decision that was ever made, whatever `crashes` holds: a page asks once for all that it needs.
 */
const QUESTION = {
  sql: `
SELECT subject, argMax(events.kind, number) AS kind, argMax(body, number) AS body, argMax(actor, number) AS actor, max(at) AS at
FROM events FINAL
WHERE fleet = {fleet:String} AND events.kind IN {kinds:Array(String)}
GROUP BY subject, transform(events.kind, ['bucket.unmerged', 'fleet.anchor-removed'], ['bucket.merged', 'fleet.anchor-added'], events.kind)
ORDER BY subject`,
  row: z.object({ subject: z.string(), kind: z.string(), body: z.string(), actor: z.string(), at: time }),
}
export type NewestEvent = z.output<typeof QUESTION.row>

export const readNewestEvents = (clickhouse: ClickHouse, fleet: string, kinds: readonly EventKind[]): Promise<NewestEvent[]> => ask(clickhouse, QUESTION, { fleet, kinds })
