import { spawn, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { cleanEnvironment } from '../system/overrun-process.ts'
import { processesOf } from '../system/processes.ts'

/** One `overrun` command as a process of its own: hurt, ended and started again, always the same way. */
export interface Part {
  readonly name: string
  readonly pid: number | null
  /** What it wrote to standard error, the newest last. */
  readonly said: readonly string[]
  /** Its line of JSON. */
  readonly ready: Readonly<Record<string, string>>
  /** How it ended, once it has. */
  readonly gone: Promise<string>
  /** Rejects when it ends before it is ready. `wrap` is put before the command, `env` beside the environment. */
  start(options?: { wrap?: readonly string[]; env?: Record<string, string> }): Promise<void>
  /** To it and its children; or to those of them whose command line matches. */
  signal(signal: NodeJS.Signals, which?: RegExp): void
  /** -9, as the kernel might. */
  kill(which?: RegExp): Promise<void>
  /** SIGTERM; how it ended. */
  stop(): Promise<string>
}

const ROOT = join(import.meta.dirname, '..', '..')
const START_MS = 90_000

export function createPart(name: string, command: readonly string[], environment: Record<string, string> = {}): Part {
  const said: string[] = []
  let child: ChildProcess | null = null
  let gone = Promise.resolve('never started')
  let ready: Record<string, string> = {}

  const running = () => (child !== null && child.exitCode === null && child.signalCode === null ? child.pid as number : null)

  async function start({ wrap = [], env = {} }: Parameters<Part['start']>[0] = {}): Promise<void> {
    const [file = '', ...args] = [...wrap, process.execPath, 'overrun.ts', ...command, '--json']
    const started = child = spawn(file, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], detached: true, env: cleanEnvironment({ ...environment, ...env }) })
    const end = () => { try { process.kill(-started.pid!, 'SIGKILL') } catch { /* Gone already. */ } }
    process.once('exit', end)
    gone = new Promise((resolve) => started.once('close', (code, signal) => {
      process.off('exit', end)
      resolve(signal ?? `exit code ${code}`)
    }))
    createInterface({ input: started.stderr! }).on('line', (line) => {
      said.push(line)
      if (said.length > 500) said.shift()
    })
    const line = new Promise<string>((resolve) => createInterface({ input: started.stdout! }).once('line', resolve))
    const timer = setTimeout(end, START_MS)
    const first = await Promise.race([line, gone.then((how) => { throw new Error(`${name} ended (${how}) before it was ready:\n${said.slice(-5).join('\n')}`) })]).finally(() => clearTimeout(timer))
    ready = JSON.parse(first) as typeof ready
  }

  function signal(what: NodeJS.Signals, which?: RegExp): void {
    const pid = running()
    if (pid === null) return
    if (which === undefined) return void process.kill(-pid, what)
    for (const { pid: one, command: line } of processesOf(pid)) if (which.test(line)) process.kill(one, what)
  }

  return {
    name, said, start, signal,
    get pid() { return running() },
    get ready() { return ready },
    get gone() { return gone },
    async kill(which) {
      signal('SIGKILL', which)
      if (which === undefined && child !== null) await gone
    },
    async stop() {
      const pid = running()
      if (pid !== null) process.kill(pid, 'SIGTERM')
      return gone
    },
  }
}
