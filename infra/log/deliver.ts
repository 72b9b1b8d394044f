import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../service/errors.ts'
import type { Logger } from '../service/logger.ts'
import type { LogBatch } from './log.ts'

const FIRST_BACK_OFF_MS = 100
const LONGEST_BACK_OFF_MS = 10_000

/**
 * Hands the batch over until it is handled: the very same batch again, after 0.1, 0.2, 0.4 ... 10 s.
 * False when it was left unhandled, because the reader stops or no longer owns the partition.
 */
export async function deliver(
  batch: LogBatch,
  handle: (batch: LogBatch) => Promise<void>,
  { stopping, logger }: { stopping: AbortSignal; logger?: Logger | undefined },
): Promise<boolean> {
  for (let attempt = 0; !stopping.aborted && !batch.stale(); attempt++) {
    try {
      await handle(batch)
      return true
    } catch (error) {
      const first = batch.entries[0]?.offset
      logger?.warn({ topic: batch.topic, partition: batch.partition, offset: first, attempt, error: messageOf(error) }, 'batch not handled, comes again')
      await pause(backOff(attempt), stopping)
    }
  }
  return false
}

export const backOff = (attempt: number): number => Math.min(LONGEST_BACK_OFF_MS, FIRST_BACK_OFF_MS * 2 ** attempt)

/** Sleeps, or returns at once when stopping. */
export async function pause(ms: number, stopping: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal: stopping }).catch((error: unknown) => {
    if (!stopping.aborted) throw error
  })
}
