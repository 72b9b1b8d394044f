import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { Log } from '../infra/log/log.ts'
import type { Clock } from '../infra/service/clock.ts'
import { lockData } from '../infra/service/lock-file.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { Metrics } from '../infra/service/metrics.ts'
import type { Tracing } from '../infra/service/tracing.ts'
import { createStopper } from '../infra/service/stop.ts'
import type { IngestSettings } from './config.ts'
import { createRegistry, type Registry, type RegistryOptions } from './registry.ts'
import { createIngest, type Ingest } from './server.ts'

/**
 * The door and its registry, wired. Of its own it has DATA/ingest: the replay windows, the fingerprints that are known,
 * resumable uploads under way, and the last good registry.json, which is all that it needs to start while ClickHouse is away.
 */
export interface RunningIngest { url: string; port: number; registry: Registry; checks: Ingest['checks']; stop(): Promise<void> }

export interface StartIngestOptions {
  settings: IngestSettings
  data: string
  log: Log
  blobs: Blobs
  clock: Clock
  logger: Logger
  metrics: Metrics
  tracing?: Tracing
  /** Where fleets, anchors and device states come from; absent: DATA/ingest/registry.json as it is. */
  load?: RegistryOptions['load']
}

export async function startIngest({ settings, data, load, ...world }: StartIngestOptions): Promise<RunningIngest> {
  const { clock, logger } = world
  const stopper = createStopper((name, reason) => logger.error({ part: name, reason }, 'did not stop cleanly'))
  const directory = join(data, 'ingest')
  const lock = lockData(data, 'ingest')
  stopper.add('lock', () => lock.release())
  mkdirSync(directory, { recursive: true })
  try {
    const registry = createRegistry({
      snapshotFile: join(directory, 'registry.json'), clock, logger, intervalMs: settings.registryIntervalMs, ...(load ? { load } : {}),
    })
    await registry.start()
    stopper.add('registry', () => registry.stop())
    const ingest = createIngest({ ...world, settings, registry, directory })
    stopper.add('ingest', () => ingest.stop())
    return { ...await ingest.start(), registry, checks: ingest.checks, stop: () => stopper.stop() }
  } catch (error) {
    await stopper.stop()
    throw error
  }
}
