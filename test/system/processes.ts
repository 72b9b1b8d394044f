import { readdirSync, readFileSync } from 'node:fs'

/**
 * The processes of a tree and their memory, from /proc (Linux only; proc(5)). Resident memory counts a shared page in
 * each process that has it; the proportional one divides it among them, and is what the machine really gives.
 */
export interface Process { pid: number; command: string; residentBytes: number; proportionalBytes: number; /** Without mapped files, which the kernel takes back when it likes: the log is one. */ anonymousBytes: number }

/** `root` and all its descendants. What ends meanwhile is left out. */
export function processesOf(root: number): Process[] {
  const parents = new Map<number, number>()
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)).map(Number)) {
    const status = readProc(pid, 'status')
    if (status !== null) parents.set(pid, Number(/^PPid:\s+(\d+)/m.exec(status)?.[1] ?? 0))
  }
  const belongs = (pid: number): boolean => pid === root || (parents.has(pid) && parents.get(pid) !== 0 && belongs(parents.get(pid)!))
  return [...parents.keys()].filter(belongs).flatMap((pid) => {
    const memory = readProc(pid, 'smaps_rollup')
    const command = readProc(pid, 'cmdline')
    return memory === null || command === null ? [] : [{ pid, command: command.replaceAll('\0', ' '), residentBytes: bytesOf(memory, 'Rss'), proportionalBytes: bytesOf(memory, 'Pss'), anonymousBytes: bytesOf(memory, 'Anonymous') }]
  })
}

const bytesOf = (memory: string, field: string): number => 1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(memory)?.[1] ?? 0)

function readProc(pid: number, file: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return null
  }
}
