import type { Command } from 'commander'
import { openBlobs } from '../../infra/blobs/open.ts'
import { openLog } from '../../infra/log/open.ts'
import { systemClock } from '../../infra/service/clock.ts'
import { runProcess } from '../../infra/service/process.ts'
import { startSymbolication } from '../../symbolicate/main.ts'
import { addProcessOptions, configOf, configurationOf, type ProcessOptions } from './options.ts'
import { openMigratedClickHouse } from './clickhouse.ts'

/** `overrun symbolicate`: one worker; as many as the topic has partitions share the work. It waits for ClickHouse, its schema and the log. */
export function registerSymbolicate(program: Command): void {
  addProcessOptions(program.command('symbolicate'))
    .description('Run a worker that turns dumps into buckets, on its own')
    .action(async (options: ProcessOptions) => {
      const loaded = configurationOf('symbolicate', options)
      const configuration = loaded.value
      const { data } = configuration
      await runProcess({
        part: 'symbolicate', config: configOf(loaded), json: options.json === true,
        async start(world) {
          const { logger, metrics, tracing, stopper, patiently } = world
          const clickhouse = await openMigratedClickHouse({ configuration, application: 'overrun-symbolicate', clock: systemClock, world })
          const log = await patiently('log', () => openLog({ settings: configuration.log, data, logger, metrics }))
          stopper.add('log', () => log.close())
          const blobs = await patiently('blobs', () => openBlobs({ settings: configuration.blobs, data }))
          const { stop, checks } = await startSymbolication({ settings: configuration.symbolicate, data, log, blobs, clickhouse, clock: systemClock, logger, metrics, tracing })
          stopper.add('worker', stop)
          return { checks, addresses: {} }
        },
      })
    })
}
