import type { Logger } from '../service/logger.ts'
import { backOff, deliver, pause } from './deliver.ts'
import { decodeEntry, placeOf } from './entry.ts'
import type { Store } from './embedded-store.ts'
import type { Partition } from './embedded-writer.ts'
import { endOf, type ConsumeOptions, type LogBatch, type LogConsumer, type LogEntry } from './log.ts'
import { logBroken } from './outcome.ts'
import { messageOf } from '../service/errors.ts'

export interface ConsumerDeps { store: Store; partitions: readonly Partition[]; logger?: Logger | undefined; onFault(topic: string): void; onStop(): void }

/**
 * Reads every partition of a topic, one batch at a time each, up to what is durable and no further: an entry that a
 * power cut could still take back must not move anybody's position. Waits to be woken by the writer, never polls.
 */
export async function startConsumer(
  { store, partitions, logger, onFault, onStop }: ConsumerDeps,
  options: ConsumeOptions,
  handle: (batch: LogBatch) => Promise<void>,
): Promise<LogConsumer> {
  const stopping = new AbortController()
  const starts = await Promise.all(partitions.map((partition) => startOf(partition, options)))
  const loops = partitions.map((partition, index) => readPartition(partition, starts[index]!))

  async function readPartition(partition: Partition, start: number): Promise<void> {
    let position = start
    for (let failures = 0; !stopping.signal.aborted;) {
      let batch: LogBatch | undefined
      try {
        batch = await nextBatch(partition, position)
        failures = 0
      } catch (error) {
        logger?.error({ topic: partition.topic, partition: partition.id, offset: position, error: messageOf(error) }, 'log not readable, tries again')
        await pause(backOff(failures++), stopping.signal)
      }
      if (!batch || !await deliver(batch, handle, { stopping: stopping.signal, logger })) continue
      position = endOf(batch)
      await store.setGroupOffset(partition.topic, options.group, partition.id, position).catch((error: unknown) => {
        logger?.warn({ topic: partition.topic, partition: partition.id, error: messageOf(error) }, 'position not kept: lag reads too high until the next batch')
      })
    }
  }

  /** Undefined only when stopping. */
  async function nextBatch(partition: Partition, position: number): Promise<LogBatch | undefined> {
    await until(partition, () => partition.next > position, Infinity)
    const deadline = performance.now() + options.maxWaitMs
    const entries: LogEntry[] = []
    let bytes = 0
    let full = false
    for (let from = position; !stopping.signal.aborted;) {
      const { first, next: seen } = partition
      if (entries.length === 0 && first === seen) return { ...batchOf(partition, position, []), gap: { from: position, to: first } }
      store.scan(partition.topic, partition.id, from, partition.next, (offset, stored) => {
        const broken = entries.length > 0 && offset !== from
        full = broken || entries.length >= options.maxEntries || (entries.length > 0 && bytes + stored.length > options.maxBytes)
        if (full) return false
        entries.push(decodeEntry(placeOf(partition.topic, partition.id, offset), offset, stored))
        bytes += stored.length
        from = offset + 1
        return true
      })
      const left = deadline - performance.now()
      if (entries.length > 0 && (full || entries.length >= options.maxEntries || left <= 0)) return batchOf(partition, position, entries)
      await until(partition, () => partition.next > seen || partition.first > first, entries.length > 0 ? left : Infinity)
    }
    return undefined
  }

  function batchOf(partition: Partition, position: number, entries: readonly LogEntry[]): LogBatch {
    const first = entries[0]?.offset ?? position
    for (const entry of entries) if (entry.fault) onFault(partition.topic)
    return {
      topic: partition.topic,
      partition: partition.id,
      entries,
      ...(first > position ? { gap: { from: position, to: first } } : {}),
      stale: () => false,
    }
  }

  /** Resolves when it holds, when the time is up, or when stopping. */
  function until(partition: Partition, holds: () => boolean, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const look = () => { if (holds()) done() }
      const timer = ms === Infinity ? undefined : setTimeout(done, ms)
      function done() {
        clearTimeout(timer)
        partition.waiters.delete(look)
        stopping.signal.removeEventListener('abort', done)
        resolve()
      }
      partition.waiters.add(look)
      stopping.signal.addEventListener('abort', done)
      if (stopping.signal.aborted) done()
      else look()
    })
  }

  return {
    assigned: () => partitions.map(({ id }) => id),
    async stop() {
      stopping.abort()
      await Promise.all(loops)
      onStop()
    },
  }
}

async function startOf(partition: Partition, { topic, startAt }: ConsumeOptions): Promise<number> {
  const position = await startAt(partition.id)
  if (position <= partition.next) return position
  throw logBroken('log-position-past-end',
    `log: ${topic}/${partition.id} ends at ${partition.next} and the reader is at ${position}: this is not the log that it read before. `
    + 'Put the old log back, or start the reader\'s store anew')
}
