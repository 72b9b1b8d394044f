import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connectClickHouse, type ClickHouse } from '../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import { migrate } from '../../infra/clickhouse/migrate.ts'
import type { Log } from '../../infra/log/log.ts'
import type { Clock } from '../../infra/service/clock.ts'
import type { Logger } from '../../infra/service/logger.ts'
import { createStopper } from '../../infra/service/stop.ts'
import { ingestSettingsSchema } from '../../ingest/config.ts'
import { startIngest } from '../../ingest/main.ts'
import type { Registry } from '../../ingest/registry.ts'
import { loadRegistryFromClickHouse } from '../../ingest/registry-source.ts'
import { workerSettingsSchema } from '../../symbolicate/config.ts'
import { startSymbolication } from '../../symbolicate/main.ts'
import { createChannels, type Channel } from '../alert/channels.ts'
import { dashboardSettingsSchema } from '../config.ts'
import { createDetectors, type Detectors } from '../detect/detectors.ts'
import { createDashboard } from '../server.ts'
import { removeServerFile, writeServerFile } from '../../infra/service/server-file.ts'

/**
 * The embedded default: ingest, worker, detectors and dashboard in one process on the embedded log, on files and on the
 * engine's child. Each part is handed the same things as when it is a process of its own.
 *
 *   DATA/log  DATA/blobs  DATA/ingest  DATA/clickhouse  DATA/symbols  DATA/token  DATA/server.json
 */
export interface Pipeline {
  ingestUrl: string
  dashboardUrl: string
  token: string
  log: Log
  clickhouse: ClickHouse
  registry: Registry
  detectors: Detectors
  /** Stops the parts in the reverse order of their start. */
  stop(): Promise<void>
}

export interface PipelineOptions {
  data: string
  ingestPort: number
  dashboardPort: number
  clock: Clock
  logger: Logger
  /** Let the detectors look every few seconds. A story that moves the clock asks them itself. */
  watch: boolean
  /** Who is told of alerts. */
  webhooks?: readonly Channel[]
  /** For what the machine's own clients send from one address and a few devices, such as a story. */
  quotas?: Partial<Record<'devicePerMinute' | 'deviceBurst', number>>
}

export async function startPipeline({ data, ingestPort, dashboardPort, clock, logger, watch, webhooks = [], quotas }: PipelineOptions): Promise<Pipeline> {
  mkdirSync(data, { recursive: true })
  const stopper = createStopper((part, reason) => logger.error({ part, reason }, 'did not stop cleanly'))
  try {
    const engine = await startEmbeddedClickHouse({ directory: join(data, 'clickhouse'), logger })
    stopper.add('clickhouse', () => engine.stop())
    const clickhouse = connectClickHouse(engine.address, 'overrun')
    stopper.add('clickhouse client', () => clickhouse.close())
    await migrate(clickhouse, { now: clock.now() })

    const ingest = await startIngest({
      settings: ingestSettingsSchema.parse({ port: ingestPort, quotas: { ...quotas } }), data, clock, logger, load: loadRegistryFromClickHouse(clickhouse, logger),
    })
    stopper.add('ingest', () => ingest.stop())
    const { log, blobs, registry, metrics } = ingest

    const { symbols, worker, stop } = await startSymbolication({ settings: workerSettingsSchema.parse({}), data, log, blobs, clickhouse, clock, logger, metrics })
    stopper.add('symbolication', stop)

    const token = tokenOf(data)
    const dashboard = createDashboard({
      settings: dashboardSettingsSchema.parse({ port: dashboardPort, token }), clickhouse, blobs, symbols, clock, logger, metrics,
      reprocess: (debugId) => worker.reprocess({ debugId }),
      onRegistryChange: () => registry.refresh(),
    })
    stopper.add('dashboard', () => dashboard.stop())
    const { url: dashboardUrl } = await dashboard.start()

    const channels = createChannels({ clickhouse, clock, logger, metrics, settings: { channels: webhooks, pageUrl: dashboardUrl } })
    stopper.add('channels', () => channels.stop())
    await channels.resume()
    const detectors = createDetectors({ clickhouse, clock, logger, metrics, notify: channels.notify })
    stopper.add('detectors', () => detectors.stop())
    if (watch) detectors.start()

    writeServerFile(data, { ingest_url: ingest.url, dashboard_url: dashboardUrl, token, pid: process.pid })
    stopper.add('server file', () => removeServerFile(data))
    return { ingestUrl: ingest.url, dashboardUrl, token, log, clickhouse, registry, detectors, stop: () => stopper.stop() }
  } catch (error) {
    await stopper.stop()
    throw error
  }
}

const tokenOf = (data: string): string => keptSecret(data, 'token', () => randomBytes(24).toString('base64url'))

/** Made once, kept in the folder, readable by its owner only. */
export function keptSecret(data: string, name: string, make: () => string): string {
  mkdirSync(data, { recursive: true })
  const path = join(data, name)
  try {
    writeFileSync(path, make(), { mode: 0o600, flag: 'wx' })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  return readFileSync(path, 'utf8').trim()
}
