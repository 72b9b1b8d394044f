import { openBlobs } from '../../infra/blobs/open.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { migrate } from '../../infra/clickhouse/migrate.ts'
import { openClickHouse } from '../../infra/clickhouse/open.ts'
import type { Log } from '../../infra/log/log.ts'
import { openLog } from '../../infra/log/open.ts'
import type { Clock } from '../../infra/service/clock.ts'
import type { Checks } from '../../infra/service/ops.ts'
import type { World } from '../../infra/service/process.ts'
import { removeServerFile, writeServerFile } from '../../infra/service/server-file.ts'
import { startIngest } from '../../ingest/main.ts'
import type { Registry } from '../../ingest/registry.ts'
import { loadRegistryFromClickHouse } from '../../ingest/registry-source.ts'
import { startSymbolication } from '../../symbolicate/main.ts'
import type { Configuration } from '../configuration.ts'
import type { Detectors } from '../detect/detectors.ts'
import { startDashboard } from '../main.ts'

/**
 * All parts in one process, by default on the embedded log, on files and on the engine's child. Each part is handed the
 * same things as when it is a process of its own.
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
  checks: Checks
}

export async function startPipeline({ configuration, clock, watch, world: { logger, metrics, tracing, stopper, patiently } }: {
  configuration: Configuration
  clock: Clock
  /** Let the detectors look every few seconds. A story that moves the clock asks them itself. */
  watch: boolean
  world: World
}): Promise<Pipeline> {
  const { data } = configuration
  const { clickhouse, close } = await openClickHouse({ settings: configuration.clickhouse, data, application: 'overrun', logger })
  stopper.add('clickhouse', close)
  await patiently('ClickHouse', () => migrate(clickhouse, { now: clock.now(), retentionDays: configuration.clickhouse.retentionDays }))
  const log = await patiently('log', () => openLog({ settings: configuration.log, data, logger, metrics }))
  stopper.add('log', () => log.close())
  const blobs = await patiently('blobs', () => openBlobs({ settings: configuration.blobs, data }))
  const shared = { data, log, blobs, clickhouse, clock, logger, metrics }

  const ingest = await startIngest({ ...shared, tracing, settings: configuration.ingest, load: loadRegistryFromClickHouse(clickhouse, logger) })
  stopper.add('ingest', () => ingest.stop())
  const { registry } = ingest
  const symbolication = await startSymbolication({ ...shared, tracing, settings: configuration.symbolicate })
  stopper.add('symbolication', () => symbolication.stop())
  const { symbols, worker } = symbolication
  const dashboard = await startDashboard({
    ...shared, settings: configuration.dashboard, symbols, watch,
    onSymbols: () => worker.look(),
    onRegistryChange: () => registry.refresh(),
    openLog: async () => log,
    archive: configuration.symbolicate.archive,
  })
  stopper.add('dashboard', () => dashboard.stop())

  const { url: dashboardUrl, token, detectors } = dashboard
  writeServerFile(data, { ingest_url: ingest.url, dashboard_url: dashboardUrl, token, pid: process.pid })
  stopper.add('server file', () => removeServerFile(data))
  return { ingestUrl: ingest.url, dashboardUrl, token, log, clickhouse, registry, detectors, checks: ingest.checks }
}
