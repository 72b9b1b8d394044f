import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { processesOf, type Process } from '../system/processes.ts'
import type { Figure } from './bench.ts'

/**
 * The memory of the whole demo: the command as a user runs it and every process that it starts, sampled until the story
 * is told and for some seconds more, while it watches with the real clock. The target is on resident memory, which counts
 * a library's pages once for each process; the proportional figure beside it counts them once.
 */
export const name = 'memory'
export const describe = 'resident memory of the whole demo, children included, until 20 s after its story is told'

const ROOT = join(import.meta.dirname, '..', '..')
const SAMPLE_MS = 250
const AFTERWARDS_MS = 20_000
const TARGET_MIB = 1024

/** By the program that each process runs; a starting one is still the shell that sets its limits. */
const ROLES = [['engine', 'infra/clickhouse/engine.ts'], ['parsers', 'symbolicate/sandbox/child.ts']] as const
type Role = (typeof ROLES)[number][0] | 'pipeline'
type Sample = { resident: Record<Role, number>; residentMiB: number; proportionalMiB: number; processes: number }

export async function run(print: (figure: Figure) => void): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'bench-memory-'))
  const demo = spawn(process.execPath, ['overrun.ts', 'demo', '--data', data, '--ingest-port', '0', '--dashboard-port', '0', '--json'], { cwd: ROOT, stdio: ['ignore', 'pipe', 'ignore'] })
  const ended = once(demo, 'exit')
  const samples: Sample[] = []
  const sampler = setInterval(() => samples.push(sampleOf(processesOf(demo.pid!))), SAMPLE_MS)
  try {
    await Promise.race([once(createInterface({ input: demo.stdout }), 'line'), ended.then(([code]) => { throw new Error(`the demo ended with ${String(code)}`) })])
    const told = samples.length
    await Promise.race([delay(AFTERWARDS_MS), ended.then(([code]) => { throw new Error(`the demo ended with ${String(code)}`) })])
    const peak = largest(samples)
    const last = samples.at(-1)!
    print({ name: 'resident, peak', value: peak.residentMiB, unit: 'MiB', baseline: TARGET_MIB, ratio: peak.residentMiB / TARGET_MIB })
    for (const [role, value] of Object.entries(peak.resident)) print({ name: `  then in the ${role}`, value, unit: 'MiB' })
    print({ name: '  then processes', value: peak.processes, unit: '' })
    print({ name: 'proportional, peak', value: Math.max(...samples.map(({ proportionalMiB }) => proportionalMiB)), unit: 'MiB' })
    print({ name: 'resident, peak after the story', value: largest(samples.slice(told)).residentMiB, unit: 'MiB' })
    print({ name: 'resident, at the end', value: last.residentMiB, unit: 'MiB' })
    for (const [role, value] of Object.entries(last.resident)) print({ name: `  then in the ${role}`, value, unit: 'MiB' })
    print({ name: 'proportional, at the end', value: last.proportionalMiB, unit: 'MiB' })
  } finally {
    clearInterval(sampler)
    demo.kill('SIGTERM')
    await ended
    await rm(data, { recursive: true })
  }
}

function sampleOf(processes: readonly Process[]): Sample {
  const resident: Sample['resident'] = { pipeline: 0, engine: 0, parsers: 0 }
  for (const { command, residentBytes } of processes) resident[roleOf(command)] += residentBytes / 2 ** 20
  return {
    resident, residentMiB: resident.pipeline + resident.engine + resident.parsers,
    proportionalMiB: processes.reduce((sum, { proportionalBytes }) => sum + proportionalBytes / 2 ** 20, 0), processes: processes.length,
  }
}

const roleOf = (command: string): Role => ROLES.find(([, program]) => command.includes(program))?.[0] ?? 'pipeline'

const largest = (samples: readonly Sample[]): Sample => samples.reduce((most, sample) => (sample.residentMiB > most.residentMiB ? sample : most))
