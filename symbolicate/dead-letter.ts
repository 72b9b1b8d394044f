import type { Log, LogEntry } from '../infra/log/log.ts'
import { TOPIC_DEAD_LETTERS } from '../infra/log/log.ts'
import type { Inserter } from './insert.ts'
import type { WorkerMetrics } from './metrics.ts'
import type { DeadLetterSlug } from './outcome.ts'
import { dateTime } from './write.ts'

/**
 * What can't become a crash is kept with its reason: whole in the topic of dead letters, and as a row (up to 64 KiB of
 * it, base64) that people see. Both before the position moves. The row's key is the place in the log, so a batch that is
 * read again says nothing new; the topic may hold a letter twice and names the place in its headers.
 */
export interface DeadLetter { slug: DeadLetterSlug; reason: string; entry: Pick<LogEntry, 'offset' | 'key' | 'value'> }

const ROW_BYTES = 64 * 1024

export async function bury(letters: readonly DeadLetter[], place: { topic: string; partition: number }, deps: {
  log: Log
  inserter: Inserter
  metrics: WorkerMetrics
  now: number
  givenUp: () => boolean
}): Promise<void> {
  if (letters.length === 0) return
  for (const { slug, reason, entry } of letters) {
    const headers = { slug, reason: reason.slice(0, 1024), topic: place.topic, partition: String(place.partition), offset: String(entry.offset) }
    await deps.log.append(TOPIC_DEAD_LETTERS, { key: entry.key, value: entry.value, headers })
  }
  await deps.inserter.insert('dead_letters', letters.map(({ slug, reason, entry }) => ({
    topic: place.topic,
    partition: place.partition,
    offset: entry.offset,
    at: dateTime(deps.now),
    stage: slug === 'row-refused' ? 'write' : 'decode',
    slug,
    reason: reason.toWellFormed().slice(0, 4096),
    key: entry.key.toWellFormed(),
    message: Buffer.from(entry.value.subarray(0, ROW_BYTES)).toString('base64'),
  })), deps.givenUp)
  for (const { slug } of letters) deps.metrics.deadLetter(slug)
  deps.metrics.event('dead-letter', letters.length)
}
