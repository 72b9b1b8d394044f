import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** A command of ours that runs until it is told to stop, as a process of its own: what it printed when it was ready, and its log. */
export interface OverrunProcess {
  pid: number
  /** ingest_url, dashboard_url, ops_url, token: what the command says with --json. */
  ready: Record<string, string>
  /** The last lines of its log. */
  log(): string
  /** SIGTERM; resolves with its exit code and how long it took. */
  stop(): Promise<{ code: number | null; ms: number }>
  /** SIGKILL. */
  kill(): Promise<void>
  /** How it ended, once it has: a signal, or `exit code N`. */
  exited: Promise<string>
}

const ROOT = join(import.meta.dirname, '..', '..')

/** Nothing of our own environment that is meant for us: a variable that is no setting stops a command. */
export const cleanEnvironment = (more: Record<string, string> = {}): Record<string, string> =>
  ({ ...Object.fromEntries(Object.entries(process.env).filter(([name, value]) => value !== undefined && !/^(OVERRUN|OTEL)_/.test(name))), ...more } as Record<string, string>)

export async function startOverrun(args: readonly string[], env: Record<string, string> = {}, { timeoutMs = 60_000 } = {}): Promise<OverrunProcess> {
  const child = spawn(process.execPath, ['overrun.ts', ...args, '--json'], { cwd: ROOT, env: cleanEnvironment(env), stdio: ['ignore', 'pipe', 'pipe'] })
  const killWithUs = () => child.kill('SIGKILL')
  process.once('exit', killWithUs)
  const exited = new Promise<string>((resolve) => child.once('close', (code, signal) => {
    process.off('exit', killWithUs)
    resolve(signal ?? `exit code ${code}`)
  }))
  let text = ''
  child.stderr.on('data', (chunk: Buffer) => { text = (text + chunk.toString()).slice(-100_000) })
  const log = () => text
  const ready = await untilReady(child, args, timeoutMs, log)
  return {
    pid: child.pid!, ready, log, exited,
    async stop() {
      const from = performance.now()
      await end(child, 'SIGTERM')
      return { code: child.exitCode, ms: performance.now() - from }
    },
    kill: () => end(child, 'SIGKILL'),
  }
}

async function untilReady(child: ChildProcess, args: readonly string[], timeoutMs: number, log: () => string): Promise<Record<string, string>> {
  const said = new Promise<Record<string, string>>((resolve, reject) => {
    createInterface({ input: child.stdout! }).on('line', (line) => { if (line.startsWith('{')) resolve(JSON.parse(line) as Record<string, string>) })
    child.once('exit', (code, signal) => reject(new Error(`overrun ${args.join(' ')} ended (${code ?? signal}) before it was ready:\n${log().slice(-3_000)}`)))
    setTimeout(() => reject(new Error(`overrun ${args.join(' ')} was not ready in time:\n${log().slice(-3_000)}`)), timeoutMs).unref()
  })
  try {
    return await said
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill(signal)
  await once(child, 'exit')
}
