import { setTimeout as delay } from 'node:timers/promises'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import type { Clock } from '../infra/service/clock.ts'
import { messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import { arrivalsSince } from './queries/arrivals.ts'

/**
 * Symbols are taken by a dashboard and needed by workers, which may be other processes: the dashboard writes an event
 * once the file is in the blob store, and each worker looks for new ones here. So a word that is lost on the way can't be;
 * what happened before a worker got its partitions is found by its sweep (reprocess.ts).
 *
 * Each arrival is told twice: at once, and again when every analysis that began with the old answer is over (`settleMs`),
 * whoever made it; crashes that stand on the dump of another worker's crash follow it then. The second time finds nobody
 * waiting when the first was enough. Times are of events as their dashboards wrote them, so a clock that is minutes late
 * is overlapped.
 */
export interface Arrivals {
  start(): void
  /** Looks now: for a dashboard in the same process. */
  look(): void
  stop(): Promise<void>
}

const OVERLAP_MS = 10 * 60_000

export function createArrivals({ clickhouse, clock, logger, pollMs, settleMs, onArrival }: {
  clickhouse: ClickHouse
  clock: Clock
  logger: Logger
  pollMs: number
  settleMs: number
  onArrival(debugIds: readonly string[]): Promise<unknown>
}): Arrivals {
  const stopped = new AbortController()
  let awake = new AbortController()
  let newest = clock.now()
  /** Of the last minutes, so that the overlap tells nobody twice. */
  let seen = new Map<string, number>()
  let again: { debugIds: string[]; due: number }[] = []
  let away = false
  let loop: Promise<void> | undefined

  async function round(): Promise<void> {
    const found = (await arrivalsSince(clickhouse, newest - OVERLAP_MS)).filter(({ hash }) => !seen.has(hash))
    const due = again.filter((arrival) => arrival.due <= performance.now())
    const debugIds = [...new Set([...found.flatMap(({ names }) => names), ...due.flatMap((arrival) => arrival.debugIds)])]
    if (debugIds.length > 0) await onArrival(debugIds)
    again = again.filter((arrival) => !due.includes(arrival))
    if (found.length > 0) again.push({ debugIds: [...new Set(found.flatMap(({ names }) => names))], due: performance.now() + settleMs })
    newest = Math.max(newest, ...found.map(({ at }) => at))
    seen = new Map([...seen, ...found.map(({ hash, at }) => [hash, at] as const)].filter(([, at]) => at >= newest - OVERLAP_MS))
  }

  async function runUntilStopped(): Promise<void> {
    while (!stopped.signal.aborted) {
      try {
        await round()
        away = false
      } catch (error) {
        if (!away && !stopped.signal.aborted) logger.warn({ stage: 'reprocess', reason: messageOf(error) }, 'could not look for symbols that have arrived; it is tried again')
        away = true
      }
      await delay(pollMs, undefined, { signal: AbortSignal.any([stopped.signal, awake.signal]), ref: false }).catch(() => {})
      awake = awake.signal.aborted ? new AbortController() : awake
    }
  }

  return {
    start() { loop ??= runUntilStopped() },
    look: () => awake.abort(),
    async stop() {
      stopped.abort()
      await Promise.race([loop, delay(1000, undefined, { ref: false })])
    },
  }
}
