import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { openFsBlobs } from '../infra/blobs/fs.ts'
import { openEmbeddedLog } from '../infra/log/embedded.ts'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { Log } from '../infra/log/log.ts'
import type { Clock } from '../infra/service/clock.ts'
import { messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import { createMetrics, type Metrics } from '../infra/service/metrics.ts'
import { createStopper } from '../infra/service/stop.ts'
import type { IngestSettings } from './config.ts'
import { createRegistry, type Registry, type RegistryOptions } from './registry.ts'
import { createIngest } from './server.ts'

/**
 * Ingest on its own: the door with an embedded log and files under one folder.
 *
 *   DATA/log  DATA/blobs  DATA/ingest/{replay,known,uploads}  DATA/ingest/registry.json
 */
export interface RunningIngest {
  url: string
  port: number
  opsUrl: string
  opsPort: number
  log: Log
  blobs: Blobs
  registry: Registry
  metrics: Metrics
  stop(): Promise<void>
}

export interface StartIngestOptions {
  settings: IngestSettings
  data: string
  clock: Clock
  logger: Logger
  /** Where fleets, anchors and device states come from; absent: DATA/ingest/registry.json as it is. */
  load?: RegistryOptions['load']
}

const RETENTION = { bytes: 8 * 2 ** 30, ageMs: 14 * 24 * 60 * 60 * 1000 }

export async function startIngest({ settings, data, clock, logger, load }: StartIngestOptions): Promise<RunningIngest> {
  const stopper = createStopper((name, reason) => logger.error({ part: name, reason }, 'did not stop cleanly'))
  const own = join(data, 'ingest')
  mkdirSync(own, { recursive: true })
  try {
    const metrics = createMetrics({ defaults: true })
    const log = await openEmbeddedLog({ directory: join(data, 'log'), retention: RETENTION, logger, metrics })
    stopper.add('log', () => log.close())
    const blobs = await openFsBlobs({ directory: join(data, 'blobs') })
    const registry = createRegistry({
      snapshotFile: join(own, 'registry.json'), clock, logger, intervalMs: settings.registryIntervalMs, ...(load ? { load } : {}),
    })
    await registry.start()
    stopper.add('registry', () => registry.stop())
    const ingest = createIngest({ settings, log, blobs, registry, clock, logger, metrics, directory: own })
    stopper.add('ingest', () => ingest.stop())
    const address = await ingest.start()
    return { ...address, log, blobs, registry, metrics, stop: () => stopper.stop() }
  } catch (error) {
    logger.error({ reason: messageOf(error) }, 'ingest did not start')
    await stopper.stop()
    throw error
  }
}
