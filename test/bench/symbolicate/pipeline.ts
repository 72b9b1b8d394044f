import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { openFsBlobs } from '../../../infra/blobs/fs.ts'
import { createLogger } from '../../../infra/service/logger.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'
import { sandboxSettingsSchema } from '../../../symbolicate/config.ts'
import { createProcessor } from '../../../symbolicate/process.ts'
import { createPool } from '../../../symbolicate/sandbox/pool.ts'
import { createSymbolStore } from '../../../symbolicate/symbols/store.ts'

/**
 * What the worker runs for each dump, with its default settings: symbol store, pool, sandboxed parsers, the check of what
 * they answer, and the report as the JSON text that its row holds.
 */
export interface Pipeline {
  /** Uploads every .sym file below `folder`, with `note` at its end: with another note nothing of it is prepared yet. */
  upload(folder: string, note: string): Promise<void>
  /** Analyses `dumps` as one batch; throws when one could not be read. */
  run(dumps: readonly Uint8Array[]): Promise<void>
  stop(): Promise<void>
}

/** With parsers that have just started and nothing prepared; `directory` may hold the uploads of another. */
export async function openPipeline(directory: string): Promise<Pipeline> {
  const { children: size, inflateBytes, ...sandbox } = sandboxSettingsSchema.parse({})
  const logger = createLogger({ part: 'bench', level: 'error' })
  const blobs = await openFsBlobs({ directory: join(directory, 'blobs') })
  const symbols = createSymbolStore({ blobs, cacheDirectory: await mkdtemp(join(directory, 'prepared-')), logger, metrics: createMetrics({ defaults: false }) })
  const pool = createPool({ ...sandbox, size, idleMs: null, cacheDirectory: symbols.cacheDirectory, logger, onKill: (why) => { throw new Error(`a parser was killed: ${why}`) } })
  const process = createProcessor({ pool, symbols, inflateBytes, metrics: null })
  await pool.ready()
  return {
    async upload(folder, note) {
      for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.sym'))) {
        const put = await symbols.put(Buffer.concat([readFileSync(join(folder, path)), Buffer.from(`INFO NOTE ${note}\n`)]), { name: basename(path) })
        if (put.status !== 'stored') throw new Error(`${path}: ${put.reason}`)
      }
    },
    async run(dumps) {
      const analyses = await Promise.all(dumps.map((bytes) => process({ contentType: 'application/x-minidump', claims: {}, annotations: {}, load: async () => bytes }).analysis))
      for (const { status, statusReason, report } of analyses) if (status !== 'ok' || JSON.stringify(report).length === 0) throw new Error(`${status}: ${statusReason}`)
    },
    async stop() {
      await pool.stop()
      await symbols.stop()
    },
  }
}
