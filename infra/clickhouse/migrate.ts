import { ClickHouseError } from '@clickhouse/client'
import { createHash } from 'node:crypto'
import { readFile, readdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { BrokenWorld } from '../service/errors.ts'
import type { ClickHouse } from './client.ts'
import { setRetention } from './retention.ts'

/**
 * The schema as numbered files, applied in order, forward only. What was applied is kept with the checksum of its text,
 * so that an edited file is an error rather than two installations that differ in silence. ClickHouse has no transaction
 * over DDL: a migration may be cut by a kill and is then run again from its first statement, so each statement must be
 * repeatable (IF NOT EXISTS, IF EXISTS, or an INSERT that says what is there already; a test holds this). For the same
 * reason two that migrate at once do no harm: each looks again before each file, and what loses a race is tried again.
 * A worker runs on a schema that is newer than it, as a rollout needs it; only to migrate such a schema is refused.
 */
const SCHEMA = new URL('./schema/', import.meta.url)

const LEDGER = `
CREATE TABLE IF NOT EXISTS schema_migrations
(
    name       String,
    checksum   String,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY name`

export interface Migration { name: string; checksum: string; statements: string[] }

/** Applies what is missing; says what it applied. Rows stay for `retentionDays`, or for good. */
export async function migrate(clickhouse: ClickHouse, { now, retentionDays, directory = SCHEMA }: { now: number; retentionDays?: number | undefined; directory?: URL }): Promise<{ applied: string[] }> {
  await clickhouse.command({ query: LEDGER })
  const known = await readMigrations(directory)
  const newer = [...(await appliedChecksums(clickhouse)).keys()].filter((name) => !known.some((migration) => migration.name === name))
  if (newer.length > 0) {
    throw new BrokenWorld('schema-newer', `schema: ${newer.join(', ')} was applied by a newer build; migrate with that one, since a schema only goes forward`, { retryable: false })
  }
  const applied: string[] = []
  for (const migration of await pendingOf(clickhouse, directory)) {
    if ((await appliedChecksums(clickhouse)).has(migration.name)) continue
    for (const statement of migration.statements) await apply(clickhouse, statement)
    const row = { name: migration.name, checksum: migration.checksum, applied_at: new Date(now).toISOString() }
    await clickhouse.insert({ table: 'schema_migrations', values: [row], format: 'JSONEachRow' })
    applied.push(migration.name)
  }
  if (directory === SCHEMA) await setRetention(clickhouse, retentionDays)
  return { applied }
}

/** What fills a new table from `crashes` names {day} and {next_day}: it is run once for each day that there is, so that none takes long. */
async function apply(clickhouse: ClickHouse, statement: string): Promise<void> {
  if (!statement.includes('{day:')) return again(() => clickhouse.command({ query: statement }))
  const days = await clickhouse.query({ query: 'SELECT DISTINCT toString(toStartOfInterval(event_time, INTERVAL 1 DAY)) AS day FROM crashes ORDER BY day', format: 'JSONEachRow' })
  for (const { day } of await days.json<{ day: string }>()) {
    const from = Date.parse(`${day.slice(0, 10)}T00:00:00Z`)
    await again(() => clickhouse.command({ query: statement, query_params: { day: new Date(from), next_day: new Date(from + 86_400_000) } }))
  }
}

/**
 * Two that make or change one table at the same moment: IF NOT EXISTS looks first and makes afterwards, so that the slower
 * one may hear that the table, its directory or its column is there by now. 57, 44: exists already. 60, 16, 10: gone already.
 * 517, 473: the other one holds it.
 */
const RACES = new Set(['57', '44', '60', '16', '10', '517', '473'])

async function again(statement: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return void await statement()
    } catch (error) {
      if (tries === 5 || !(error instanceof ClickHouseError) || !RACES.has(error.code)) throw error
      await delay(200 * tries)
    }
  }
}

/** Names of the migrations that this build has and the database has not: for readiness, changes nothing. */
export async function pendingMigrations(clickhouse: ClickHouse, { directory = SCHEMA }: { directory?: URL } = {}): Promise<string[]> {
  return (await pendingOf(clickhouse, directory)).map(({ name }) => name)
}

async function pendingOf(clickhouse: ClickHouse, directory: URL): Promise<Migration[]> {
  const applied = await appliedChecksums(clickhouse)
  const migrations = await readMigrations(directory)
  for (const { name, checksum } of migrations) {
    const before = applied.get(name)
    if (before !== undefined && before !== checksum) {
      throw new BrokenWorld('migration-changed', `schema: ${name} was changed after it was applied here; put the old text back and add a new file`, { retryable: false })
    }
  }
  return migrations.filter(({ name }) => !applied.has(name))
}

async function appliedChecksums(clickhouse: ClickHouse): Promise<Map<string, string>> {
  const there = await clickhouse.query({ query: 'EXISTS TABLE schema_migrations', format: 'JSONEachRow' })
  if ((await there.json<{ result: number }>())[0]?.result !== 1) return new Map()
  const rows = await clickhouse.query({ query: 'SELECT name, checksum FROM schema_migrations FINAL', format: 'JSONEachRow' })
  return new Map((await rows.json<{ name: string; checksum: string }>()).map(({ name, checksum }) => [name, checksum]))
}

export async function readMigrations(directory: URL = SCHEMA): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => /^\d{3}-[a-z0-9-]+\.sql$/.test(name)).sort()
  names.forEach((name, index) => {
    const before = names[index - 1]
    if (before?.slice(0, 3) === name.slice(0, 3)) throw new BrokenWorld('migration-misnumbered', `schema: ${before} and ${name} have one number`, { retryable: false })
  })
  return Promise.all(names.map(async (name) => {
    const text = await readFile(new URL(name, directory), 'utf8')
    return { name, checksum: createHash('sha256').update(text).digest('hex'), statements: splitStatements(text) }
  }))
}

/** Comments, strings, quoted names and here-documents, whole, then the semicolon that is none of them. */
const TOKEN = /--[^\n]*|#[ !][^\n]*|\/\*[^]*?\*\/|'(?:\\[^]|''|[^'\\])*'|"(?:\\[^]|""|[^"\\])*"|`(?:\\[^]|``|[^`\\])*`|\$(\w*)\$[^]*?\$\1\$|;/g
const COMMENT = /^(?:--|#[ !]|\/\*)/

/** Cuts at the semicolons that end statements; comments go, since only people read them. */
export function splitStatements(text: string): string[] {
  const statements: string[] = []
  let statement = ''
  let at = 0
  for (const match of text.matchAll(TOKEN)) {
    statement += text.slice(at, match.index)
    at = match.index + match[0].length
    if (match[0] === ';') {
      statements.push(statement)
      statement = ''
    } else {
      statement += COMMENT.test(match[0]) ? ' ' : match[0]
    }
  }
  statements.push(statement + text.slice(at))
  return statements.map((each) => each.trim()).filter((each) => each !== '')
}
