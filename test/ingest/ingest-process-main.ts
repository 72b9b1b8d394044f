import { blobSettingsSchema } from '../../infra/blobs/config.ts'
import { openBlobs } from '../../infra/blobs/open.ts'
import { logSettingsSchema } from '../../infra/log/config.ts'
import { openLog } from '../../infra/log/open.ts'
import { systemClock } from '../../infra/service/clock.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { ingestSettingsSchema } from '../../ingest/config.ts'
import { startIngest } from '../../ingest/main.ts'
import type { IngestProcessOptions } from './ingest-process.ts'

/** The process of ingest-process.ts. */
const { data, log: logSettings = {}, blobs: blobSettings = {}, ingest = {}, killAfter } = JSON.parse(process.argv[2]!) as IngestProcessOptions
const logger = createLogger({ part: 'ingest', level: process.env.LOG_LEVEL ?? 'silent' })
const metrics = createMetrics({ defaults: false })
const log = await openLog({ settings: logSettingsSchema.parse(logSettings), data, logger, metrics })
const blobs = await openBlobs({ settings: blobSettingsSchema.parse(blobSettings), data })
const put: typeof blobs.put = async (key, body, options) => {
  const stored = await blobs.put(key, body, options)
  if (killAfter === 'dump-stored') process.kill(process.pid, 'SIGKILL')
  return stored
}
const generous = { devicePerMinute: 1e9, deviceBurst: 1e9, issuerPerMinute: 1e9, issuerBurst: 1e9, fleetPerMinute: 1e9, fleetBurst: 1e9, sourceFailuresPerMinute: 1e9, sourceFailureBurst: 1e9 }
const { url } = await startIngest({
  settings: ingestSettingsSchema.parse({ port: 0, quotas: generous, ...ingest }), data, log, blobs: { ...blobs, put }, clock: systemClock, logger, metrics,
})
process.stdout.write(`${JSON.stringify({ url })}\n`)
