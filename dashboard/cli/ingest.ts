import type { Command } from 'commander'
import { connectClickHouse } from '../../infra/clickhouse/client.ts'
import { openBlobs } from '../../infra/blobs/open.ts'
import { openLog } from '../../infra/log/open.ts'
import { systemClock } from '../../infra/service/clock.ts'
import { runProcess } from '../../infra/service/process.ts'
import { startIngest } from '../../ingest/main.ts'
import { loadRegistryFromClickHouse } from '../../ingest/registry-source.ts'
import { addProcessOptions, configOf, configurationOf, portNumber, type ProcessOptions } from './options.ts'

/**
 * `overrun ingest`: the door alone; any number of them on one Kafka and one bucket. It waits for the log and for nothing
 * else: anchors come from the ClickHouse server, or from DATA/ingest/registry.json while that is away, and always where
 * there is no server.
 */
export function registerIngest(program: Command): void {
  addProcessOptions(program.command('ingest'))
    .description('Run the door that devices reach, on its own')
    .option('--port <port>', 'for devices; 0 is any free one', portNumber)
    .action(async (options: ProcessOptions & { port?: number }) => {
      const loaded = configurationOf('ingest', options, { options: { 'ingest.port': options.port } })
      const configuration = loaded.value
      const { data } = configuration
      await runProcess({
        part: 'ingest', config: configOf(loaded), json: options.json === true,
        async start({ logger, metrics, tracing, stopper, patiently }) {
          const log = await patiently('log', () => openLog({ settings: configuration.log, data, logger, metrics }))
          stopper.add('log', () => log.close())
          const blobs = await patiently('blobs', () => openBlobs({ settings: configuration.blobs, data }))
          const { server } = configuration.clickhouse
          const clickhouse = server && connectClickHouse(server, 'overrun-ingest', { timeoutMs: REGISTRY_MS })
          if (clickhouse) stopper.add('clickhouse', () => clickhouse.close())
          const ingest = await startIngest({
            settings: configuration.ingest, data, log, blobs, clock: systemClock, logger, metrics, tracing,
            ...(clickhouse ? { load: loadRegistryFromClickHouse(clickhouse, logger) } : {}),
          })
          stopper.add('ingest', () => ingest.stop())
          const { blobs: blobCheck, ...needed } = ingest.checks
          return { checks: needed, hints: { blobs: blobCheck }, addresses: { ingest_url: ingest.url } }
        },
      })
    })
}

/** A registry that is late is the same as one that is away, and must not hold up a stop. */
const REGISTRY_MS = 6_000
