import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { connectClickHouse } from '../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import { quietLogger, rowsOf } from '../infra/clickhouse-fixture.ts'
import { freePorts } from '../system/java.ts'
import { processesOf } from '../system/processes.ts'
import type { Fleet } from '../../ingest/device/fleet.ts'
import type { Counted } from './oracle.ts'

/**
 * `overrun start`, as a user runs it, on a folder and ports of its own, to be hurt: killed whole or in parts, stopped,
 * started again, started under a wrapper (a limit, a tracer, another clock).
 */
export interface Embedded {
  readonly directory: string
  readonly url: string
  /** What it wrote to standard error, the newest last. */
  readonly said: readonly string[]
  readonly pid: number | null
  /** Starts it (again); `wrap` is put before the command, `env` beside the environment. Rejects when it ends before it is ready. */
  start(options?: { wrap?: readonly string[]; env?: Record<string, string> }): Promise<void>
  /** -9 to the whole group, as a power cut would; or to the parts whose command line matches. */
  kill(part?: RegExp): Promise<void>
  signal(signal: NodeJS.Signals, part?: RegExp): void
  /** SIGTERM; how it ended. */
  stop(): Promise<string>
  /** How it ended, once it has. */
  readonly gone: Promise<string>
  api<T>(path: string, body?: unknown): Promise<T>
  trust(fleet: Fleet): Promise<void>
  /** Reads what was counted from its folder; only when it does not run. */
  counted(): Promise<Counted>
  remove(): Promise<void>
}

const ROOT = join(import.meta.dirname, '..', '..')
const START_MS = 60_000

export async function createEmbedded({ at = mkdtempSync(join(tmpdir(), 'overrun-faults-')) } = {}): Promise<Embedded> {
  const directory = join(at, 'data')
  const [ingestPort, dashboardPort] = await freePorts(2)
  const said: string[] = []
  let child: ChildProcess | null = null
  let gone = Promise.resolve('never started')
  let ready: { ingest_url: string; dashboard_url: string; token: string } | null = null

  const isRunning = () => child !== null && child.exitCode === null && child.signalCode === null

  async function start({ wrap = [], env = {} }: Parameters<Embedded['start']>[0] = {}): Promise<void> {
    const command = [...wrap, process.execPath, 'overrun.ts', 'start', '--data', directory, '--ingest-port', String(ingestPort), '--dashboard-port', String(dashboardPort), '--json']
    const started = child = spawn(command[0]!, command.slice(1), { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], detached: true, env: { ...process.env, ...env } })
    const kill = () => { try { process.kill(-started.pid!, 'SIGKILL') } catch { /* Gone already. */ } }
    process.once('exit', kill)
    gone = new Promise((resolve) => started.once('close', (code, signal) => {
      process.off('exit', kill)
      resolve(signal ?? `exit code ${code}`)
    }))
    createInterface({ input: started.stderr! }).on('line', (line) => {
      said.push(line)
      if (said.length > 500) said.shift()
    })
    const line = new Promise<string>((resolve) => createInterface({ input: started.stdout! }).once('line', resolve))
    const timer = setTimeout(kill, START_MS)
    const first = await Promise.race([line, gone.then((how) => { throw new Error(`it ended (${how}) before it was ready:\n${said.slice(-5).join('\n')}`) })]).finally(() => clearTimeout(timer))
    ready = JSON.parse(first) as typeof ready
  }

  function signal(name: NodeJS.Signals, part?: RegExp): void {
    if (!isRunning()) return
    if (part === undefined) return void process.kill(-child!.pid!, name)
    for (const { pid, command } of processesOf(child!.pid!)) if (part.test(command)) process.kill(pid, name)
  }

  async function api<T>(path: string, body?: unknown): Promise<T> {
    if (ready === null) throw new Error('it was never ready')
    const response = await fetch(new URL(`/api/v1${path}`, ready.dashboard_url), {
      headers: { authorization: `Bearer ${ready.token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(20_000),
    })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${(await response.text()).slice(0, 300)}`)
    return await response.json() as T
  }

  return {
    directory,
    url: `http://127.0.0.1:${ingestPort}`,
    said,
    get pid() { return isRunning() ? child!.pid! : null },
    get gone() { return gone },
    start, signal, api,
    async kill(part) {
      signal('SIGKILL', part)
      if (part === undefined && child !== null) await gone
    },
    async stop() {
      if (isRunning()) process.kill(child!.pid!, 'SIGTERM')
      return gone
    },
    async trust(fleet) {
      await api('/fleets/default/anchors', { pem: fleet.ca.pem, key_protection: 'software' })
    },
    async counted() {
      const engine = await untilFree(() => startEmbeddedClickHouse({ directory: join(directory, 'clickhouse'), logger: quietLogger }))
      const clickhouse = connectClickHouse(engine.address, 'overrun-faults')
      try {
        return await countedIn((query) => rowsOf(clickhouse, query))
      } finally {
        await clickhouse.close()
        await engine.stop()
      }
    },
    async remove() {
      if (isRunning()) signal('SIGCONT')
      signal('SIGKILL')
      await gone
      await rm(at, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

/** The engine of a process that was killed a moment ago still holds the folder. */
async function untilFree<T>(open: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await open()
    } catch (error) {
      if (tries === 50) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

/** The tables as they are: each id, how often, and the dead letters. */
export async function countedIn(rows: (query: string) => Promise<unknown[]>): Promise<Counted> {
  const crashes = await rows('SELECT id, count() AS n, any(standing) AS standing FROM crashes FINAL GROUP BY id') as { id: string; n: string; standing: string }[]
  const letters = await rows('SELECT slug, count() AS n FROM dead_letters FINAL GROUP BY slug') as { slug: string; n: string }[]
  return {
    crashes: new Map(crashes.map(({ id, n }) => [id, Number(n)])),
    standings: new Set(crashes.map(({ standing }) => standing)),
    letters: new Map(letters.map(({ slug, n }) => [slug, Number(n)])),
  }
}
