import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connectClickHouse, type ClickHouse } from '../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse, type EmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import { quietLogger, rowsOf } from '../infra/clickhouse-fixture.ts'
import { freePorts } from '../system/java.ts'
import { startKafka, type KafkaServer } from '../system/kafka.ts'
import { startS3 } from '../system/s3.ts'
import { countedIn, trust } from './embedded.ts'
import type { Fleet } from '../../ingest/device/fleet.ts'
import type { Counted } from './oracle.ts'
import { createPart, type Part } from './part.ts'
import { startToxiproxy, type Link } from './toxiproxy.ts'

/**
 * The large installation on one machine: a Kafka broker, an S3 server, ClickHouse's engine behind its HTTP protocol, two
 * ingests, two workers and a dashboard, each a process; and, where asked, a link that can be hurt between every pair.
 */
export interface Installation {
  readonly ingests: readonly Part[]
  readonly workers: readonly Part[]
  readonly dashboard: Part
  readonly kafka: KafkaServer
  readonly engine: EmbeddedClickHouse
  /** `FROM-TO`, when started with links: ingest-kafka, symbolicate-kafka, ingest-s3, ... */
  readonly links: ReadonlyMap<string, Link>
  urls(): string[]
  trust(fleet: Fleet): Promise<void>
  counted(): Promise<Counted>
  rows<T>(query: string): Promise<T[]>
  command(query: string): Promise<void>
  stop(): Promise<void>
}

const ROLES = ['ingest', 'symbolicate', 'dashboard'] as const
type Role = (typeof ROLES)[number]

export async function startInstallation({ linked = false, settings = {} }: { linked?: boolean; settings?: Record<string, string> } = {}): Promise<Installation> {
  const directory = mkdtempSync(join(tmpdir(), 'overrun-installation-'))
  const ends: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true, maxRetries: 5 })]
  const stop = async () => { for (const end of ends.splice(0).reverse()) await end() }
  try {
    const toxiproxy = linked ? await startToxiproxy() : null
    if (toxiproxy) ends.push(() => toxiproxy.stop())
    const links = new Map<string, Link>()
    // A broker tells its clients one address: everybody reaches it through the same link.
    const [brokerPort] = linked ? await freePorts(1) : []
    const [kafka, s3, engine] = await Promise.all([
      startKafka(brokerPort === undefined ? {} : { advertised: brokerPort }),
      startS3(),
      startEmbeddedClickHouse({ directory: join(directory, 'clickhouse'), logger: quietLogger }),
    ])
    ends.push(() => kafka.stop(), () => s3.stop(), () => engine.stop())
    const clickhouse = connectClickHouse(engine.address, 'overrun-faults')
    ends.push(() => clickhouse.close())

    const through = async (name: string, address: string, port?: number): Promise<string> => {
      if (toxiproxy === null) return address
      const { protocol, host } = address.includes('://') ? new URL(address) : { protocol: '', host: address }
      const link = await toxiproxy.proxy(name, host, port)
      links.set(name, link)
      return `${protocol}${protocol && '//'}127.0.0.1:${link.port}`
    }
    const brokers = await through('kafka', kafka.brokers[0]!, brokerPort)
    const environmentOf = async (role: Role, name: string): Promise<Record<string, string>> => ({
      OVERRUN_DATA: join(directory, name),
      OVERRUN_LOG_LEVEL: 'warn',
      ...(role === 'dashboard' ? {} : { OVERRUN_LOG_KAFKA_BROKERS: brokers, OVERRUN_LOG_KAFKA_ALLOW_SINGLE_BROKER: 'true', OVERRUN_LOG_KAFKA_PARTITIONS: '4', OVERRUN_LOG_KAFKA_REPLICATION_FACTOR: '1', OVERRUN_LOG_KAFKA_MIN_INSYNC_REPLICAS: '1', OVERRUN_LOG_KAFKA_SESSION_TIMEOUT_MS: '10000' }),
      OVERRUN_BLOBS_S3_ENDPOINT: addresses.get(`${role}-s3`)!,
      OVERRUN_BLOBS_S3_BUCKET: s3.bucket,
      OVERRUN_BLOBS_S3_FORCE_PATH_STYLE: 'true',
      OVERRUN_BLOBS_S3_ACCESS_KEY_ID: s3.credentials.accessKeyId,
      OVERRUN_BLOBS_S3_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
      OVERRUN_CLICKHOUSE_SERVER_URL: addresses.get(`${role}-clickhouse`)!,
      OVERRUN_CLICKHOUSE_SERVER_USERNAME: engine.address.username,
      OVERRUN_CLICKHOUSE_SERVER_PASSWORD: engine.address.password,
      ...settings,
    })
    const addresses = new Map<string, string>()
    for (const role of ROLES) {
      addresses.set(`${role}-s3`, await through(`${role}-s3`, s3.endpoint))
      addresses.set(`${role}-clickhouse`, await through(`${role}-clickhouse`, engine.address.url))
    }

    const ports = await freePorts(3)
    const make = async (role: Role, name: string, ...args: string[]) => createPart(name, [role, ...args], await environmentOf(role, name))
    const ingests = [await make('ingest', 'ingest-1', '--port', String(ports[0])), await make('ingest', 'ingest-2', '--port', String(ports[1]))]
    const workers = [await make('symbolicate', 'symbolicate-1'), await make('symbolicate', 'symbolicate-2')]
    const dashboard = await make('dashboard', 'dashboard', '--port', String(ports[2]))
    const parts = [...ingests, ...workers, dashboard]
    for (const part of parts) ends.push(async () => { part.signal('SIGCONT'); await part.kill() })

    const migration = createPart('migrate', ['migrate'], await environmentOf('symbolicate', 'migrate'))
    await migration.start().catch(() => {})
    const how = await migration.gone
    if (how !== 'exit code 0') throw new Error(`migrate: ${how}: ${migration.said.join('\n')}`)
    await Promise.all(parts.map((part) => part.start()))
    return {
      ingests, workers, dashboard, kafka, engine, links, stop,
      urls: () => [0, 1].map((index) => `http://127.0.0.1:${ports[index]}`),
      async trust(fleet) {
        await trust(dashboard, fleet)
        // What is promised: every ingest knows within five seconds.
        await delay(5_000)
      },
      counted: () => countedIn((query) => rowsOf(clickhouse as ClickHouse, query)),
      rows: (query) => rowsOf(clickhouse, query),
      async command(query) { await clickhouse.command({ query }) },
    }
  } catch (error) {
    await stop()
    throw error
  }
}
