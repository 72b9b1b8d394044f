import { fork, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { BrokenWorld, messageOf } from '../service/errors.ts'
import type { Logger } from '../service/logger.ts'
import type { ClickHouseAddress } from './client.ts'
import type { FromEngine, ToEngine } from './engine.ts'

/**
 * ClickHouse without a server: the real engine (chdb) in a child process that speaks ClickHouse's HTTP protocol on
 * loopback, so that every part uses the ordinary client and one code path.
 *
 * Promise: an insert that was acknowledged survives kill -9 of the engine, of its parent and of both, and, as far as the
 * disk honours fsync, a loss of power: each new part and its directory are synced before the answer (engine.xml). An
 * insert that was not acknowledged is there whole or not at all, as long as it is one block in one partition.
 * An engine that dies is started again on the same port with the same password; until then its users see connection
 * errors, which they retry. A second engine on the same directory is refused.
 */
export interface EmbeddedClickHouse {
  address: ClickHouseAddress
  /** null while a new engine is being started. */
  readonly pid: number | null
  /** Finishes what runs, then ends the engine. */
  stop(): Promise<void>
  /** SIGKILL, as the kernel might at any moment; the engine is started again. */
  kill(): void
  /** Resolves when there is no engine any more and none will be started. */
  exited: Promise<{ reason: string }>
}

const ENGINE = fileURLToPath(new URL('./engine.ts', import.meta.url))
const START_TIMEOUT_MS = 60_000
const STOP_TIMEOUT_MS = 10_000
const MAX_BACKOFF_MS = 5_000
/** What the engine says on standard error when the directory's lock is taken; its exception says only that it failed. */
const DIRECTORY_LOCKED = /^Code: 76\. .*Cannot lock file/

export async function startEmbeddedClickHouse({ directory, logger, memoryLimitBytes = 768 * 1024 * 1024 }: {
  directory: string
  logger: Logger
  /** For everything that the engine holds at once; one statement may have a third of it. */
  memoryLimitBytes?: number
}): Promise<EmbeddedClickHouse> {
  await mkdir(directory, { recursive: true })
  const password = randomBytes(24).toString('base64url')
  const launch = (port: number) => launchEngine({ kind: 'start', directory, port, password, memoryLimitBytes }, logger)

  let stopping = false
  let engine: Engine | null = await launch(0)
  const { port } = engine
  const exited = supervise()

  return {
    address: { url: `http://127.0.0.1:${port}`, username: 'default', password, database: 'default' },
    get pid() { return engine?.child.pid ?? null },
    kill: () => void engine?.child.kill('SIGKILL'),
    exited,
    async stop() {
      stopping = true
      if (engine) await endEngine(engine)
      await exited
    },
  }

  async function supervise(): Promise<{ reason: string }> {
    while (engine) {
      const how = await engine.exited
      engine = null
      if (stopping) return { reason: 'stopped' }
      logger.error({ stage: 'clickhouse', slug: 'engine-died', how }, 'the embedded engine died; starting it again')
      const failure = await restart()
      if (failure) return { reason: failure }
    }
    return { reason: 'stopped' }
  }

  /** Null once an engine runs or nobody wants one; else why there will be none. */
  async function restart(): Promise<string | null> {
    for (let backoff = 50; !stopping; backoff = Math.min(backoff * 2, MAX_BACKOFF_MS)) {
      try {
        const next = await launch(port)
        engine = next
        if (stopping) await endEngine(next)
        return null
      } catch (error) {
        logger.error({ stage: 'clickhouse', slug: 'engine-not-started', reason: messageOf(error) }, 'the embedded engine does not start')
        if (error instanceof BrokenWorld && !error.retryable) return error.message
        await delay(backoff)
      }
    }
    return null
  }
}

interface Engine { child: ChildProcess; port: number; exited: Promise<string> }

async function launchEngine(start: Extract<ToEngine, { kind: 'start' }>, logger: Logger): Promise<Engine> {
  const child = fork(ENGINE, [], {
    env: engineEnvironment(start.memoryLimitBytes),
    execArgv: ['--max-old-space-size=192', '--max-semi-space-size=4', '--disable-warning=ExperimentalWarning'],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'json',
  })
  const exited = new Promise<string>((resolve) => child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`)))
  const answered = new Promise<FromEngine>((resolve) => child.once('message', (message) => resolve(message as FromEngine)))
  child.on('error', () => {})
  let locked = false
  const stderr = createInterface({ input: child.stderr ?? Readable.from([]) }).on('line', (line) => {
    locked ||= DIRECTORY_LOCKED.test(line)
    logger.warn({ stage: 'clickhouse', slug: 'engine-said', line: line.slice(0, 1000) }, 'the embedded engine wrote to standard error')
  })
  const everythingSaid = once(stderr, 'close')
  if (child.connected) child.send(start, () => {})

  const timeout = AbortSignal.timeout(START_TIMEOUT_MS)
  const answer = await Promise.race([
    answered,
    exited.then((how): FromEngine => ({ kind: 'failed', message: `it ended while starting: ${how}` })),
    new Promise<FromEngine>((resolve) => timeout.addEventListener('abort', () => resolve({ kind: 'failed', message: `no answer within ${START_TIMEOUT_MS / 1000} s` }), { once: true })),
  ])
  if (answer.kind === 'ready') return { child, port: answer.port, exited }
  child.kill('SIGKILL')
  await everythingSaid
  throw locked
    ? new BrokenWorld('clickhouse-directory-in-use', `embedded ClickHouse: ${start.directory} is used by another process; end it or choose another directory`, { retryable: false, cause: answer.message })
    : new BrokenWorld('clickhouse-not-started', `embedded ClickHouse did not start on ${start.directory}: ${answer.message}`, { retryable: true, cause: answer.message })
}

/** Nothing of the parent's. Both allocators (the engine's and Node's) give memory back soon rather than keep it. */
const engineEnvironment = (memoryLimitBytes: number): NodeJS.ProcessEnv => ({
  TZ: 'UTC',
  OVERRUN_ENGINE_MEMORY: String(memoryLimitBytes),
  UV_THREADPOOL_SIZE: '8',
  MALLOC_CONF: 'dirty_decay_ms:500,muzzy_decay_ms:0,narenas:4',
  MALLOC_ARENA_MAX: '2',
})

async function endEngine(engine: Engine): Promise<void> {
  const stop: ToEngine = { kind: 'stop' }
  if (engine.child.connected) engine.child.send(stop, () => {})
  const ended = new AbortController()
  const lastResort = delay(STOP_TIMEOUT_MS, undefined, { signal: ended.signal }).then(() => engine.child.kill('SIGKILL'), () => false)
  await engine.exited
  ended.abort()
  await lastResort
}
