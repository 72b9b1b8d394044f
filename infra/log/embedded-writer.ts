import { BrokenWorld } from '../service/errors.ts'
import { logBroken } from './outcome.ts'
import type { LogPosition } from './log.ts'
import { appendedAtOf, type EntryContent } from './entry.ts'
import { storedEntry, type Extent, type Store, type StoreChange } from './embedded-store.ts'

/**
 * The only writer. Group commit: while one transaction is on its way to the disk the next appends gather, and go
 * together. One transaction at a time, so an offset is given out only after the one before it is durable, and a failed
 * transaction leaves no trace: its offsets are given to the next one.
 *
 * Retention is part of the same transaction, oldest first: what every reader has confirmed goes when it passes `ageMs`,
 * and what passes `bytes` goes read or not. Age alone never takes what is unread: a clock that jumps loses nothing.
 */
const MAX_GROUP_BYTES = 8 * 1024 * 1024
/** Bounds how long one sweep keeps the disk from appends. */
const MAX_REMOVED_AT_ONCE = 2_000

export interface Partition extends Extent {
  readonly topic: string
  readonly id: number
  /** Readers that wait for `next` to move. */
  readonly waiters: Set<() => void>
}

export interface Retention { /** Per partition. */ bytes: number; ageMs: number }

interface Pending {
  partition: Partition
  content: EntryContent
  bytes: number
  resolve(position: LogPosition): void
  reject(error: unknown): void
}

export interface WriterOptions {
  store: Store
  retention: Retention
  maxBytesInFlight: number
  partitions(): Iterable<Partition>
  /** Everything below has been read by all readers. */
  confirmed(partition: Partition): number
  onRemoved(partition: Partition, removed: { from: number; to: number }): void
  onBroken(error: BrokenWorld): void
}

export function createWriter({ store, retention, maxBytesInFlight, partitions, confirmed, onRemoved, onBroken }: WriterOptions) {
  let queue: Pending[] = []
  let bytesInFlight = 0
  let sweepWanted = true
  let closed = false
  let running: Promise<void> | undefined

  const sweeper = setInterval(sweep, Math.min(60_000, Math.max(20, retention.ageMs / 10))).unref()

  function append(partition: Partition, content: EntryContent): Promise<LogPosition> {
    if (closed) return Promise.reject(logBroken('log-closed', 'log: closed'))
    const bytes = content.value.byteLength + content.key.length
    if (bytesInFlight > 0 && bytesInFlight + bytes > maxBytesInFlight) {
      return Promise.reject(logBroken('log-overloaded', `log: ${bytesInFlight} bytes wait for the disk, the limit is ${maxBytesInFlight}`))
    }
    bytesInFlight += bytes
    return new Promise((resolve, reject) => {
      queue.push({ partition, content, bytes, resolve, reject })
      wake()
    })
  }

  function sweep(): void {
    sweepWanted = true
    wake()
  }

  /** setImmediate: everything that arrives in this turn of the event loop goes into the same transaction. */
  function wake(): void {
    running ??= new Promise<void>((resolve) => setImmediate(resolve)).then(run).finally(() => {
      running = undefined
      if (queue.length > 0 || (sweepWanted && !closed)) wake()
    })
  }

  async function run(): Promise<void> {
    while (queue.length > 0 || sweepWanted) await writeGroup(takeGroup())
  }

  function takeGroup(): Pending[] {
    let bytes = 0
    let count = 0
    while (count < queue.length && bytes < MAX_GROUP_BYTES) bytes += queue[count++]!.bytes
    return queue.splice(0, count)
  }

  async function writeGroup(group: readonly Pending[]): Promise<void> {
    try {
      const { changes, positions } = plan(group)
      if (changes.length > 0) await store.write(changes.map(({ change }) => change))
      for (const { partition, change } of changes) {
        const from = partition.first
        Object.assign(partition, change.extent)
        if (partition.first > from) onRemoved(partition, { from, to: partition.first })
        for (const wakeReader of [...partition.waiters]) wakeReader()
      }
      for (const [index, pending] of group.entries()) pending.resolve(positions[index]!)
    } catch (error) {
      // Removing needs the disk too: the next sweep tries again, not this loop.
      sweepWanted = false
      for (const pending of group) pending.reject(error)
      if (error instanceof BrokenWorld && error.code === 'log-sync-failed') onBroken(error)
    } finally {
      for (const { bytes } of group) bytesInFlight -= bytes
    }
  }

  /** What one transaction does, computed beforehand; the state in memory moves when it has succeeded. */
  function plan(group: readonly Pending[]) {
    const now = Date.now()
    const touched = new Map<Partition, { offset: number; stored: Buffer }[]>()
    const positions = group.map(({ partition, content }): LogPosition => {
      const appended = touched.get(partition) ?? []
      touched.set(partition, appended)
      const offset = partition.next + appended.length
      appended.push(storedEntry(partition.topic, partition.id, offset, content))
      return { partition: partition.id, offset }
    })
    if (sweepWanted) for (const partition of partitions()) if (!touched.has(partition)) touched.set(partition, [])
    sweepWanted = false

    const changes: { partition: Partition; change: StoreChange }[] = []
    for (const [partition, appended] of touched) {
      const added = appended.reduce((sum, { stored }) => sum + stored.length, 0)
      const { removed, bytes } = due(partition, added, now)
      if (appended.length === 0 && removed.length === 0) continue
      const extent = { first: partition.first + removed.length, next: partition.next + appended.length, bytes: partition.bytes + added - bytes }
      changes.push({ partition, change: { topic: partition.topic, partition: partition.id, appended, removed, extent } })
    }
    return { changes, positions }
  }

  /** The oldest entries that retention removes now. An entry that can't be read counts as old. */
  function due(partition: Partition, added: number, now: number): { removed: number[]; bytes: number } {
    const removed: number[] = []
    let bytes = 0
    const unread = confirmed(partition)
    while (partition.first + removed.length < partition.next) {
      if (removed.length === MAX_REMOVED_AT_ONCE) {
        sweepWanted = true
        break
      }
      const offset = partition.first + removed.length
      const tooMuch = partition.bytes + added - bytes > retention.bytes
      const stored = store.stored(partition.topic, partition.id, offset)
      const tooOld = offset < unread && (stored === undefined || !(now - appendedAtOf(stored) <= retention.ageMs))
      if (!tooMuch && !tooOld) break
      removed.push(offset)
      bytes += stored?.length ?? 0
    }
    return { removed, bytes }
  }

  return {
    append,
    sweep,
    check(): void {
      if (closed) throw logBroken('log-closed', 'log: closed')
      if (bytesInFlight >= maxBytesInFlight) throw logBroken('log-overloaded', `log: ${bytesInFlight} bytes wait for the disk`)
    },
    /** Writes what was appended before, takes nothing more. */
    async close(): Promise<void> {
      closed = true
      clearInterval(sweeper)
      while (running) await running
    },
  }
}
