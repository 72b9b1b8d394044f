import type { OverrunProcess } from '../system/overrun-process.ts'
import { processesOf } from '../system/processes.ts'

/** One `overrun` command as a process that is hurt, ended and started again, always the same way. */
export interface Part {
  readonly name: string
  readonly pid: number | null
  /** The last lines of its log, since its last start. */
  readonly said: string
  /** Its line of JSON. */
  readonly ready: Readonly<Record<string, string>>
  /** How it ended, once it has: a signal, or `exit code N`. */
  readonly gone: Promise<string>
  /** Rejects when it ends before it is ready. `env` stands beside its environment. */
  start(env?: Record<string, string>): Promise<void>
  /** To it and its children; or to those of them whose command line matches. */
  signal(signal: NodeJS.Signals, which?: RegExp): void
  /** -9, as the kernel might. */
  kill(which?: RegExp): Promise<void>
  /** SIGTERM; how it ended. */
  stop(): Promise<string>
}

export function createPart(name: string, start: (env: Record<string, string>) => Promise<OverrunProcess>): Part {
  let running: OverrunProcess | null = null
  let last: OverrunProcess | null = null

  function signal(what: NodeJS.Signals, which = /(?:)/): void {
    if (running === null) return
    for (const { pid, command } of processesOf(running.pid)) if (which.test(command)) send(pid, what)
  }

  return {
    name, signal,
    get pid() { return running?.pid ?? null },
    get said() { return last?.log() ?? '' },
    get ready() { return last?.ready ?? {} },
    get gone() { return last?.exited ?? Promise.resolve('never started') },
    async start(env = {}) {
      const started = running = last = await start(env)
      void started.exited.then(() => { if (running === started) running = null })
    },
    async kill(which) {
      signal('SIGKILL', which)
      if (which === undefined) await running?.exited
    },
    async stop() {
      if (running !== null) send(running.pid, 'SIGTERM')
      return last?.exited ?? 'never started'
    },
  }
}

/** What was listed a moment ago may have ended. */
function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
