import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Counter } from 'prom-client'
import type { Logger } from '../service/logger.ts'
import type { Metrics } from '../service/metrics.ts'
import { syncDirectory } from '../service/sync-directory.ts'
import { startConsumer } from './embedded-consumer.ts'
import { openStore, type Store } from './embedded-store.ts'
import { createWriter, type Partition, type Retention } from './embedded-writer.ts'
import { appendedAtOf } from './entry.ts'
import { lockDirectory } from './lock.ts'
import type { BrokenWorld } from '../service/errors.ts'
import { totalLag, type Log, type LogConsumer } from './log.ts'
import { logBroken } from './outcome.ts'
import { partitionOf } from './partition.ts'

export interface EmbeddedLogOptions {
  directory: string
  /** Per partition; what is read goes by age, what passes the bytes goes read or not, and a reader behind it sees a gap. */
  retention: Retention
  /** Of topics that don't exist yet; a topic keeps the number that it was made with. */
  partitions?: number
  /** Appends beyond this many bytes waiting for the disk are refused with `log-overloaded`. */
  maxBytesInFlight?: number
  logger?: Logger
  metrics?: Metrics
  /**
   * The disk failed to sync what was written. Nothing was acknowledged, but the kernel may have dropped the pages and will
   * report success from now on, so nothing that this process believes of its files can be trusted: it has to end, and
   * its successor reads them anew (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
   */
  onBroken?: (error: BrokenWorld) => void
}

/**
 * The log for one process on one machine: lmdb files in a folder.
 *
 * Promise: append() resolves after the entry is synced to the disk; kill -9 and power cuts take back nothing that was
 * acknowledged. Every entry carries its checksum; one that doesn't match is handed over with its fault, never thrown.
 * Damage to lmdb's own pages can make entries unreachable: they show as a gap or as `log-read-failed`.
 * The folder belongs to one process (`log-in-use`); several processes need Kafka.
 */
export async function openEmbeddedLog(options: EmbeddedLogOptions): Promise<Log> {
  const { directory, retention, partitions: partitionCount = 1, maxBytesInFlight = 64 * 1024 * 1024, logger, metrics, onBroken = endProcess } = options
  mkdirSync(directory, { recursive: true })
  const lock = lockDirectory(directory)
  const store = await openOrRelease(directory, lock)
  const topics = new Map<string, Promise<Partition[]>>()
  const loaded: Partition[] = []
  const consumers = new Map<string, LogConsumer | undefined>()
  let closing: Promise<void> | undefined

  const removedCount = counter(metrics, 'log_entries_removed_total',
    'Entries that retention removed from the embedded log. A rise of unread="true" is loss: the reader is slower than retention.', ['topic', 'unread'])
  const faultCount = counter(metrics, 'log_entry_faults_total',
    'Entries read whose checksum did not match. Any rise means that the disk or its file system returns wrong bytes.', ['topic'])

  const writer = createWriter({ store, retention, maxBytesInFlight, partitions: () => loaded, confirmed: slowestGroup, onRemoved, onBroken })

  function onRemoved(partition: Partition, { from, to }: { from: number; to: number }): void {
    const read = Math.min(to, Math.max(from, slowestGroup(partition)))
    removedCount?.inc({ topic: partition.topic, unread: 'false' }, read - from)
    if (read === to) return
    removedCount?.inc({ topic: partition.topic, unread: 'true' }, to - read)
    logger?.warn({ topic: partition.topic, partition: partition.id, from: read, to }, 'retention removed entries that a reader had not confirmed')
  }

  /** Position of the group that is furthest behind among those reading now; nobody reading is everything unread. */
  function slowestGroup({ topic, id }: Partition): number {
    const groups = [...consumers.keys()].map((key) => JSON.parse(key) as [string, string]).filter(([name]) => name === topic)
    return groups.length === 0 ? 0 : Math.min(...groups.map(([, group]) => store.groupOffset(topic, group, id) ?? 0))
  }

  function topicOf(topic: string): Promise<Partition[]> {
    if (closing) return Promise.reject(logBroken('log-closed', 'log: closed'))
    const known = topics.get(topic)
    if (known) return known
    const opening = openTopic(topic)
    topics.set(topic, opening)
    opening.catch(() => topics.delete(topic))
    return opening
  }

  async function openTopic(topic: string): Promise<Partition[]> {
    const kept = store.partitionsOf(topic)
    if (kept === undefined) await store.makeTopic(topic, partitionCount)
    const count = kept ?? partitionCount
    const partitions = Array.from({ length: count }, (_, id): Partition => ({ topic, id, waiters: new Set(), ...store.extentOf(topic, id) }))
    loaded.push(...partitions)
    return partitions
  }

  async function close(): Promise<void> {
    await Promise.all([...consumers.values()].map((consumer) => consumer?.stop()))
    await writer.close()
    await store.close()
    lock.release()
  }

  return {
    async append(topic, { key, value, headers = {} }) {
      const partitions = await topicOf(topic)
      return writer.append(partitions[partitionOf(key, partitions.length)]!, { key, value, headers, appendedAt: Date.now() })
    },

    async consume(consumeOptions, handle) {
      const { topic, group } = consumeOptions
      const partitions = await topicOf(topic)
      const name = JSON.stringify([topic, group])
      if (consumers.has(name)) throw logBroken('log-group-in-use', `log: ${group} reads ${topic} already; the embedded log has one reader a group`)
      consumers.set(name, undefined)
      const forget = () => consumers.delete(name)
      try {
        const onFault = (faulty: string) => faultCount?.inc({ topic: faulty })
        const consumer = await startConsumer({ store, partitions, logger, onFault, onStop: forget }, consumeOptions, handle)
        consumers.set(name, consumer)
        return consumer
      } catch (error) {
        forget()
        throw error
      }
    },

    async stats(topic, confirmed) {
      let oldestAgeMs = 0
      const partitions = (await topicOf(topic)).map(({ id, first, next }) => {
        const position = Math.max(first, (typeof confirmed === 'string' ? store.groupOffset(topic, confirmed, id) : confirmed.get(id)) ?? first)
        const oldest = position < next ? store.stored(topic, id, position) : undefined
        if (oldest) oldestAgeMs = Math.max(oldestAgeMs, Date.now() - appendedAtOf(oldest))
        return { partition: id, lag: Math.max(0, next - position) }
      })
      return { lag: totalLag(partitions), oldestAgeMs, partitions }
    },

    async check() {
      writer.check()
      await store.probe()
    },

    close: () => (closing ??= close()),
  }
}

function endProcess(error: BrokenWorld): void {
  console.error(`overrun: ${error.message}. The disk did not take it, so this process ends at once; every crash that was acknowledged is kept. Look at the disk, then start again.`)
  spawn(process.execPath, ['-e', MAKE_SURE, String(process.pid)], { detached: true, stdio: 'ignore' }).on('error', () => undefined).unref()
  process.exit(74)
}

/**
 * process.exit joins libuv's threads, and the one that was writing for lmdb may wait for instructions that nobody gives any
 * more: the process would listen for ever and answer nothing. So another one looks after two seconds whether it is still there.
 */
const MAKE_SURE = 'setTimeout(() => { if (process.ppid === Number(process.argv[1])) process.kill(process.ppid, "SIGKILL") }, 2000)'

/** A log that can't be opened must not keep the next try out. */
async function openOrRelease(directory: string, lock: { release(): void }): Promise<Store> {
  try {
    const store = openStore(directory)
    for (const folder of [join(directory, 'entries'), directory, dirname(directory)]) await syncDirectory(folder)
    return store
  } catch (error) {
    lock.release()
    throw error
  }
}

function counter<T extends string>(metrics: Metrics | undefined, name: string, help: string, labelNames: readonly T[]): Counter<T> | undefined {
  return metrics && new Counter({ name, help, labelNames, registers: [metrics] })
}
