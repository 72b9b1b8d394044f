import { join } from 'node:path'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import type { Log } from '../infra/log/log.ts'
import type { Clock } from '../infra/service/clock.ts'
import { lockData } from '../infra/service/lock-file.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { Metrics } from '../infra/service/metrics.ts'
import type { Checks } from '../infra/service/ops.ts'
import type { Tracing } from '../infra/service/tracing.ts'
import type { WorkerSettings } from './config.ts'
import { startSweeper } from './sweep.ts'
import { createSymbolStore, type SymbolStore } from './symbols/store.ts'
import { createWorker, type Worker } from './worker.ts'

/** The symbol store, the worker and the sweeper of the archive, wired; `data` holds what may be lost at any time: DATA/symbols, prepared forms. */
export interface Symbolication { symbols: SymbolStore; worker: Worker; checks: Checks; stop(): Promise<void> }

export async function startSymbolication({ settings, data, ...world }: {
  settings: WorkerSettings
  data: string
  log: Log
  blobs: Blobs
  clickhouse: ClickHouse
  clock: Clock
  logger: Logger
  metrics: Metrics
  tracing?: Tracing
}): Promise<Symbolication> {
  const lock = lockData(data, 'symbolicate')
  const symbols = createSymbolStore({ ...world, cacheDirectory: join(data, 'symbols'), settings: settings.symbols })
  const worker = createWorker({ ...world, settings, symbols })
  let sweeper: { stop(): Promise<void> } | null = null
  const stop = async () => {
    await sweeper?.stop()
    await worker.stop()
    await symbols.stop()
    lock.release()
  }
  try {
    await worker.start()
    sweeper = startSweeper({ ...world, settings: settings.archive })
    const checks: Checks = {
      log: () => world.log.check(),
      blobs: () => world.blobs.check(),
      clickhouse: () => world.clickhouse.query({ query: 'SELECT 1' }).then((result) => result.text()),
      parsers: () => worker.ready(),
    }
    return { symbols, worker, checks, stop }
  } catch (error) {
    await stop()
    throw error
  }
}
