import { systemClock } from '../../../infra/service/clock.ts'
import { createLogger } from '../../../infra/service/logger.ts'
import { ingestSettingsSchema } from '../../../ingest/config.ts'
import { startIngest } from '../../../ingest/main.ts'

/** The measured process: ingest as `startIngest` wires it, with quotas that 64 devices on one loopback network need. */
export type FromServer = { kind: 'ready'; url: string } | { kind: 'usage'; cpuMicros: number; rssBytes: number }

const quotas = { devicePerMinute: 1e9, deviceBurst: 1e9, sourceFailuresPerMinute: 1e9, sourceFailureBurst: 1e9 }
const ingest = await startIngest({
  settings: ingestSettingsSchema.parse({ port: 0, quotas }),
  data: process.argv[2]!, clock: systemClock, logger: createLogger({ part: 'ingest', level: 'warn' }),
})

const tell = (message: FromServer) => process.send!(message)
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  tell({ kind: 'usage', cpuMicros: user + system, rssBytes: process.memoryUsage.rss() })
})
process.on('SIGTERM', () => void ingest.stop().then(() => process.exit(0)))
tell({ kind: 'ready', url: ingest.url })
