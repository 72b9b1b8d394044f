import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectClickHouse, type ClickHouse } from '../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import { migrate } from '../../infra/clickhouse/migrate.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { toRow, type TestCrash } from './crash-row.ts'

/** The real engine with the real schema, and rows put straight into it: for tests of what is computed from rows. */
export interface TestEngine {
  clickhouse: ClickHouse
  insert(crashes: readonly TestCrash[]): Promise<void>
  /** An event of people, such as `fleet.settings`; numbered in the order of the calls. */
  say(event: { fleet?: string; at: number; kind: string; subject: string; body: object }): Promise<void>
  /** Everything goes, the schema stays. */
  clear(): Promise<void>
  stop(): Promise<void>
}

const INSERT_ROWS = 5000

export async function startTestEngine(): Promise<TestEngine> {
  const directory = await mkdtemp(join(tmpdir(), 'overrun-detect-'))
  const engine = await startEmbeddedClickHouse({ directory, logger: createLogger({ part: 'test', level: 'silent' }) })
  const clickhouse = connectClickHouse(engine.address, 'overrun-test')
  await migrate(clickhouse, { now: Date.UTC(2026, 0, 1) })
  let said = 0
  return {
    clickhouse,
    async insert(crashes) {
      for (let at = 0; at < crashes.length; at += INSERT_ROWS) {
        await clickhouse.insert({ table: 'crashes', values: crashes.slice(at, at + INSERT_ROWS).map(toRow), format: 'JSONEachRow' })
      }
    },
    async say({ fleet = 'demo', at, kind, subject, body }) {
      said++
      const row = { fleet, at: new Date(at).toISOString(), number: said, actor: 'test', kind, subject, body: JSON.stringify(body), prev_hash: '', hash: String(said) }
      await clickhouse.insert({ table: 'events', values: [row], format: 'JSONEachRow' })
    },
    async clear() {
      const tables = await clickhouse.query({ query: `SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name != 'schema_migrations'`, format: 'JSONEachRow' })
      for (const { name: table } of await tables.json<{ name: string }>()) await clickhouse.command({ query: `TRUNCATE TABLE ${table}` })
    },
    async stop() {
      await clickhouse.close()
      await engine.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
