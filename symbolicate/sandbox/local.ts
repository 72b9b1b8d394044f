import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLogger } from '../../infra/service/logger.ts'
import { sandboxSettingsSchema, symbolSettingsSchema } from '../config.ts'
import { createPool, type Pool } from './pool.ts'

/**
 * The sandbox for a command of one run: one child for the dump, one for symbol files (only when needed), and a folder for
 * prepared symbols that goes away with them. A command reads the same hostile bytes as the worker, behind the same wall.
 */
export async function withLocalSandbox<T>(work: (sandbox: { dumps: Pool; symbolFiles: Pool; cacheDirectory: string }) => Promise<T>): Promise<T> {
  const cacheDirectory = await mkdtemp(join(tmpdir(), 'overrun-'))
  const sandbox = sandboxSettingsSchema.parse({})
  const symbols = symbolSettingsSchema.parse({})
  const shared = { size: 1, idleMs: null, cacheDirectory, logger: createLogger({ part: 'sandbox', level: 'error' }), onKill: () => {} }
  const dumps = createPool({ ...shared, timeMs: 60_000, patienceMs: 60_000, memoryBytes: 2 * sandbox.memoryBytes, answerBytes: 4 * sandbox.answerBytes })
  const symbolFiles = createPool({ ...shared, timeMs: symbols.prepareMs, patienceMs: symbols.prepareMs, memoryBytes: symbols.prepareMemoryBytes, answerBytes: symbols.maxFileBytes })
  try {
    return await work({ dumps, symbolFiles, cacheDirectory })
  } finally {
    await Promise.all([dumps.stop(), symbolFiles.stop()])
    await rm(cacheDirectory, { recursive: true, force: true })
  }
}
