import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openFsBlobs } from '../../../infra/blobs/fs.ts'
import type { Blobs } from '../../../infra/blobs/blobs.ts'
import { createManualClock } from '../../../infra/service/clock.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'
import { dashboardSettingsSchema, type DashboardSettings } from '../../../dashboard/config.ts'
import { createDashboard, type Dashboard, type DashboardDeps } from '../../../dashboard/server.ts'
import { quietLogger, startTestClickHouse, type TestClickHouse } from '../../infra/clickhouse-fixture.ts'

/** A dashboard on the real engine, with pages of two files, asked over HTTP. */
export const TOKEN = 'test-token-0123456789abcdef'
export interface TestDashboard {
  base: string
  world: TestClickHouse
  blobs: Blobs
  clock: ReturnType<typeof createManualClock>
  registryChanges: () => number
  /** How often a worker beside it would have been told of symbols. */
  arrivals(): number
  /** With the token. */
  get<T = Record<string, unknown>>(path: string): Promise<T>
  post<T = Record<string, unknown>>(path: string, body: unknown): Promise<T>
  raw(path: string, init?: RequestInit): Promise<Response>
  stop(): Promise<void>
}

export async function startTestDashboard({ now, symbols, settings = {} }: {
  now: number
  symbols?: DashboardDeps['symbols']
  settings?: Partial<DashboardSettings>
}): Promise<TestDashboard> {
  const world = await startTestClickHouse()
  const directory = await mkdtemp(join(tmpdir(), 'overrun-dashboard-'))
  await mkdir(join(directory, 'web/assets'), { recursive: true })
  await writeFile(join(directory, 'web/index.html'), '<!doctype html><title>Overrun</title>')
  await writeFile(join(directory, 'web/assets/app-1a2b3c.js'), 'export {}')
  const blobs = await openFsBlobs({ directory: join(directory, 'blobs') })
  const clock = createManualClock(now)
  let changes = 0
  let arrivals = 0
  const dashboard: Dashboard = createDashboard({
    settings: dashboardSettingsSchema.parse({ port: 0, token: TOKEN, fleet: 'demo', webRoot: join(directory, 'web'), pollMs: 50, ...settings }),
    clickhouse: world.clickhouse, blobs, clock, logger: quietLogger, metrics: createMetrics({ defaults: false }),
    symbols: symbols ?? { put: async () => ({ status: 'unusable', reason: 'not a symbol file' }) },
    onRegistryChange: () => { changes++ },
    onSymbols: () => { arrivals++ },
  })
  const { port } = await dashboard.start()
  const base = `http://127.0.0.1:${port}`
  const raw = (path: string, init: RequestInit = {}) => fetch(base + path, { redirect: 'manual', ...init })
  const authorization = { authorization: `Bearer ${TOKEN}` }
  const json = async <T>(response: Response): Promise<T> => {
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
    return (await response.json()) as T
  }
  return {
    base, world, blobs, clock, raw, arrivals: () => arrivals,
    registryChanges: () => changes,
    get: async (path) => json(await raw(path, { headers: authorization })),
    post: async (path, body) => json(await raw(path, { method: 'POST', headers: { ...authorization, 'content-type': 'application/json' }, body: JSON.stringify(body) })),
    async stop() {
      await dashboard.stop()
      await world.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
