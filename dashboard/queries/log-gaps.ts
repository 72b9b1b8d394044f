import { z } from 'zod'
import type { Overview } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { askOne, number, sqlTime, time } from './ask.ts'

/**
 * What did the log delete before it was read, of all that was found since a time? The first moment after which something is
 * missing (unknown where nothing was ever written), and the last before which. As many rows as there are gaps: none, or something is wrong.
 */
const QUESTION = {
  sql: `
SELECT sum(end_offset - first_offset) AS messages, uniqExact(topic, partition) AS partitions,
       if(countIf(isNull(log_gaps.lost_after)) > 0, NULL, min(log_gaps.lost_after)) AS lost_after, max(log_gaps.lost_before) AS lost_before, max(log_gaps.seen_at) AS seen_at
FROM log_gaps FINAL
WHERE log_gaps.seen_at >= {since:DateTime64(3)}`,
  row: z.object({ messages: number, partitions: number, lost_after: time.nullable(), lost_before: time, seen_at: time }),
}

export async function readLostMessages(clickhouse: ClickHouse, since: number): Promise<Overview['lost_messages']> {
  const lost = await askOne(clickhouse, QUESTION, { since: sqlTime(since) })
  return lost.messages === 0 ? null : lost
}
