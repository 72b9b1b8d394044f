/**
 * The long form: 100,000 inputs for each parser, each parser in a child process of its own whose parent kills it when one
 * input takes longer than 2 s; the next child goes on behind it. Seconds are the child's processor time, so that a busy
 * machine fails nobody; who waits without using any is killed after 30 s of the clock. Prints one row a parser, exits with 1
 * on failures.
 *
 *   node test/fuzz/long.ts [--inputs 100000] [--from 0] [target ...]
 *   node test/fuzz/long.ts --only 4711 minidump          one input, to look at
 */
import { spawn } from 'node:child_process'
import { readFileSync, writeSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { createInputs, runInput } from './round.ts'
import { TARGETS, targetOf, type Target } from './targets.ts'

export const LIMIT_MS = 2_000
const WALL_MS = 30_000
/** As much as a parser's child has in production, by default. */
const HEAP_MIB = 256
const RSS_LIMIT = 512 * 1024 * 1024
const REPORTS = 3

interface Failure { index: number; what: string }
export interface Row { target: string; inputs: number; slowestMs: number; slowestIndex: number; peakRss: number; failures: Failure[]; failed: number; seconds: number }

/** What the child says on its third descriptor, a line each. */
type Line = { at: number } | { failure: Failure } | { slowestMs: number; slowestIndex: number; peakRss: number; done: boolean }

export async function fuzz(target: string, inputs: number, from = 0): Promise<Row> {
  const row: Row = { target, inputs, slowestMs: 0, slowestIndex: -1, peakRss: 0, failures: [], failed: 0, seconds: 0 }
  const started = Date.now()
  const fail = (failure: Failure): void => {
    row.failed++
    if (row.failures.length < REPORTS) row.failures.push(failure)
  }
  let next = from
  /** An input whose child ended gets a second chance: somebody else may have ended it. */
  let tried = -1
  while (next < from + inputs) {
    const end = await runChild(target, next, from + inputs, (line) => {
      if ('failure' in line) fail(line.failure)
      if ('peakRss' in line) {
        row.peakRss = Math.max(row.peakRss, line.peakRss)
        if (line.slowestMs > row.slowestMs) Object.assign(row, { slowestMs: line.slowestMs, slowestIndex: line.slowestIndex })
      }
    })
    if (end.done) break
    if (end.at === tried) {
      fail({ index: end.at, what: end.why })
      row.slowestMs = Math.max(row.slowestMs, end.why === TOO_SLOW ? LIMIT_MS : 0)
      next = end.at + 1
    } else {
      tried = end.at
      next = end.at
    }
  }
  row.seconds = (Date.now() - started) / 1000
  return row
}

const TOO_SLOW = `longer than ${LIMIT_MS} ms`

function runChild(target: string, from: number, to: number, hear: (line: Line) => void): Promise<{ done: boolean; at: number; why: string }> {
  const child = spawn(process.execPath, [`--max-old-space-size=${HEAP_MIB}`, '--max-semi-space-size=16', import.meta.filename, '--child', '--from', String(from), '--inputs', String(to - from), target], { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] })
  let at = from
  let since = Infinity
  let used = 0
  let done = false
  let why = ''
  let errors = ''
  let rest = ''
  child.stderr!.on('data', (chunk: Buffer) => { errors = (errors + chunk.toString()).slice(-2000) })
  child.stdio[3]!.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n')
    rest = lines.pop()!
    for (const text of lines) {
      const line = JSON.parse(text) as Line
      if ('at' in line) { at = line.at; since = performance.now(); used = -1 } else hear(line)
      if ('done' in line) done = line.done
    }
  })
  const watch = setInterval(() => {
    const waited = performance.now() - since
    if (waited < LIMIT_MS / 2) return
    // What it had used when it was first looked at counts too: at most the half of the limit before now.
    const now = processorMs(child.pid)
    if (used < 0) used = now - Math.min(waited, LIMIT_MS / 2)
    if (now - used < LIMIT_MS && waited < WALL_MS) return
    why = TOO_SLOW
    child.kill('SIGKILL')
  }, 50)
  return new Promise((resolve) => child.on('close', (code, signal) => {
    clearInterval(watch)
    resolve({ done, at, why: why || `the process ended with ${signal ?? code}: ${errors.trim().split('\n').slice(-12).join(' | ')}` })
  }))
}

/** User and system time of a process: fields 14 and 15 of /proc/PID/stat, in hundredths of a second. */
function processorMs(pid: number | undefined): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ')
    return (Number(fields[11]) + Number(fields[12])) * 10
  } catch {
    return 0
  }
}

/** In the child: says each input's number before it is run, so that its parent knows which one hangs. */
async function serve(target: Target, from: number, inputs: number): Promise<void> {
  const say = (line: Line): void => { writeSync(3, `${JSON.stringify(line)}\n`) }
  const input = createInputs(target)
  let [slowestMs, slowestIndex] = [0, -1]
  const state = (done: boolean): Line => ({ slowestMs, slowestIndex, peakRss: process.resourceUsage().maxRSS * 1024, done })
  // What is prepared once and compiled once is nobody's time.
  await runInput(target, input(from))
  for (let index = from; index < from + inputs; index++) {
    const bytes = input(index)
    say({ at: index })
    const start = process.cpuUsage()
    const what = await runInput(target, bytes)
    const { user, system } = process.cpuUsage(start)
    const took = (user + system) / 1000
    if (took > slowestMs) [slowestMs, slowestIndex] = [took, index]
    if (what !== null) say({ failure: { index, what } })
    if (index % 1000 === 999) say(state(false))
  }
  say(state(true))
}

export function describeRow({ target, inputs, slowestMs, slowestIndex, peakRss, failed, failures, seconds }: Row): string {
  const mib = peakRss / 2 ** 20
  const row = `${target.padEnd(14)} ${String(inputs).padStart(7)} inputs in ${seconds.toFixed(0)} s, slowest ${slowestMs.toFixed(0)} ms (#${slowestIndex}), peak RSS ${mib.toFixed(0)} MiB, ${failed} failures`
  return [row, ...failures.map(({ index, what }) => `  #${index}: ${what}`)].join('\n')
}

export const isGood = ({ failed, peakRss }: Row): boolean => failed === 0 && peakRss < RSS_LIMIT

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true, options: { inputs: { type: 'string', default: '100000' }, from: { type: 'string', default: '0' }, only: { type: 'string' }, child: { type: 'boolean' } },
  })
  const names = positionals.length > 0 ? positionals : TARGETS.map(({ name }) => name)
  if (values.child) return serve(targetOf(names[0]!)!, Number(values.from), Number(values.inputs))
  if (values.only !== undefined) {
    const target = targetOf(names[0]!)!
    console.log(await runInput(target, createInputs(target)(Number(values.only))) ?? 'nothing is wrong with it')
    return
  }
  for (const name of names) {
    const row = await fuzz(name, Number(values.inputs), Number(values.from))
    console.log(describeRow(row))
    if (!isGood(row)) process.exitCode = 1
  }
}

if (process.argv[1] === import.meta.filename) await main()
