import type { Admin } from 'kafkajs'
import { totalLag, type Confirmed, type LogStats } from './log.ts'

/**
 * Lag behind the group's committed offsets, or a store's own. Kafka doesn't tell the age of an entry without reading it, but it does tell
 * the first offset at or after a time: so the age is found by search, doubling from one second and then halving until
 * it is known to a tenth. Never below the truth, and one request when the reader is up to date by a second.
 */
const LONGEST_AGE_MS = 365 * 24 * 3_600_000

export async function kafkaStats(admin: Admin, topic: string, confirmed: Confirmed): Promise<LogStats> {
  const positions = typeof confirmed === 'string' ? await committedBy(admin, topic, confirmed) : confirmed
  const pending = new Map<number, number>()
  const partitions = (await admin.fetchTopicOffsets(topic)).map(({ partition, low, high }) => {
    const position = Math.max(positions.get(partition) ?? 0, Number(low))
    const lag = Math.max(0, Number(high) - position)
    if (lag > 0) pending.set(partition, position)
    return { partition, lag }
  }).sort((a, b) => a.partition - b.partition)
  return { lag: totalLag(partitions), oldestAgeMs: pending.size === 0 ? 0 : await oldestAge(admin, topic, pending), partitions }
}

async function committedBy(admin: Admin, topic: string, groupId: string): Promise<ReadonlyMap<number, number>> {
  const [committed] = await admin.fetchOffsets({ groupId, topics: [topic] })
  return new Map(committed?.partitions.map(({ partition, offset }) => [partition, Number(offset)]))
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
  while (shortest > 0 && longest - shortest > Math.max(1, longest / 10)) {
    // Kafka takes whole milliseconds.
    const middle = Math.floor((shortest + longest) / 2)
    if (await isOlder(middle)) shortest = middle
    else longest = middle
  }
  return Math.round(longest)
}
