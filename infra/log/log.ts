/**
 * The log: what ingest has promised to keep and the worker has yet to count.
 *
 * Promise: append() resolves only when the message is durable (embedded: synced to disk; Kafka: acks=all).
 * It rejects with BrokenWorld when that can't be had before the deadline; then the message may or may not be there,
 * so the sender must send again and the reader must expect everything twice.
 *
 * Order: messages of one key are read in the order in which they became durable (one key, one partition).
 */
export interface LogMessage {
  /** The device: what must stay in order. */
  key: string
  value: Uint8Array
  headers?: Record<string, string>
}

export interface LogPosition { partition: number; offset: number }

export interface LogEntry {
  /** Position inside the partition; grows, but may have gaps. */
  offset: number
  key: string
  value: Uint8Array
  headers: Record<string, string>
  /** Milliseconds since the epoch at which the log took it (the machine's time). */
  appendedAt: number
  /** Set when the stored bytes are not the bytes that were written: a dead letter, never a crash. */
  fault?: 'checksum-mismatch'
}

export interface LogBatch {
  topic: string
  partition: number
  /** Ascending offsets; at least one, unless there is a gap and nothing behind it yet. */
  entries: readonly LogEntry[]
  /** Offsets [from, to) that retention removed before this reader saw them: reported, never silent. */
  gap?: { from: number; to: number }
  /** True once this reader no longer owns the partition (a rebalance): write nothing more. */
  stale(): boolean
}

export interface ConsumeOptions {
  topic: string
  group: string
  /** First offset to read of a partition; asked whenever the partition is (newly) assigned. */
  startAt(partition: number): Promise<number>
  maxEntries: number
  maxBytes: number
  /** How long a batch may wait for more entries once it has one, ms. */
  maxWaitMs: number
}

export interface LogConsumer {
  /** The partitions that this reader owns now; other readers of the group have the others. */
  assigned(): readonly number[]
  /** Finishes the batch in hand, then stops; nothing is read afterwards. */
  stop(): Promise<void>
}

export interface LogStats {
  /** Entries not yet confirmed by the group. */
  lag: number
  /** Age of the oldest entry not yet confirmed, ms; 0 when there is none. Never below the truth. */
  oldestAgeMs: number
  /** The same lag, by partition. */
  partitions: { partition: number; lag: number }[]
}

/** Who has confirmed what: a group, or what a reader's own store says by partition (0 where it says nothing). */
export type Confirmed = string | ReadonlyMap<number, number>

export const totalLag = (partitions: LogStats['partitions']): number => partitions.reduce((sum, { lag }) => sum + lag, 0)

/** Behind the last entry of a batch, or behind a gap that nothing has followed yet. */
export const endOf = ({ entries, gap }: Pick<LogBatch, 'entries' | 'gap'>): number => (entries.at(-1)?.offset ?? (gap?.to ?? 0) - 1) + 1

export interface Log {
  append(topic: string, message: LogMessage): Promise<LogPosition>
  /**
   * Hands batches of each assigned partition to `handle`, one at a time per partition. When `handle` resolves, the
   * position moves past the batch; when it rejects, the same batch comes again after a back-off.
   */
  consume(options: ConsumeOptions, handle: (batch: LogBatch) => Promise<void>): Promise<LogConsumer>
  stats(topic: string, confirmed: Confirmed): Promise<LogStats>
  /** Rejects with BrokenWorld when the log can't accept an append now (for /readyz). */
  check(): Promise<void>
  close(): Promise<void>
}

export const TOPIC_ACCEPTED = 'crashes.accepted'
export const TOPIC_DEAD_LETTERS = 'crashes.dead-letters'
