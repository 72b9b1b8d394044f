import type { Log, LogEntry } from '../infra/log/log.ts'
import { TOPIC_DEAD_LETTERS } from '../infra/log/log.ts'
import type { Inserter } from './insert.ts'
import type { WorkerMetrics } from './metrics.ts'
import { stageOf, type DeadLetterSlug } from './outcome.ts'
import { dateTime } from './write.ts'

/**
 * What can't become a crash is kept with its reason, its stage and all that the log had of it: in the topic of dead
 * letters, for whatever reads Kafka, and as a row, which people see and which can be put back (replay.ts). Both before the
 * position moves. The row's key is the place in the log, so a batch that is read again says nothing new; the topic may
 * hold a letter twice and names the place in its headers.
 */
export interface DeadLetter { slug: DeadLetterSlug; reason: string; entry: Pick<LogEntry, 'offset' | 'key' | 'value' | 'headers'> }

/** On a message that was put back: topic/partition/offset of the letter. */
export const REPLAY_OF = 'replay-of'
/** What this file adds to the headers that the message came with. */
export const LETTER_HEADER = 'dead-letter-'

export async function bury(letters: readonly DeadLetter[], place: { topic: string; partition: number }, deps: {
  log: Log
  inserter: Inserter
  metrics: WorkerMetrics
  now: number
  givenUp: () => boolean
}): Promise<void> {
  if (letters.length === 0) return
  for (const { slug, reason, entry } of letters) {
    const said = { slug, stage: stageOf(slug), reason: reason.slice(0, 1024), topic: place.topic, partition: String(place.partition), offset: String(entry.offset) }
    const headers = { ...entry.headers, ...Object.fromEntries(Object.entries(said).map(([name, value]) => [LETTER_HEADER + name, value])) }
    await deps.log.append(TOPIC_DEAD_LETTERS, { key: entry.key, value: entry.value, headers })
  }
  await deps.inserter.insert('dead_letters', letters.map(({ slug, reason, entry }) => ({
    topic: place.topic,
    partition: place.partition,
    offset: entry.offset,
    at: dateTime(deps.now),
    stage: stageOf(slug),
    slug,
    reason: reason.toWellFormed().slice(0, 4096),
    key: entry.key.toWellFormed(),
    headers: Object.fromEntries(Object.entries(entry.headers).map(([name, value]) => [name.toWellFormed(), value.toWellFormed()])),
    message_bytes: entry.value.length,
    replay_of: entry.headers[REPLAY_OF]?.toWellFormed() ?? '',
    message: Buffer.from(entry.value).toString('base64'),
  })), deps.givenUp)
  for (const { slug } of letters) deps.metrics.deadLetter(slug)
  deps.metrics.event('dead-letter', letters.length)
}
