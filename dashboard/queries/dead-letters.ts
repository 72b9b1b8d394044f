import { z } from 'zod'
import type { DeadLettersPage } from '../api/contract.ts'
import type { DEAD_LETTER_STATES } from '../api/requests.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, number, sqlTime, time } from './ask.ts'

/**
 * What could not become a crash, newest first, a page at a time? A dead letter belongs to no fleet: nobody could read whose it is.
 * As many rows as there are dead letters, which is few, or something is wrong.
 */
const QUESTION = {
  sql: `
SELECT concat(topic, '/', toString(partition), '/', toString(offset)) AS id, topic, partition, offset, at, stage, slug, reason, key, replay_of,
       if(message_bytes > 0, message_bytes, length(tryBase64Decode(message))) AS message_length, lower(hex(substring(tryBase64Decode(message), 1, 256))) AS message_head,
       if(replays.replayed > 0, replays.last, NULL) AS replayed_at
FROM dead_letters FINAL
LEFT JOIN (SELECT topic, partition, offset, max(at) AS last, count() AS replayed FROM dead_letter_replays GROUP BY topic, partition, offset) AS replays USING (topic, partition, offset)
WHERE ({state:String} = 'all' OR ({state:String} = 'replayed') = (replays.replayed > 0))
  AND (NOT {after:UInt8} OR (at, topic, partition, offset) < ({after_time:DateTime64(3)}, {after_topic:String}, {after_partition:UInt32}, {after_offset:UInt64}))
ORDER BY at DESC, topic DESC, partition DESC, offset DESC
LIMIT {limit:UInt32}`,
  row: z.object({
    id: z.string(), topic: z.string(), partition: number, offset: number, at: time, stage: z.string(), slug: z.string(), reason: z.string(), key: z.string(), message_length: number, message_head: z.string(), replayed_at: time.nullable(), replay_of: z.string(),
  }),
}

/** Where a page ended: at (ms), topic, partition, offset. */
export type DeadLetterKey = readonly [number, string, number, number]

export async function readDeadLetters(clickhouse: ClickHouse, { limit, state = 'all', after }: { limit: number; state?: (typeof DEAD_LETTER_STATES)[number]; after?: DeadLetterKey | undefined }): Promise<DeadLettersPage['items']> {
  return ask(clickhouse, QUESTION, {
    limit, state, after: after ? 1 : 0, after_time: sqlTime(after?.[0] ?? 0), after_topic: after?.[1] ?? '', after_partition: after?.[2] ?? 0, after_offset: after?.[3] ?? 0,
  })
}
