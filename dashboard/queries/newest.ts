import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask } from './ask.ts'

/**
 * Where do alerts, buckets and people's decisions stand now? Two answers compared say what changed in between.
 * One row per bucket of all fleets is read, never `crashes`: milliseconds for ten thousand buckets. Asked every 2 s, once for all pages.
 */
const QUESTION = {
  sql: `
SELECT type, fleet, id, mark FROM
(
    SELECT 'alert' AS type, fleet, id, toString(max(version)) AS mark FROM alerts GROUP BY fleet, id ORDER BY max(updated_at) DESC LIMIT 200
    UNION ALL
    SELECT 'event' AS type, fleet, argMax(subject, number) AS id, toString(max(number)) AS mark FROM events GROUP BY fleet
    UNION ALL
    SELECT 'bucket' AS type, fleet, bucket AS id, toString(max(last_seen)) AS mark FROM buckets GROUP BY fleet, bucket ORDER BY max(last_seen) DESC LIMIT 200
)`,
  row: z.object({ type: z.enum(['alert', 'bucket', 'event']), fleet: z.string(), id: z.string(), mark: z.string() }),
}

export type Mark = z.output<typeof QUESTION.row>
export const readMarks = (clickhouse: ClickHouse): Promise<Mark[]> => ask(clickhouse, QUESTION, {})
