import { readFileSync } from 'node:fs'
import { createLogger } from '../../infra/service/logger.ts'
import { symbolSettingsSchema } from '../../symbolicate/config.ts'
import { createPool } from '../../symbolicate/sandbox/pool.ts'
import type { Figure } from './bench.ts'
import { median } from './symbolicate/cpu.ts'
import { symFile } from './symbolicate/sym-file.ts'

/**
 * A large symbol file on its way into the store: read by a parser's child behind the wall, with the store's settings, until
 * its prepared form is back. The memory is the child's peak (VmHWM of proc(5)), a new child in each round.
 */
export const name = 'symbolicate-prepare'
export const describe = 'a symbol file of 100 MB prepared by a new parser, median of 5'

const ROUNDS = 5
const BYTES = 100_000_000
const AIMS = { seconds: 20, mib: 512 }
const NOBODY = { symbols: async () => ({ status: 'missing' as const, reason: 'not asked while preparing' }), map: async () => null }

export async function run(print: (figure: Figure) => void): Promise<void> {
  const bytes = symFile(BYTES)
  const rounds: { seconds: number; peakMiB: number; formMiB: number }[] = []
  for (let round = 0; round < ROUNDS; round++) rounds.push(await prepare(bytes))
  const seconds = median(rounds.map((round) => round.seconds))
  const peak = median(rounds.map((round) => round.peakMiB))
  print({ name: 'symbol file', value: bytes.length / 1e6, unit: 'MB' })
  print({ name: 'until it is prepared', value: seconds, unit: 's', baseline: AIMS.seconds, ratio: seconds / AIMS.seconds })
  print({ name: 'resident in the parser, peak', value: peak, unit: 'MiB', baseline: AIMS.mib, ratio: peak / AIMS.mib })
  print({ name: 'prepared form', value: median(rounds.map((round) => round.formMiB)), unit: 'MiB' })
}

async function prepare(bytes: Uint8Array): Promise<{ seconds: number; peakMiB: number; formMiB: number }> {
  const { prepareMs: timeMs, prepareMemoryBytes: memoryBytes, maxFileBytes } = symbolSettingsSchema.parse({})
  const pool = createPool({
    size: 1, idleMs: null, timeMs, patienceMs: timeMs, memoryBytes, answerBytes: 2 * maxFileBytes, cacheDirectory: null,
    logger: createLogger({ part: 'bench', level: 'error' }), onKill: () => {},
  })
  try {
    await pool.ready()
    const began = performance.now()
    const end = await pool.run(async () => ({ t: 'prepare', bytes, name: 'bench.sym' }), NOBODY).end
    const seconds = (performance.now() - began) / 1000
    if (end.t !== 'prepared' || !('bytes' in end.prepared)) throw new Error(`not prepared: ${JSON.stringify(end)}`)
    return { seconds, peakMiB: peakMiB(pool.pids()[0]!), formMiB: end.prepared.bytes.length / 2 ** 20 }
  } finally {
    await pool.stop()
  }
}

const peakMiB = (pid: number): number => Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024
