import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Devices } from './devices.ts'

/** What an installation holds after a fault: how often each crash counts, in which standings, and the dead letters by reason. */
export interface Counted {
  crashes: ReadonlyMap<string, number>
  standings: ReadonlySet<string>
  letters: ReadonlyMap<string, number>
}

/** One line of the table that `npm run test:faults` prints. */
export interface Outcome { fault: string; times: number; acknowledged: number; lost: number; duplicated: number; invented: number; letters: number; seconds: number | null; note?: string }

/**
 * Promise 2, judged: each acknowledged crash once, nothing else. `letters`: how many acknowledged crashes a fault may have
 * turned into dead letters (damaged bytes); `seconds` from the end of the fault to the last crash being counted.
 */
export function judge(fault: string, { times, devices, counted, seconds, note, before = 0 }: {
  times: number
  devices: Pick<Devices, 'acknowledged'>
  counted: Counted
  seconds: number | null
  note?: string
  /** Acknowledged before this fault began; they are judged again, and not shown again. */
  before?: number
}): Outcome {
  const { acknowledged } = devices
  const letters = [...counted.letters.values()].reduce((sum, n) => sum + n, 0)
  const outcome: Outcome = {
    fault, times,
    acknowledged: acknowledged.size - before,
    lost: [...acknowledged].filter((id) => !counted.crashes.has(id)).length - letters,
    duplicated: [...counted.crashes.values()].filter((n) => n !== 1).length,
    invented: [...counted.crashes.keys()].filter((id) => !acknowledged.has(id)).length,
    letters,
    seconds: seconds === null ? null : Math.round(seconds * 10) / 10,
    ...(note === undefined ? {} : { note }),
  }
  keep(outcome)
  expect(acknowledged.size, 'acknowledged crashes').toBeGreaterThan(0)
  expect(outcome).toMatchObject({ lost: 0, duplicated: 0, invented: 0 })
  return outcome
}

/** For the table of a whole run (test/faults/run.ts). */
export const OUTCOMES = join(import.meta.dirname, '..', '..', '.cache', 'faults')
export function keep(outcome: Outcome): void {
  mkdirSync(OUTCOMES, { recursive: true })
  writeFileSync(join(OUTCOMES, `${outcome.fault.replaceAll(/[^a-z0-9]+/gi, '-')}.json`), JSON.stringify(outcome))
}

/** Seconds until `settled` says so; gives up when nothing has changed for 150 s. */
export async function recovery(progress: () => Promise<number>, settled: (value: number) => boolean): Promise<number> {
  const since = performance.now()
  let best = -1
  for (let changed = performance.now(); ;) {
    const value = await progress().catch(() => -1)
    if (settled(value)) return (performance.now() - since) / 1000
    if (value !== best) {
      best = value
      changed = performance.now()
    }
    if (performance.now() - changed > 150_000) throw new Error(`not recovered: ${best} after 150 s without any progress`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
