import { setTimeout as delay } from 'node:timers/promises'
import type { EmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import type { Fleet } from '../../ingest/device/fleet.ts'
import { rowsOf } from '../infra/clickhouse-fixture.ts'
import { startInstallation as startServers } from '../system/installation.ts'
import { freePorts } from '../system/java.ts'
import type { KafkaServer } from '../system/kafka.ts'
import { countedIn, trust } from './embedded.ts'
import type { Counted } from './oracle.ts'
import { createPart, type Part } from './part.ts'
import { startToxiproxy, type Link } from './toxiproxy.ts'

/**
 * The large installation of test/system with two ingests, two workers and a dashboard that may be hurt, always on the same
 * ports and folders; and, where asked, a link that may be hurt between every pair.
 */
export interface Installation {
  readonly ingests: readonly Part[]
  readonly workers: readonly Part[]
  readonly dashboard: Part
  readonly kafka: KafkaServer
  readonly engine: EmbeddedClickHouse
  /** `kafka`, and ROLE-s3 and ROLE-clickhouse of each role; empty without links. */
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

export async function startInstallation({ linked = false } = {}): Promise<Installation> {
  const ends: (() => Promise<unknown>)[] = []
  const stop = async () => { for (const end of ends.splice(0).reverse()) await end() }
  try {
    const toxiproxy = linked ? await startToxiproxy() : null
    if (toxiproxy) ends.push(() => toxiproxy.stop())
    // A broker tells its clients one address: everybody reaches it through the same link.
    const [brokerPort] = linked ? await freePorts(1) : []
    const servers = await startServers(brokerPort === undefined ? {} : { kafka: { advertised: brokerPort } })
    ends.push(() => servers.stop())
    const { kafka, s3, engine, clickhouse } = servers

    const links = new Map<string, Link>()
    /** host:port behind a link of this name. */
    async function behind(name: string, host: string, port?: number): Promise<string> {
      if (toxiproxy === null) return host
      const link = await toxiproxy.proxy(name, host, port)
      links.set(name, link)
      return `127.0.0.1:${link.port}`
    }
    const broker = await behind('kafka', kafka.brokers[0]!, brokerPort)
    const settings = new Map<Role, Record<string, string>>()
    for (const role of ROLES) {
      settings.set(role, {
        'log.kafka.brokers': broker,
        'blobs.s3.endpoint': `http://${await behind(`${role}-s3`, new URL(s3.endpoint).host)}`,
        'clickhouse.server.url': `http://${await behind(`${role}-clickhouse`, new URL(engine.address.url).host)}`,
      })
    }

    const make = (role: Role, name: string, more: Record<string, string> = {}) => createPart(name, (env) => servers.start(role, name, { ...settings.get(role), ...more }, env))
    const ports = await freePorts(3)
    const ingests = [0, 1].map((index) => make('ingest', `ingest-${index}`, { 'ingest.port': String(ports[index]) }))
    const workers = [0, 1].map((index) => make('symbolicate', `symbolicate-${index}`))
    const dashboard = make('dashboard', 'dashboard', { 'dashboard.port': String(ports[2]) })
    const parts = [...ingests, ...workers, dashboard]
    for (const part of parts) {
      ends.push(async () => {
        part.signal('SIGCONT')
        await part.kill()
      })
    }
    await Promise.all(parts.map((part) => part.start()))
    return {
      ingests, workers, dashboard, kafka, engine, links, stop,
      urls: () => [0, 1].map((index) => `http://127.0.0.1:${ports[index]}`),
      async trust(fleet) {
        await trust(dashboard, fleet)
        // What is promised: every ingest knows within five seconds.
        await delay(5_000)
      },
      counted: () => countedIn((query) => rowsOf(clickhouse, query)),
      rows: (query) => rowsOf(clickhouse, query),
      async command(query) { await clickhouse.command({ query }) },
    }
  } catch (error) {
    await stop()
    throw error
  }
}
