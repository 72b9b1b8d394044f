import { readdirSync, readFileSync } from 'node:fs'

/**
 * Processor time of a process (this one, when none is named) and all its descendants, ended ones included, from /proc (Linux only; proc(5)): what
 * work cost, however many processes did it and whoever else was busy meanwhile. In steps of 10 ms.
 */
export function cpuSeconds(root = process.pid): number {
  const children = new Map<number, number[]>()
  const ticks = new Map<number, number>()
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)).map(Number)) {
    const stat = statOf(pid)
    if (stat === null) continue
    ticks.set(pid, stat.ticks)
    children.set(stat.parent, [...(children.get(stat.parent) ?? []), pid])
  }
  const sum = (pid: number): number => (ticks.get(pid) ?? 0) + (children.get(pid) ?? []).reduce((total, child) => total + sum(child), 0)
  return sum(root) / TICKS_PER_SECOND
}

/** sysconf(_SC_CLK_TCK), which is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100

/** Behind the name in brackets, which may hold anything: state, parent, ... utime, stime, and those of ended children (fields 14 to 17). */
function statOf(pid: number): { parent: number; ticks: number } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ').map(Number)
    return { parent: fields[1]!, ticks: fields[11]! + fields[12]! + fields[13]! + fields[14]! }
  } catch {
    return null
  }
}

export const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
