import type { ClickHouse } from '../infra/clickhouse/client.ts'
import { TOPIC_ACCEPTED, type Log } from '../infra/log/log.ts'
import type { Clock } from '../infra/service/clock.ts'
import { REPLAY_OF } from './dead-letter.ts'
import type { DeadLetterSlug } from './outcome.ts'
import { lettersAt, waitingLetters, type LetterPlace, type StoredLetter } from './queries/letters.ts'
import { dateTime } from './write.ts'

/**
 * Dead letters go back into the log as they were, byte for byte and under the same key, once what was wrong is put right: a
 * worker that knows the newer contract, a column that takes the value.
 *
 * Promise: a letter that is put back is in the log before it is said to be. Killed in between, it is put back once more,
 * which doubles nothing: a crash is counted by its id, and what is no crash once more is a letter that names the first one.
 */
export const REPLAYABLE = ['message-undecodable', 'message-invalid', 'row-refused'] as const satisfies readonly DeadLetterSlug[]

/** Why a letter stays where it is. */
export const NOT_REPLAYED = {
  'letter-unknown': 'There is no such dead letter.',
  'replayed-before': 'It was put back before; if it failed again, it has a new id.',
  'no-message': 'There are no bytes to put back: the log lost them, or gave back others than were written.',
  'message-cut': 'Only the first 64 KiB were kept by the version that wrote it; the topic of dead letters may have it whole.',
} as const
export type NotReplayed = keyof typeof NOT_REPLAYED

export interface Replayed { replayed: string[]; skipped: { id: string; why: NotReplayed }[] }

const AT_ONCE = 16
const MOST_AT_ONCE = 10_000
/** How much of a message older versions kept. */
const CUT_BYTES = 64 * 1024

export const letterId = ({ topic, partition, offset }: LetterPlace): string => `${topic}/${partition}/${offset}`

export function letterPlace(id: string): LetterPlace | null {
  const [, topic, partition, offset] = /^([\w.-]{1,249})\/(\d{1,9})\/(\d{1,15})$/.exec(id) ?? []
  return topic === undefined ? null : { topic, partition: Number(partition), offset: Number(offset) }
}

/** Those that wait, or those of them with one reason; at most 10,000 at once. */
export async function waitingIds(clickhouse: ClickHouse, reason?: (typeof REPLAYABLE)[number]): Promise<string[]> {
  return (await waitingLetters(clickhouse, reason === undefined ? REPLAYABLE : [reason], MOST_AT_ONCE)).map(letterId)
}

export async function replayLetters(ids: readonly string[], { clickhouse, log, clock, actor }: {
  clickhouse: ClickHouse
  log: Pick<Log, 'append'>
  clock: Clock
  actor: string
}): Promise<Replayed> {
  const done: Replayed = { replayed: [], skipped: [] }
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const asked = ids.slice(at, at + AT_ONCE)
    const letters = new Map((await lettersAt(clickhouse, asked.flatMap((id) => letterPlace(id) ?? []))).map((letter) => [letterId(letter), letter]))
    const back: StoredLetter[] = []
    for (const id of new Set(asked)) {
      const letter = letters.get(id)
      const why = letter === undefined ? 'letter-unknown' : staysFor(letter)
      if (why !== null) {
        done.skipped.push({ id, why })
        continue
      }
      const { key, message, headers } = letter!
      await log.append(TOPIC_ACCEPTED, { key, value: message, headers: { ...headers, [REPLAY_OF]: id } })
      back.push(letter!)
    }
    if (back.length === 0) continue
    await clickhouse.insert({
      table: 'dead_letter_replays', format: 'JSONEachRow',
      values: back.map(({ topic, partition, offset }) => ({ topic, partition, offset, at: dateTime(clock.now()), actor })),
    })
    done.replayed.push(...back.map(letterId))
  }
  return done
}

function staysFor({ slug, replayed, message, messageBytes }: StoredLetter): NotReplayed | null {
  if (!(REPLAYABLE as readonly string[]).includes(slug)) return 'no-message'
  if (replayed) return 'replayed-before'
  return messageBytes === 0 && message.length >= CUT_BYTES ? 'message-cut' : null
}
