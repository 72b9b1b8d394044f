/**
 * One clock is handed to ingest, worker and detectors, and SQL gets {now} as a bound parameter, never now().
 * So a demo can play two weeks through the front door in a minute, and a replay over the past is the same code.
 * Time-outs, retries and back-off are about this machine, not about the story: they use real timers, not this clock.
 */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number
}

export const systemClock: Clock = { now: () => Date.now() }

/** A clock that stands still until it is moved; it never goes back. */
export function createManualClock(start: number): Clock & { set(ms: number): void; advance(ms: number): void } {
  let at = start
  return {
    now: () => at,
    set(ms) { if (ms > at) at = ms },
    advance(ms) { if (ms > 0) at += ms },
  }
}
