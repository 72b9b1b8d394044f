import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { createFleet } from '../../ingest/device/fleet.ts'
import { processesOf } from '../system/processes.ts'
import type { Figure } from './bench.ts'
import { planOf, prepareServer, type Server } from './latency.ts'
import type { FromLoad } from './latency/load.ts'
import { median } from './symbolicate/cpu.ts'

/**
 * Ten minutes of real dumps at a steady pace, `overrun start` as a user runs it: memory has to be flat once everything is
 * warm. Judged is the anonymous part of what is resident: the log is a mapped file, whose pages count as resident from when they
 * were read until the kernel wants them back, so that the whole grows by what the log keeps (and is printed beside).
 * OVERRUN_SOAK_MINUTES and OVERRUN_SOAK_PER_SECOND ask for other ones; the default pace is about 80 % of what two cores count
 * with everything on them.
 */
export const name = 'soak'
export const describe = 'anonymous memory of all processes in the last minute, against the third'

const ROOT = join(import.meta.dirname, '..', '..')
const MINUTES = Number(process.env.OVERRUN_SOAK_MINUTES ?? 10)
const PER_SECOND = Number(process.env.OVERRUN_SOAK_PER_SECOND ?? 120)
const AIM = 1.1

export async function run(print: (figure: Figure) => void): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'bench-soak-'))
  const fleet = createFleet({ devices: 1_000, name: 'bench', now: Date.now() })
  const child = spawn(process.execPath, ['overrun.ts', 'start', '--data', data, '--ingest-port', '0', '--dashboard-port', '0', '--json'], { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const load = fork(join(import.meta.dirname, 'latency', 'load.ts'))
  try {
    const [line] = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), ended.then(([code]) => { throw new Error(`overrun start ended with ${String(code)}`) })]) as [string]
    const server = JSON.parse(line) as Server
    await prepareServer(server, fleet)
    const done = new Promise<FromLoad>((resolve) => load.on('message', (message: { kind: string }) => { if (message.kind === 'done') resolve(message as FromLoad) }))
    load.send({ ...planOf(server, fleet.devices), perSecond: PER_SECOND, reports: PER_SECOND * 60 * MINUTES, firstBoot: 1 })

    const minutes: number[] = []
    const whole: number[] = []
    for (let minute = 0; minute < MINUTES; minute++) {
      const seen: number[] = []
      const resident: number[] = []
      for (let second = 0; second < 60; second += 5) {
        await delay(5_000)
        const processes = processesOf(child.pid!)
        seen.push(processes.reduce((sum, { anonymousBytes }) => sum + anonymousBytes, 0))
        resident.push(processes.reduce((sum, { residentBytes }) => sum + residentBytes, 0))
      }
      minutes.push(median(seen))
      whole.push(median(resident))
      print({ name: `anonymous in minute ${minute + 1}; with mapped files`, value: minutes.at(-1)! / 2 ** 20, unit: `MiB; ${(whole.at(-1)! / 2 ** 20).toFixed(0)} MiB` })
    }
    const { refusals, acknowledged } = await done
    const [third, last] = [minutes[Math.min(2, minutes.length - 1)]!, minutes.at(-1)!]
    print({ name: 'acknowledged', value: acknowledged.length, unit: 'crashes' })
    print({ name: 'anonymous in the last minute, against the third', value: last / 2 ** 20, unit: 'MiB', baseline: third / 2 ** 20, ratio: last / third, aim: AIM })
    if (refusals.length > 0) throw new Error(`${refusals.length} reports were not acknowledged, the first: ${refusals[0]}`)
  } finally {
    load.kill()
    child.kill('SIGTERM')
    await ended
    await rm(data, { recursive: true })
  }
}
