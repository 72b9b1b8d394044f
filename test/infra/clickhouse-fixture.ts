import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectClickHouse, type ClickHouse } from '../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse, type EmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import { migrate } from '../../infra/clickhouse/migrate.ts'
import { createLogger } from '../../infra/service/logger.ts'

/** The real engine on a directory of its own, migrated unless told otherwise, and the ordinary client. */
export interface TestClickHouse { engine: EmbeddedClickHouse; clickhouse: ClickHouse; directory: string; stop(): Promise<void> }

export const quietLogger = createLogger({ part: 'test', level: 'silent' })

export async function startTestClickHouse({ schema = true } = {}): Promise<TestClickHouse> {
  const directory = await mkdtemp(join(tmpdir(), 'overrun-clickhouse-'))
  const engine = await startEmbeddedClickHouse({ directory, logger: quietLogger })
  const clickhouse = connectClickHouse(engine.address, 'overrun-test')
  if (schema) await migrate(clickhouse, { now: Date.UTC(2026, 0, 1) })
  return {
    engine,
    clickhouse,
    directory,
    async stop() {
      await clickhouse.close()
      await engine.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

export async function rowsOf<T>(clickhouse: ClickHouse, query: string, query_params: Record<string, unknown> = {}): Promise<T[]> {
  return (await clickhouse.query({ query, query_params, format: 'JSONEachRow' })).json<T>()
}

/** Asks again until it answers true; a test waits for a condition, never for seconds. */
export async function until(condition: () => Promise<boolean> | boolean, what: string): Promise<void> {
  const deadline = Date.now() + 90_000
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`never happened: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
