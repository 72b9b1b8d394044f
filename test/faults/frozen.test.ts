import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { processesOf, type Process } from '../system/processes.ts'
import { MOST_AT_ONCE, seeded } from './devices.ts'
import type { Embedded } from './embedded.ts'
import { judge } from './oracle.ts'
import { crashesOf, long, recovered, seed, underLoad, until } from './scenario.ts'

/** Things that stop without dying: everything at once, a parser that hangs on a dump, starves or is taken away from it, and the clock. */

test('everything frozen for a while, as a paused virtual machine is', async () => {
  const times = long ? 5 : 1
  const scene = await underLoad({ random: seeded(seed) })
  for (let i = 0; i < times; i++) {
    await delay(1_000)
    scene.overrun.signal('SIGSTOP')
    await delay(long ? 10_000 : 2_000)
    scene.overrun.signal('SIGCONT')
  }
  const { seconds, counted } = await recovered(scene)
  judge('SIGSTOP of everything', { times, devices: scene.devices, counted, seconds })
}, 300_000)

/** What a dump may do to its parser. Node has reserved more than the limit here, so that the kernel refuses it whatever it asks for next, and it aborts. */
const HARMS = {
  hang: ({ pid }) => kill(pid, 'SIGSTOP'),
  'out of memory': ({ pid }) => { spawnSync('prlimit', ['--pid', String(pid), `--as=${2 ** 30}`]) },
  death: ({ pid }) => kill(pid, 'SIGKILL'),
} satisfies Record<string, (parser: Process) => void>
/** As many as sandboxSettingsSchema says. */
const PARSERS = 2
const limiting = spawnSync('prlimit', ['--version']).status === 0
test(`a parser that hangs, runs out of memory or is killed delays no other crash${limiting ? '' : ' (no prlimit: none runs out of memory)'}`, async () => {
  expect(limiting || process.env.CI !== 'true', 'prlimit is installed').toBe(true)
  const random = seeded(seed)
  const harms = Object.entries(HARMS).filter(([name]) => limiting || name !== 'out of memory')
  const times = harms.length * (long ? 17 : 2)
  const scene = await underLoad({ random })
  const { overrun, devices, devices: { latencies } } = scene
  const allWork = () => until(() => workingParsers(overrun).length === PARSERS, 'every parser works', 60_000)
  await allWork()

  const first = latencies.length
  // The API is asked as often as below: its work is part of the load.
  await until(async () => (await crashesOf(overrun)) > 0 && latencies.length >= first + (long ? 1_000 : 200), 'a quiet stretch', 60_000)
  const quiet = latencies.slice(first)

  const harmed: number[] = []
  for (let i = 0; i < times; i++) {
    const [name, harm] = harms[i % harms.length]!
    const parsers = workingParsers(overrun)
    const victim = parsers[Math.floor(random() * parsers.length)]!
    const told = latencies.length
    harm(victim)
    // A hang ends by the warden's hand, after its budget of ten seconds; meanwhile reports are taken, more than were under way, and
    // crashes are counted. After a death a batch may wait for a new parser, and on a busy machine that takes a while to start.
    const before = await crashesOf(overrun)
    await until(async () => (await crashesOf(overrun)) > before && latencies.length > told + MOST_AT_ONCE, `crashes are taken and counted after a parser's ${name}`, name === 'hang' ? 9_000 : 30_000)
    await until(async () => (await crashesOf(overrun)) > 0 && !existsSync(`/proc/${victim.pid}`), `a parser ends by its ${name}`, 60_000)
    harmed.push(...latencies.slice(told))
    // Until its successor works: to take the last one away too would be another fault.
    await allWork()
    expect(devices.answers.get(503) ?? 0).toBe(0)
  }
  const { seconds, counted } = await recovered(scene)
  const [before, during] = [percentile(quiet, 0.5), percentile(harmed, 0.5)]
  judge('parser hangs, out of memory or killed', { times, devices, counted, seconds, note: `ack p50 ${before} ms before, ${during} ms during; p95 ${percentile(quiet, 0.95)} ms before, ${percentile(harmed, 0.95)} ms during` })
  // A busy machine makes both slow; to wait for a hang would be slower than this.
  expect(during, 'median acknowledgement, ms').toBeLessThan(10 * before + 250)
}, long ? 900_000 : 300_000)

const LIBRARY = ['/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1', '/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1', '/usr/lib/faketime/libfaketime.so.1'].find(existsSync)
const faking = LIBRARY !== undefined && spawnSync('date', { env: { LD_PRELOAD: LIBRARY, FAKETIME: '+365d' } }).status === 0
test.skipIf(!faking && process.env.CI !== 'true')(`a clock that jumps a year and back${faking ? '' : ' (no libfaketime)'}`, async () => {
  expect(LIBRARY, 'libfaketime is installed').toBeDefined()
  const clock = join(mkdtempSync(join(tmpdir(), 'overrun-clock-')), 'offset')
  const set = (offset: string) => writeFileSync(clock, `${offset}\n`)
  set('+0d')
  const times = long ? 10 : 2
  const scene = await underLoad({ random: seeded(seed) }, { env: { LD_PRELOAD: LIBRARY!, FAKETIME_TIMESTAMP_FILE: clock, FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' } })
  for (let i = 0; i < times; i++) {
    await delay(1_500)
    set(i % 2 === 0 ? '+365d' : '+0d')
  }
  await delay(1_000)
  // Forward at the end: what was received "next year" is in the future otherwise, and no page shows the future.
  set('+366d')
  const { as_of } = await scene.overrun.api<{ as_of: string }>('/buckets?limit=1')
  expect(Date.parse(as_of) - Date.now(), 'the clock really is another').toBeGreaterThan(365 * 86_400_000)
  const { seconds, counted } = await recovered(scene)
  judge('clock jumps a year', { times: times + 1, devices: scene.devices, counted, seconds })
}, 120_000)

/** Those that have loaded their code: they wrote more than that they are ready, so they have answered dumps. */
function workingParsers(overrun: Embedded): Process[] {
  return processesOf(overrun.pid as number).filter(({ pid, command }) => command.includes('sandbox/child.ts') && writtenBytes(pid) > 1_000)
}

function writtenBytes(pid: number): number {
  try {
    return Number(/^wchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch { /* It ended by itself. */ }
}

function percentile(values: readonly number[], share: number): number {
  return Math.round([...values].sort((a, b) => a - b)[Math.floor(values.length * share)] ?? 0)
}
