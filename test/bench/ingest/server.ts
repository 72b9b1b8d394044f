import { blobSettingsSchema } from '../../../infra/blobs/config.ts'
import { openBlobs } from '../../../infra/blobs/open.ts'
import { logSettingsSchema } from '../../../infra/log/config.ts'
import { openLog } from '../../../infra/log/open.ts'
import { systemClock } from '../../../infra/service/clock.ts'
import { createLogger } from '../../../infra/service/logger.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'
import { ingestSettingsSchema } from '../../../ingest/config.ts'
import { startIngest } from '../../../ingest/main.ts'

/** The measured process: ingest as `startIngest` wires it, with quotas that 64 devices on one loopback network need. */
export type FromServer = { kind: 'ready'; url: string } | { kind: 'usage'; cpuMicros: number; rssBytes: number }

const quotas = { devicePerMinute: 1e9, deviceBurst: 1e9, sourceFailuresPerMinute: 1e9, sourceFailureBurst: 1e9 }
const data = process.argv[2]!
const logger = createLogger({ part: 'ingest', level: 'warn' })
const metrics = createMetrics({ defaults: true })
const log = await openLog({ settings: logSettingsSchema.parse({}), data, logger, metrics })
const blobs = await openBlobs({ settings: blobSettingsSchema.parse({}), data })
const ingest = await startIngest({ settings: ingestSettingsSchema.parse({ port: 0, quotas }), data, log, blobs, clock: systemClock, logger, metrics })

const tell = (message: FromServer) => process.send!(message)
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  tell({ kind: 'usage', cpuMicros: user + system, rssBytes: process.memoryUsage.rss() })
})
process.on('SIGTERM', () => void ingest.stop().then(() => log.close()).then(() => process.exit(0)))
tell({ kind: 'ready', url: ingest.url })
