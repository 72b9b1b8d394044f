import type { Admin } from 'kafkajs'
import type { LogStats } from './log.ts'

/**
 * Lag from the group's committed offsets. Kafka doesn't tell the age of an entry without reading it, but it does tell
 * the first offset at or after a time: so the age is found by search, doubling from one second and then halving until
 * it is known to a tenth. Never below the truth, and one request when the reader is up to date by a second.
 */
const LONGEST_AGE_MS = 365 * 24 * 3_600_000

export async function kafkaStats(admin: Admin, topic: string, group: string): Promise<LogStats> {
  const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  const pending = new Map<number, number>()
  let lag = 0
  for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
    const confirmed = Number(committed?.partitions.find((position) => position.partition === partition)?.offset ?? -1)
    const position = Math.max(confirmed, Number(low))
    if (position >= Number(high)) continue
    lag += Number(high) - position
    pending.set(partition, position)
  }
  return { lag, oldestAgeMs: lag === 0 ? 0 : await oldestAge(admin, topic, pending) }
}

async function oldestAge(admin: Admin, topic: string, pending: ReadonlyMap<number, number>): Promise<number> {
  const now = Date.now()
  /** Whether some pending entry was appended before now - age. */
  const isOlder = async (age: number): Promise<boolean> => {
    const offsets = await admin.fetchTopicOffsetsByTimestamp(topic, now - age)
    return offsets.some(({ partition, offset }) => Number(offset) > (pending.get(partition) ?? Infinity))
  }
  let longest = 1_000
  while (longest < LONGEST_AGE_MS && await isOlder(longest)) longest *= 2
  let shortest = longest === 1_000 ? 0 : longest / 2
  while (shortest > 0 && longest - shortest > longest / 10) {
    const middle = (shortest + longest) / 2
    if (await isOlder(middle)) shortest = middle
    else longest = middle
  }
  return Math.round(longest)
}
