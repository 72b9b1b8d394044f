import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Blobs } from '../../../infra/blobs/blobs.ts'
import { openFsBlobs } from '../../../infra/blobs/fs.ts'
import { createLogger } from '../../../infra/service/logger.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'
import { sandboxSettingsSchema } from '../../../symbolicate/config.ts'
import type { Analysis } from '../../../symbolicate/contract.ts'
import { createProcessor } from '../../../symbolicate/process.ts'
import { createPool } from '../../../symbolicate/sandbox/pool.ts'
import { createSymbolStore } from '../../../symbolicate/symbols/store.ts'

/**
 * What the worker runs for each dump, with its default settings: symbol store, pool, sandboxed parsers, the check of what
 * they answer, and the report as the JSON text that its row holds.
 */
export interface Pipeline {
  /** Analyses `dumps` as one batch. */
  run(dumps: readonly Uint8Array[]): Promise<Analysis[]>
  stop(): Promise<void>
}

const logger = createLogger({ part: 'bench', level: 'error' })

/** Uploads every .sym file below `folder`. */
export async function storeOf(folder: string, directory: string): Promise<Blobs> {
  const blobs = await openFsBlobs({ directory: join(directory, 'blobs') })
  const store = await open(blobs, directory)
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.sym'))) {
    const put = await store.put(readFileSync(join(folder, path)), { name: basename(path) })
    if (put.status !== 'stored') throw new Error(`${path}: ${put.reason}`)
  }
  await store.stop()
  return blobs
}

/** Parsers that have just started, and a store in which nothing is prepared yet. */
export async function openPipeline(blobs: Blobs, directory: string): Promise<Pipeline> {
  const { children: size, inflateBytes, ...sandbox } = sandboxSettingsSchema.parse({})
  const symbols = await open(blobs, directory)
  const pool = createPool({ ...sandbox, size, idleMs: null, cacheDirectory: symbols.cacheDirectory, logger, onKill: (why) => { throw new Error(`a parser was killed: ${why}`) } })
  const process = createProcessor({ pool, symbols, inflateBytes, metrics: null })
  await pool.ready()
  return {
    async run(dumps) {
      const analyses = await Promise.all(dumps.map((bytes) => process({ contentType: 'application/x-minidump', claims: {}, annotations: {}, load: async () => bytes }).analysis))
      for (const { status, statusReason, report } of analyses) if (status !== 'ok' || JSON.stringify(report).length === 0) throw new Error(`${status}: ${statusReason}`)
      return analyses
    },
    async stop() {
      await pool.stop()
      await symbols.stop()
    },
  }
}

async function open(blobs: Blobs, directory: string) {
  return createSymbolStore({ blobs, cacheDirectory: await mkdtemp(join(directory, 'prepared-')), logger, metrics: createMetrics({ defaults: false }) })
}
