import { spawn } from 'node:child_process'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'
import { messageOf } from '../../infra/service/errors.ts'
import type { ModuleIdentity } from '../symbols/source.ts'
import { checkAnswer } from './answers.ts'
import { createFrameReader, send, type Answer, type Located, type Order } from './wire.ts'

/**
 * One parser's child and its warden. The child has an empty environment, Node's --permission with read access to the
 * code and the symbol cache only, two pipes and no other descriptor, no core dump and a limit on processor time that
 * holds even when the warden is gone. The warden kills it past the time or memory budget and at the first answer that is
 * not of the agreed shape: what is lost is this one job. A worker thread would be no wall: its limits don't bound buffers.
 * --permission does not cover sockets in Node 24; what the child knows to tell is the dump and the symbols alone.
 */
export interface WardenOptions {
  /** The only folder beside the code that the child may read; null where a job needs none. */
  cacheDirectory: string | null
  memoryBytes: number
  answerBytes: number
  /** What the child runs; tests put a hostile one here. */
  program?: string
}

export interface Asked { symbols(module: ModuleIdentity): Promise<Located>; map(debugId: string): Promise<string | null> }

export type JobEnd =
  | Extract<Answer, { t: 'analysis' | 'prepared' | 'unusable' | 'refused' }>
  /** `died` may be the machine's doing, the other two are the dump's; `preempted` is the pool's. */
  | { t: 'killed'; why: 'time' | 'memory' | 'protocol' | 'died' | 'preempted'; reason: string }
  /** Symbols could not be looked up because the world is broken: not the dump's fault. */
  | { t: 'broken'; error: unknown }

export interface Warden {
  readonly pid: number
  /** It was told to die, and takes no job any more. */
  readonly doomed: boolean
  /** Resolves once the child has loaded its code; rejects when it never will. */
  readonly ready: Promise<void>
  readonly gone: Promise<void>
  /** `timeMs` is the child's own time: the clock stands while the parent looks up what the child asked for. */
  run(order: Order, asked: Asked, timeMs: number): Promise<JobEnd>
  kill(why: 'preempted', reason: string): void
}

const MAX_ASKS = 16_384
const POLL_MS = 25
const START_MS = 30_000
const root = realpathSync(fileURLToPath(new URL('../..', import.meta.url)))
const PARSER = fileURLToPath(new URL('./child.ts', import.meta.url))
// A folder that is a link (node_modules often is) has to be readable by both its names.
const readable = ['symbolicate', 'ingest', 'infra/service', 'node_modules', 'package.json'].map((path) => join(root, path)).flatMap((path) => [...new Set([path, realpathSync(path)])])

export function startWarden({ cacheDirectory, memoryBytes, answerBytes, program = PARSER }: WardenOptions): Warden {
  const folders = [...readable, ...(program === PARSER ? [] : [program]), ...(cacheDirectory === null ? [] : [realpathSync(cacheDirectory)])]
  const heapMb = Math.max(32, Math.floor(memoryBytes / 2 / 2 ** 20))
  const node = [process.execPath, '--permission', ...folders.map((folder) => `--allow-fs-read=${folder}`), '--disallow-code-generation-from-strings',
    '--v8-pool-size=1', '--max-semi-space-size=16', `--max-old-space-size=${heapMb}`, program, String(answerBytes)]
  // The shell sets two limits and becomes Node: no core file with a device's memory in it, and no orphan that spins for
  // ever. It adds PWD to the empty environment; env -i takes it away again.
  const spawned = spawn('/bin/sh', ['-c', 'ulimit -c 0; ulimit -t 300; exec env -i "$@"', 'parser', ...node], { env: {}, stdio: ['pipe', 'pipe', 'ignore'], detached: true, cwd: '/' })
  const pid = spawned.pid ?? 0

  type Running = { resolve(end: JobEnd): void; asked: Asked; asks: number; answering: Promise<void>; clock: ReturnType<typeof createBudgetClock>; poll: NodeJS.Timeout }
  let running: Running | null = null
  let fate: Extract<JobEnd, { t: 'killed' | 'broken' }> | null = null
  const started = Promise.withResolvers<void>()
  started.promise.catch(() => {})
  const ended = Promise.withResolvers<void>()
  const startTimer = setTimeout(() => doom({ t: 'killed', why: 'died', reason: `parser not ready after ${START_MS} ms` }), START_MS)

  function finish(end: JobEnd) {
    if (running === null) return
    clearInterval(running.poll)
    running.clock.stop()
    const { resolve } = running
    running = null
    resolve(end)
  }

  function doom(why: NonNullable<typeof fate>) {
    fate ??= why
    try {
      process.kill(-pid, 'SIGKILL')
    } catch {
      spawned.kill('SIGKILL')
    }
  }

  function hear(answer: Answer) {
    if (answer.t === 'ready') {
      clearTimeout(startTimer)
      return started.resolve()
    }
    if (running === null) return doom({ t: 'killed', why: 'protocol', reason: `parser said ${answer.t} without a job` })
    if (answer.t !== 'symbols?' && answer.t !== 'map?') return finish(answer)
    const job = running
    if (++job.asks > MAX_ASKS) return doom({ t: 'killed', why: 'protocol', reason: `parser asked for more than ${MAX_ASKS} files` })
    job.clock.pause()
    job.answering = job.answering.then(async () => {
      const order: Order = answer.t === 'symbols?'
        ? { t: 'symbols', ...(await job.asked.symbols({ debugFile: answer.debugFile, debugId: answer.debugId, codeId: answer.codeId, elfSha256: answer.elfSha256 ?? null, linked: answer.linked ?? false })) }
        : { t: 'map', path: await job.asked.map(answer.debugId) }
      if (running !== job) return
      job.clock.resume()
      send(spawned.stdin, order)
    }).catch((error: unknown) => doom({ t: 'broken', error }))
  }

  const reader = createFrameReader(answerBytes)
  spawned.stdout.on('data', (chunk: Buffer) => {
    if (fate !== null) return
    try {
      for (const message of reader.push(chunk)) hear(checkAnswer(message))
    } catch (error) {
      doom({ t: 'killed', why: 'protocol', reason: `parser: ${messageOf(error)}` })
    }
  })
  // A child that is gone closes its pipe while we write; `close` tells the story.
  spawned.stdin.on('error', () => {})
  spawned.on('error', (error) => started.reject(error))
  spawned.on('close', (code, signal) => {
    clearTimeout(startTimer)
    const end = fate ?? { t: 'killed', why: 'died', reason: `parser ended by itself: ${signal ?? `exit code ${code}`}` }
    started.reject(new Error(end.t === 'killed' ? end.reason : messageOf(end.error)))
    finish(end)
    ended.resolve()
  })

  return {
    pid,
    get doomed() { return fate !== null },
    ready: started.promise,
    gone: ended.promise,
    run(order, asked, timeMs) {
      if (running !== null) throw new Error('one job at a time')
      return new Promise((resolve) => {
        running = {
          resolve, asked, asks: 0, answering: Promise.resolve(),
          clock: createBudgetClock(timeMs, () => doom({ t: 'killed', why: 'time', reason: `parser killed after ${timeMs} ms` })),
          poll: setInterval(() => {
            const held = residentBytes(pid)
            if (held > memoryBytes) doom({ t: 'killed', why: 'memory', reason: `parser killed at ${held >> 20} MiB of memory, at most ${memoryBytes >> 20} are allowed` })
          }, POLL_MS),
        }
        if (fate !== null || spawned.exitCode !== null || spawned.signalCode !== null) return finish({ t: 'killed', why: 'died', reason: 'parser was gone before the job' })
        send(spawned.stdin, order)
      })
    },
    kill: (why, reason) => doom({ t: 'killed', why, reason }),
  }
}

/** Calls `expired` once the clock has run for `ms`, pauses not counted. */
function createBudgetClock(ms: number, expired: () => void) {
  let left = ms
  let since = performance.now()
  let pauses = 0
  let timer: NodeJS.Timeout | null = setTimeout(expired, left)
  const stop = () => {
    if (timer !== null) clearTimeout(timer)
    timer = null
  }
  return {
    stop,
    pause() {
      if (pauses++ > 0) return
      stop()
      left -= performance.now() - since
    },
    resume() {
      if (--pauses > 0) return
      since = performance.now()
      timer = setTimeout(expired, Math.max(0, left))
    },
  }
}

const procfs = existsSync('/proc/self/status')

/** 0 where the system has no /proc: there the heap limit and the time budget are what holds. */
function residentBytes(pid: number): number {
  if (!procfs) return 0
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}
