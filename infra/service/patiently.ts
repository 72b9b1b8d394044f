import { setTimeout as delay } from 'node:timers/promises'
import { BrokenWorld, messageOf } from './errors.ts'
import type { Logger } from './logger.ts'

/**
 * Opens what a process can't begin without, as often as it takes: in a cluster everything starts at once and in any
 * order, and a process that ends because Kafka is ten seconds late is one more thing to look at. What will not get
 * better by itself (a BrokenWorld that is not retryable) is thrown at once. The reason is logged when it changes.
 */
export async function patiently<T>(what: string, open: () => Promise<T>, { logger, stopping, waiting }: {
  logger: Logger
  stopping: AbortSignal
  /** Told why it waits, and null when it no longer does. */
  waiting(reason: string | null): void
}): Promise<T> {
  let said = ''
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
    try {
      stopping.throwIfAborted()
      const opened = await open()
      if (said !== '') logger.info({ stage: 'start', waitedFor: what }, 'it is there')
      waiting(null)
      return opened
    } catch (error) {
      if (stopping.aborted || (error instanceof BrokenWorld && !error.retryable)) throw error
      const reason = `${what}: ${messageOf(error)}`
      if (reason !== said) logger.warn({ stage: 'start', waitsFor: what, reason: messageOf(error) }, 'waiting')
      said = reason
      waiting(reason)
      await delay(wait, undefined, { signal: stopping }).catch(() => {})
    }
  }
}

const FIRST_WAIT_MS = 100
const LONGEST_WAIT_MS = 5_000
