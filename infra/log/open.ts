import type { SASLOptions } from 'kafkajs'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from '../service/logger.ts'
import type { Metrics } from '../service/metrics.ts'
import type { KafkaSettings, LogSettings } from './config.ts'
import { openEmbeddedLog } from './embedded.ts'
import type { KafkaLogOptions } from './kafka.ts'
import type { Log } from './log.ts'

/** The log that the settings name: Kafka, or DATA/log. kafkajs is loaded only where there is a Kafka. */
export async function openLog({ settings, data, logger, metrics }: { settings: LogSettings; data: string; logger: Logger; metrics?: Metrics }): Promise<Log> {
  const { kafka, retention, maxBytesInFlight } = settings
  if (kafka !== undefined) {
    const { connectKafkaLog } = await import('./kafka.ts')
    return connectKafkaLog({ ...kafkaOptions(kafka), retention, maxBytesInFlight, logger })
  }
  return openEmbeddedLog({ directory: join(data, 'log'), retention, maxBytesInFlight, logger, ...(metrics ? { metrics } : {}) })
}

function kafkaOptions({ ssl, caFile, certFile, keyFile, sasl, ...kafka }: KafkaSettings): Omit<KafkaLogOptions, 'retention' | 'logger'> {
  const pem = (path: string | undefined) => (path === undefined ? undefined : readFileSync(path, 'utf8'))
  return {
    ...kafka,
    ...(ssl ? { ssl: { ca: pem(caFile), cert: pem(certFile), key: pem(keyFile) } } : {}),
    // The mechanism is one of three, which the type of kafkajs wants to know beforehand.
    ...(sasl === undefined ? {} : { sasl: sasl as SASLOptions }),
  }
}
