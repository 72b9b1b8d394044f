import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { cpuSeconds } from './cpu.ts'

/**
 * rust-minidump's `minidump-stackwalk --json`, as Socorro runs it: one process for each dump. A shell starts them, because
 * to fork a large Node process would cost as much as the walk. What it prints is thrown away.
 */
export interface Peer {
  /** Processor seconds for all of `dumps`, each `times` times. */
  walk(dumps: readonly string[], symbols: string, times: number): Promise<number>
  /** Processor seconds of a process that only says its version. */
  start(times: number): Promise<number>
}

export const PEER = 'minidump-stackwalk'
export const HINT = `needs ${PEER}: cargo install ${PEER}, then have it on the PATH or name it in OVERRUN_PEER_STACKWALK`

export function findPeer(): Peer | null {
  const program = process.env.OVERRUN_PEER_STACKWALK ?? (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, PEER)).find(isProgram)
  if (program === undefined) return null

  async function cost(script: string, words: readonly string[]): Promise<number> {
    const before = cpuSeconds()
    const [code] = await once(spawn('/bin/sh', ['-c', script, program!, ...words], { stdio: 'ignore' }), 'exit') as [number | null]
    if (code !== 0) throw new Error(`${PEER} ended with ${code}`)
    return cpuSeconds() - before
  }

  return {
    walk: (dumps, symbols, times) => cost(
      'symbols=$1; shift; for dump; do "$0" --json --symbols-path "$symbols" "$dump" || exit 1; done', [symbols, ...Array.from({ length: times }, () => dumps).flat()],
    ),
    start: async (times) => await cost('for time; do "$0" --version || exit 1; done', Array.from({ length: times }, String)) / times,
  }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
