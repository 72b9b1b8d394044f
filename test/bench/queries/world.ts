import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createDashboard } from '../../../dashboard/server.ts'
import { dashboardSettingsSchema } from '../../../dashboard/config.ts'
import { openFsBlobs } from '../../../infra/blobs/fs.ts'
import { connectClickHouse, type ClickHouse } from '../../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse } from '../../../infra/clickhouse/embedded.ts'
import { migrate } from '../../../infra/clickhouse/migrate.ts'
import { createManualClock } from '../../../infra/service/clock.ts'
import { createLogger } from '../../../infra/service/logger.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'

/** The embedded engine on a folder, and the dashboard that asks it, as a browser does. */
export interface World {
  clickhouse: ClickHouse
  clock: ReturnType<typeof createManualClock>
  pid(): number
  /** One path below /api/v1; anything but 200 is an error. */
  get(path: string): Promise<unknown>
  rows<T>(query: string): Promise<T[]>
  merging(): Promise<boolean>
  /** Busy ones, middling ones and rare ones. */
  someBuckets(): Promise<string[]>
  someDevices(): Promise<string[]>
  someCrashes(bucket: string): Promise<string[]>
  /** The wall clock, and the CPU time that the engine took. */
  timed(work: () => Promise<unknown>): Promise<{ ms: number; cpuMs: number }>
  stop(): Promise<void>
}

const TOKEN = 'bench-token-0123456789'
const TICK_MS = 1000 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

export async function openWorld({ directory, now, memoryLimitBytes }: { directory: string; now: number; memoryLimitBytes?: number }): Promise<World> {
  const logger = createLogger({ part: 'bench', level: 'error' })
  const engine = await startEmbeddedClickHouse({ directory, logger, ...(memoryLimitBytes === undefined ? {} : { memoryLimitBytes }) })
  const clickhouse = connectClickHouse(engine.address, 'overrun-bench')
  await migrate(clickhouse, { now })
  const clock = createManualClock(now)
  const blobs = await openFsBlobs({ directory: join(directory, '..', 'blobs') })
  const dashboard = createDashboard({
    settings: dashboardSettingsSchema.parse({ port: 0, token: TOKEN }), clickhouse, blobs, clock, logger, metrics: createMetrics({ defaults: false }),
    symbols: { put: async () => ({ status: 'unusable', reason: 'the benchmark has none' }) },
  })
  const { url } = await dashboard.start()
  const rows = async <T>(query: string): Promise<T[]> => (await clickhouse.query({ query, format: 'JSONEachRow' })).json<T>()
  const cpuMs = (): number => {
    const fields = readFileSync(`/proc/${engine.pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS
  }
  return {
    clickhouse, clock, rows,
    pid: () => engine.pid!,
    async get(path) {
      const response = await fetch(`${url}/api/v1/${path}`, { headers: { authorization: `Bearer ${TOKEN}` } })
      if (response.status !== 200) throw new Error(`${path}: ${response.status} ${await response.text()}`)
      return response.json()
    },
    merging: async () => (await rows<{ n: string }>('SELECT count() AS n FROM system.merges')).some(({ n }) => n !== '0'),
    async someBuckets() {
      const all = await rows<{ bucket: string }>('SELECT bucket FROM (SELECT bucket, count() AS n FROM crashes GROUP BY bucket) ORDER BY n DESC, bucket')
      return [0, 1, 5, 20, 60, 150, 300, 500].map((rank) => all[Math.min(rank, all.length - 1)]!.bucket)
    },
    someDevices: async () => (await rows<{ device: string }>('SELECT device FROM devices WHERE sipHash64(device) % 3000 = 0 GROUP BY device ORDER BY device LIMIT 20')).map(({ device }) => device),
    someCrashes: async (bucket) => (await rows<{ id: string }>(`SELECT id FROM bucket_crashes WHERE bucket = '${bucket}' AND sipHash64(id) % 40000 = 0 ORDER BY id LIMIT 20`)).map(({ id }) => id),
    async timed(work) {
      const [started, cpu] = [performance.now(), cpuMs()]
      await work()
      return { ms: performance.now() - started, cpuMs: cpuMs() - cpu }
    },
    async stop() {
      await dashboard.stop()
      await clickhouse.close()
      await engine.stop()
    },
  }
}
