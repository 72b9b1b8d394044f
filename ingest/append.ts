import { TOPIC_ACCEPTED, type Log } from '../infra/log/log.ts'
import { BrokenWorld } from '../infra/service/errors.ts'
import type { Tracing } from '../infra/service/tracing.ts'
import { CONTRACT_VERSION } from './contract.ts'
import type { IngestMetrics } from './metrics.ts'

/**
 * One message to the log, in order by device. Resolves only when it is durable; rejects with BrokenWorld when that can't
 * be had before the deadline, and then it may or may not be there. Its headers are for tools and for traces: what counts is
 * in the message.
 */
export type Append = (place: { fleet: string; deviceId: string }, value: Uint8Array) => Promise<void>

export function createAppend({ log, metrics, tracing, appendMs }: { log: Log; metrics: IngestMetrics; tracing: Tracing; appendMs: number }): Append {
  return async function append({ fleet, deviceId }, value) {
    try {
      await tracing.span(`append ${TOPIC_ACCEPTED}`, { kind: 'producer', attributes: { 'messaging.message.body.size': value.byteLength } }, () => {
        const headers = { 'overrun-contract': CONTRACT_VERSION, ...tracing.carrier() }
        return withDeadline(log.append(TOPIC_ACCEPTED, { key: `${fleet}/${deviceId}`, value, headers }), appendMs)
      })
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
