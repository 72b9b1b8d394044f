import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectClickHouse, type ClickHouse } from '../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse, type EmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import { migrate } from '../../infra/clickhouse/migrate.ts'
import { quietLogger } from '../infra/clickhouse-fixture.ts'
import { startKafka, type KafkaServer } from './kafka.ts'
import { startOverrun, type OverrunProcess } from './overrun-process.ts'
import { startS3, type S3Server } from './s3.ts'

/**
 * A large installation on this machine: a real broker, a real S3 server, the engine behind ClickHouse's HTTP protocol as
 * the server, and our commands as processes that are started with a configuration file and may be killed.
 */
export interface Installation {
  kafka: KafkaServer
  s3: S3Server
  engine: EmbeddedClickHouse
  clickhouse: ClickHouse
  /** The file that all processes are started with. */
  configFile: string
  folder: string
  /** `name` is also the name of its data folder: the same name again is the same process, restarted. */
  start(part: 'ingest' | 'symbolicate' | 'dashboard', name: string, settings?: Record<string, string>, env?: Record<string, string>): Promise<OverrunProcess>
  stop(): Promise<void>
}

export const TOKEN = 'a-token-of-the-tests'

export async function startInstallation({ schema = true, retention = {}, kafka: settings = {} }: { schema?: boolean; retention?: { bytes?: number; ageMs?: number }; kafka?: Parameters<typeof startKafka>[0] } = {}): Promise<Installation> {
  const folder = mkdtempSync(join(tmpdir(), 'overrun-installation-'))
  const [kafka, s3, engine] = await Promise.all([startKafka(settings), startS3(), startEmbeddedClickHouse({ directory: join(folder, 'clickhouse'), logger: quietLogger })])
  const clickhouse = connectClickHouse(engine.address, 'overrun-test')
  if (schema) await migrate(clickhouse, { now: Date.now() })
  const secret = (name: string, text: string): string => {
    const path = join(folder, name)
    writeFileSync(path, `${text}\n`, { mode: 0o600 })
    return path
  }
  // Secrets come in files, as an orchestrator mounts them.
  const secrets = {
    OVERRUN_BLOBS_S3_SECRET_ACCESS_KEY_FILE: secret('s3-secret', s3.credentials.secretAccessKey),
    OVERRUN_CLICKHOUSE_SERVER_PASSWORD_FILE: secret('clickhouse-password', engine.address.password),
    OVERRUN_DASHBOARD_TOKEN_FILE: secret('token', TOKEN),
  }
  const configFile = join(folder, 'overrun.yaml')
  writeFileSync(configFile, `
# YAML, so JSON too
log:
  retention: ${JSON.stringify(retention)}
  kafka: ${JSON.stringify({ brokers: kafka.brokers, allowSingleBroker: true, partitions: 4, sessionTimeoutMs: 6_000 })}
blobs:
  s3: ${JSON.stringify({ endpoint: s3.endpoint, bucket: s3.bucket, region: s3.region, forcePathStyle: true, accessKeyId: s3.credentials.accessKeyId })}
clickhouse:
  server: ${JSON.stringify({ url: engine.address.url, username: engine.address.username, database: engine.address.database })}
ingest:
  port: 0
  quotas: { devicePerMinute: 1000000, deviceBurst: 1000000 }
symbolicate:
  batchWaitMs: 50
dashboard:
  port: 0
`.replace('  retention: {}\n', ''))

  return {
    kafka, s3, engine, clickhouse, configFile, folder,
    async start(part, name, settings = {}, env = {}) {
      const data = join(folder, name)
      mkdirSync(data, { recursive: true })
      const said = Object.entries(settings).flatMap(([path, value]) => ['--set', `${path}=${value}`])
      return startOverrun([part, '--config', configFile, '--data', data, ...said], { ...secrets, ...env })
    },
    async stop() {
      await clickhouse.close()
      await Promise.all([kafka.stop(), s3.stop(), engine.stop()])
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
