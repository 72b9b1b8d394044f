import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectClickHouse } from '../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import type { Fleet } from '../../ingest/device/fleet.ts'
import { quietLogger, rowsOf } from '../infra/clickhouse-fixture.ts'
import { freePorts } from '../system/java.ts'
import { startOverrun } from '../system/overrun-process.ts'
import type { Counted } from './oracle.ts'
import { createPart, type Part } from './part.ts'

/** `overrun start`, as a user runs it, on a folder and ports of its own. */
export interface Embedded extends Part {
  readonly directory: string
  /** Where devices send. */
  readonly url: string
  api<T>(path: string, body?: unknown): Promise<T>
  trust(fleet: Fleet): Promise<void>
  /** Reads what was counted from its folder; only when it does not run. */
  counted(): Promise<Counted>
  remove(): Promise<void>
}

export async function createEmbedded({ at = mkdtempSync(join(tmpdir(), 'overrun-faults-')) } = {}): Promise<Embedded> {
  const directory = join(at, 'data')
  const [ingestPort, dashboardPort] = await freePorts(2)
  const part = createPart('start', (env) => startOverrun(['start', '--data', directory, '--ingest-port', String(ingestPort), '--dashboard-port', String(dashboardPort)], env))
  const api = <T>(path: string, body?: unknown) => askApi<T>(part, path, body)
  return Object.defineProperties({
    directory,
    url: `http://127.0.0.1:${ingestPort}`,
    api,
    trust: (fleet: Fleet) => trust(part, fleet),
    async counted() {
      const engine = await untilFree(() => startEmbeddedClickHouse({ directory: join(directory, 'clickhouse'), logger: quietLogger }))
      const clickhouse = connectClickHouse(engine.address, 'overrun-faults')
      try {
        return await countedIn((query) => rowsOf(clickhouse, query))
      } finally {
        await clickhouse.close()
        await engine.stop()
      }
    },
    async remove() {
      part.signal('SIGCONT')
      await part.kill()
      await rm(at, { recursive: true, force: true, maxRetries: 5 })
    },
  }, Object.getOwnPropertyDescriptors(part)) as Embedded
}

/** The API of the part that said where its pages are. */
export async function askApi<T>({ ready }: Part, path: string, body?: unknown): Promise<T> {
  const response = await fetch(new URL(`/api/v1${path}`, ready.dashboard_url), {
    headers: { authorization: `Bearer ${ready.token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(20_000),
  })
  if (!response.ok) throw new Error(`${path}: ${response.status} ${(await response.text()).slice(0, 300)}`)
  return await response.json() as T
}

export async function trust(part: Part, fleet: Fleet): Promise<void> {
  await askApi(part, '/fleets/default/anchors', { pem: fleet.ca.pem, key_protection: 'software' })
}

/** The engine of a process that was killed a moment ago still holds the folder. */
async function untilFree<T>(open: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await open()
    } catch (error) {
      if (tries === 50) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

/** The tables as they are: each id, how often, and the dead letters. */
export async function countedIn(rows: (query: string) => Promise<unknown[]>): Promise<Counted> {
  const crashes = await rows('SELECT id, count() AS n, any(standing) AS standing FROM crashes FINAL GROUP BY id') as { id: string; n: string; standing: string }[]
  const letters = await rows('SELECT slug, count() AS n FROM dead_letters FINAL GROUP BY slug') as { slug: string; n: string }[]
  return {
    crashes: new Map(crashes.map(({ id, n }) => [id, Number(n)])),
    standings: new Set(crashes.map(({ standing }) => standing)),
    letters: new Map(letters.map(({ slug, n }) => [slug, Number(n)])),
  }
}
