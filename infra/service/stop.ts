import { messageOf } from './errors.ts'

/**
 * Stops parts in the reverse order of their start, all within ten seconds, also when one of them fails: what is
 * acknowledged is durable already, so a stop that takes longer protects nothing.
 */
export interface Stopper {
  add(name: string, stop: () => Promise<void> | void): void
  stop(): Promise<void>
}

export function createStopper(onError: (name: string, message: string) => void, limitMs = 8_000): Stopper {
  const parts: { name: string; stop: () => Promise<void> | void }[] = []
  let stopping: Promise<void> | null = null
  return {
    /** What is still started while all is being stopped is stopped too. */
    add(name, stop) {
      parts.push({ name, stop })
      if (stopping !== null) stopping = stopping.then(() => stopOne({ name, stop }, 1_000))
    },
    stop: () => (stopping ??= stopAll()),
  }

  async function stopAll(): Promise<void> {
    const deadline = Date.now() + limitMs
    for (const part of parts.toReversed()) await stopOne(part, Math.max(200, deadline - Date.now()))
  }

  async function stopOne({ name, stop }: { name: string; stop: () => Promise<void> | void }, left: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => { timer = setTimeout(() => reject(new Error(`did not stop within ${left} ms`)), left) })
    try {
      await Promise.race([Promise.resolve(stop()), late])
    } catch (error) {
      onError(name, messageOf(error))
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Calls `stop` once on SIGTERM or SIGINT, then ends the process; a second signal ends it at once. */
export function stopOnSignal(stop: () => Promise<void>): void {
  for (const [signal, code] of [['SIGTERM', 143], ['SIGINT', 130]] as const) {
    process.once(signal, () => {
      process.once(signal, () => process.exit(code))
      void stop().finally(() => process.exit(signal === 'SIGTERM' ? 0 : code))
    })
  }
}
