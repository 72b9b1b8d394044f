import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { processesOf } from '../system/processes.ts'
import { seeded } from './devices.ts'
import { judge } from './oracle.ts'
import { crashesOf, long, recovered, seed, underLoad, until } from './scenario.ts'

/** Things that stop without dying: everything at once, a parser that hangs on a dump or is taken away from it, and the clock. */

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

test('a parser that hangs or dies on a dump delays no other crash', async () => {
  const random = seeded(seed)
  const times = long ? 50 : 4
  const scene = await underLoad({ random })
  const { overrun, devices } = scene
  for (let i = 0; i < times; i++) {
    const parsers = processesOf(overrun.pid as number).filter(({ command }) => command.includes('sandbox/child.ts'))
    const victim = parsers[Math.floor(random() * parsers.length)]
    // A hang ends by the warden's hand, after its budget of ten seconds; meanwhile crashes go on being counted.
    if (victim !== undefined) kill(victim.pid, i % 2 === 0 ? 'SIGSTOP' : 'SIGKILL')
    const before = await crashesOf(overrun)
    await until(async () => (await crashesOf(overrun)) > before, 'crashes are counted while a parser hangs', 9_000)
    expect(devices.answers.get(503) ?? 0).toBe(0)
  }
  const { seconds, counted } = await recovered(scene)
  judge('parser hangs or dies', { times, devices, counted, seconds, note: `ack p50 ${percentile(devices.latencies, 0.5)} ms, p95 ${percentile(devices.latencies, 0.95)} ms` })
}, long ? 900_000 : 120_000)

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

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch { /* It ended by itself. */ }
}

function percentile(values: readonly number[], share: number): number {
  return Math.round([...values].sort((a, b) => a - b)[Math.floor(values.length * share)] ?? 0)
}
