import { setTimeout as delay } from 'node:timers/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Blobs } from '../../infra/blobs/blobs.ts'
import { openFsBlobs } from '../../infra/blobs/fs.ts'
import { connectClickHouse, type ClickHouse } from '../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import { migrate } from '../../infra/clickhouse/migrate.ts'
import { openEmbeddedLog } from '../../infra/log/embedded.ts'
import { TOPIC_ACCEPTED } from '../../infra/log/log.ts'
import { systemClock } from '../../infra/service/clock.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { ingestSettingsSchema } from '../../ingest/config.ts'
import { createRegistry } from '../../ingest/registry.ts'
import { createIngest } from '../../ingest/server.ts'
import { workerSettingsSchema } from '../../symbolicate/config.ts'
import { startSymbolication } from '../../symbolicate/main.ts'

/**
 * The process that worker-kill.test.ts kills: the real front door, log, worker and engine in one folder.
 * `node pipeline.ts DIR [POINT]` prints one line of JSON when it is ready. A base64 line on standard input is appended to
 * the log as it is, and its offset is printed. With a POINT the process kills itself there, as the kernel might.
 */
const [, , directory = '', killAt = ''] = process.argv
const logger = createLogger({ part: 'pipeline', level: 'error' })
const metrics = createMetrics({ defaults: false })

/** The second time, so that something has been written before. */
let passes = 0
function point(name: string) {
  if (name === killAt && ++passes === 2) process.kill(process.pid, 'SIGKILL')
}

async function startEngine() {
  for (;;) {
    try {
      return await startEmbeddedClickHouse({ directory: join(directory, 'clickhouse'), logger: createLogger({ part: 'engine', level: 'silent' }) })
    } catch {
      // The engine of the process that was killed before still holds the folder.
      await delay(100)
    }
  }
}

function killingClient(clickhouse: ClickHouse): ClickHouse {
  const insert = async (params: Parameters<ClickHouse['insert']>[0]) => {
    point(`before ${params.table}`)
    const result = await clickhouse.insert(params)
    point(`after ${params.table}`)
    return result
  }
  return Object.assign(Object.create(clickhouse) as ClickHouse, { insert })
}

function killingBlobs(blobs: Blobs): Blobs {
  return {
    ...blobs,
    async put(key, body, options) {
      const result = await blobs.put(key, body, options)
      if (key.startsWith('packs/')) point('after pack')
      return result
    },
  }
}

const engine = await startEngine()
const clickhouse = connectClickHouse(engine.address, 'overrun-faults')
await migrate(clickhouse, { now: Date.now() })
const log = await openEmbeddedLog({ directory: join(directory, 'log'), retention: { bytes: 2 ** 30, ageMs: 86_400_000 }, logger })
const blobs = killingBlobs(await openFsBlobs({ directory: join(directory, 'blobs') }))
const registry = createRegistry({ snapshotFile: join(directory, 'registry.json'), clock: systemClock, logger, intervalMs: 60_000 })
await registry.start()
const generous = { devicePerMinute: 1e6, deviceBurst: 1e6, sourceFailuresPerMinute: 1e6, sourceFailureBurst: 1e6 }
const ingest = createIngest({
  settings: ingestSettingsSchema.parse({ port: 0, quotas: generous }), log, blobs, registry, clock: systemClock, logger, metrics, directory: join(directory, 'ingest'),
})
await startSymbolication({
  settings: workerSettingsSchema.parse({ batchEntries: 8, batchWaitMs: 20, sandbox: { patienceMs: 5 } }),
  data: directory, log, blobs, clickhouse: killingClient(clickhouse), clock: systemClock, logger, metrics,
})
const { url } = await ingest.start()
process.stdout.write(`${JSON.stringify({ url, clickhouse: engine.address })}\n`)

for await (const line of createInterface({ input: process.stdin })) {
  const { offset } = await log.append(TOPIC_ACCEPTED, { key: 'by-hand', value: Buffer.from(line, 'base64') })
  process.stdout.write(`${JSON.stringify({ appended: offset })}\n`)
}
