import { TOPIC_ACCEPTED, type Log } from '../infra/log/log.ts'
import { BrokenWorld } from '../infra/service/errors.ts'
import type { IngestMetrics } from './metrics.ts'

/**
 * One message to the log, in order by device. Resolves only when it is durable; rejects with BrokenWorld when that can't
 * be had before the deadline, and then it may or may not be there.
 */
export type Append = (place: { fleet: string; deviceId: string }, value: Uint8Array) => Promise<void>

export function createAppend({ log, metrics, appendMs }: { log: Log; metrics: IngestMetrics; appendMs: number }): Append {
  return async function append({ fleet, deviceId }, value) {
    try {
      await withDeadline(log.append(TOPIC_ACCEPTED, { key: `${fleet}/${deviceId}`, value }), appendMs)
    } catch (error) {
      metrics.publishErrors.inc()
      throw error
    }
  }
}

async function withDeadline<T>(work: Promise<T>, ms: number): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new BrokenWorld('log-deadline', `log: no answer within ${ms} ms`, { retryable: true })), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}
