import { join } from 'node:path'
import type { Command } from 'commander'
import { openBlobs } from '../../infra/blobs/open.ts'
import type { Log } from '../../infra/log/log.ts'
import { openLog } from '../../infra/log/open.ts'
import { pendingMigrations } from '../../infra/clickhouse/migrate.ts'
import { systemClock } from '../../infra/service/clock.ts'
import { runProcess } from '../../infra/service/process.ts'
import { createSymbolStore } from '../../symbolicate/symbols/store.ts'
import { startDashboard } from '../main.ts'
import { openMigratedClickHouse } from './clickhouse.ts'
import { addProcessOptions, configOf, configurationOf, portNumber, type ProcessOptions } from './options.ts'

/** `overrun dashboard`: pages, API, detectors and messages; it needs ClickHouse and the blobs, and the log only to put dead letters back and to sweep. */
export function registerDashboard(program: Command): void {
  addProcessOptions(program.command('dashboard'))
    .description('Run the pages, the API and the detectors, on their own')
    .option('--port <port>', 'for people; 0 is any free one', portNumber)
    .action(async (options: ProcessOptions & { port?: number }) => {
      const loaded = configurationOf('dashboard', options, { options: { 'dashboard.port': options.port } })
      const configuration = loaded.value
      const { data } = configuration
      await runProcess({
        part: 'dashboard', config: configOf(loaded), json: options.json === true,
        async start(world) {
          const { logger, metrics, stopper, patiently } = world
          const clickhouse = await openMigratedClickHouse({ configuration, application: 'overrun-dashboard', clock: systemClock, world })
          const blobs = await patiently('blobs', () => openBlobs({ settings: configuration.blobs, data }))
          const symbols = createSymbolStore({ blobs, cacheDirectory: join(data, 'symbols'), settings: configuration.symbolicate.symbols, logger, metrics })
          stopper.add('symbols', () => symbols.stop())
          let log: Promise<Log> | undefined
          const openKafka = () => (log ??= openLog({ settings: configuration.log, data, logger, metrics }).catch((error: unknown) => {
            log = undefined
            throw error
          }))
          stopper.add('log', async () => (await log)?.close())
          const { url, token, stop } = await startDashboard({
            settings: configuration.dashboard, data, clickhouse, blobs, symbols, clock: systemClock, logger, metrics, watch: true,
            archive: configuration.symbolicate.archive, ...(configuration.log.kafka === undefined ? {} : { openLog: openKafka }),
          })
          stopper.add('dashboard', stop)
          return {
            checks: {
              clickhouse: () => clickhouse.query({ query: 'SELECT 1' }).then((result) => result.text()),
              async schema() {
                const pending = await pendingMigrations(clickhouse)
                if (pending.length > 0) throw new Error(`not applied: ${pending.join(', ')}; run overrun migrate`)
              },
            },
            hints: { blobs: () => blobs.check() },
            addresses: { dashboard_url: url }, printed: { token }, welcome: `\n  Dashboard   ${url}   token ${token}\n`,
          }
        },
      })
    })
}
