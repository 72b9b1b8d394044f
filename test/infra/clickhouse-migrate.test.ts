import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { migrate, pendingMigrations, readMigrations, splitStatements } from '../../infra/clickhouse/migrate.ts'
import { crashRow, insertCrashes } from '../dashboard/crash-row.ts'
import { rowsOf, startTestClickHouse, type TestClickHouse } from './clickhouse-fixture.ts'

const NOW = Date.UTC(2026, 2, 1)
let world: TestClickHouse
let directory: string
let schema: URL
beforeAll(async () => {
  world = await startTestClickHouse({ schema: false })
  directory = await mkdtemp(join(tmpdir(), 'overrun-schema-'))
  schema = pathToFileURL(`${directory}/`)
})
afterAll(async () => {
  await world.stop()
  await rm(directory, { recursive: true, force: true })
})

test('semicolons in comments, strings, names and here-documents end nothing', () => {
  expect(splitStatements('-- a; b\nSELECT \';\' /* ; */, "a;b", `c;d`, \'it\\\'s;\', \'\'\';\', $x$ ; $x$;;\nSELECT 2 # no; more\n')).toEqual([
    'SELECT \';\'  , "a;b", `c;d`, \'it\\\'s;\', \'\'\';\', $x$ ; $x$', 'SELECT 2',
  ])
  expect(splitStatements('-- only words\n')).toEqual([])
})

test('migrating twice applies each file once', async () => {
  const names = (await readMigrations()).map(({ name }) => name)
  expect(await pendingMigrations(world.clickhouse)).toEqual(names)
  expect(await migrate(world.clickhouse, { now: NOW })).toEqual({ applied: names })
  expect(await migrate(world.clickhouse, { now: NOW })).toEqual({ applied: [] })
  expect(await pendingMigrations(world.clickhouse)).toEqual([])
})

test('every statement of the schema may be run again, as after a kill between two of them', async () => {
  for (const { statements } of await readMigrations()) {
    for (const statement of statements) expect(statement).toMatch(/\bIF (NOT )?EXISTS\b|^INSERT INTO \w+\sSELECT\b[^]*\{day:/)
  }
  await world.clickhouse.command({ query: 'TRUNCATE TABLE schema_migrations' })
  expect(await migrate(world.clickhouse, { now: NOW })).toEqual({ applied: (await readMigrations()).map(({ name }) => name) })
})

test('two that migrate one empty database at once both end with the whole schema', async () => {
  const both = await startTestClickHouse({ schema: false })
  try {
    const names = (await readMigrations()).map(({ name }) => name)
    const done = await Promise.all([migrate(both.clickhouse, { now: NOW }), migrate(both.clickhouse, { now: NOW })])
    expect([...new Set(done.flatMap(({ applied }) => applied))].toSorted()).toEqual(names)
    expect(await pendingMigrations(both.clickhouse)).toEqual([])
    const schemaOf = (clickhouse: TestClickHouse['clickhouse']) => rowsOf(clickhouse, 'SELECT name, engine, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name')
    expect(await schemaOf(both.clickhouse)).toEqual(await schemaOf(world.clickhouse))
  } finally {
    await both.stop()
  }
})

test('a schema of a newer build is not migrated, and what is missing can be asked all the same', async () => {
  await world.clickhouse.insert({ table: 'schema_migrations', values: [{ name: '999-later.sql', checksum: 'c', applied_at: new Date(NOW).toISOString() }], format: 'JSONEachRow' })
  await expect(migrate(world.clickhouse, { now: NOW })).rejects.toMatchObject({ code: 'schema-newer', message: expect.stringContaining('999-later.sql') as string })
  expect(await pendingMigrations(world.clickhouse)).toEqual([])
  await world.clickhouse.command({ query: 'DELETE FROM schema_migrations WHERE name = \'999-later.sql\'' })
})

test('a migration that was cut goes on, and one that was changed after it was applied is an error, like two with one number', async () => {
  const own = await startTestClickHouse({ schema: false })
  try {
    await writeFile(new URL('001-first.sql', schema), 'CREATE TABLE IF NOT EXISTS first (n UInt8) ENGINE = MergeTree ORDER BY n; CREATE TABLE IF NOT EXISTS second (n Nothing) ENGINE = Nowhere;')
    await expect(migrate(own.clickhouse, { now: NOW, directory: schema })).rejects.toThrow()
    expect(await pendingMigrations(own.clickhouse, { directory: schema })).toEqual(['001-first.sql'])
    await writeFile(new URL('001-first.sql', schema), 'CREATE TABLE IF NOT EXISTS first (n UInt8) ENGINE = MergeTree ORDER BY n; CREATE TABLE IF NOT EXISTS second (n UInt8) ENGINE = MergeTree ORDER BY n;')
    expect(await migrate(own.clickhouse, { now: NOW, directory: schema })).toEqual({ applied: ['001-first.sql'] })
    await writeFile(new URL('001-first.sql', schema), 'CREATE TABLE IF NOT EXISTS first (n UInt16) ENGINE = MergeTree ORDER BY n;')
    await expect(migrate(own.clickhouse, { now: NOW, directory: schema })).rejects.toMatchObject({ code: 'migration-changed' })
    await writeFile(new URL('001-other.sql', schema), 'SELECT 1')
    await expect(readMigrations(schema)).rejects.toMatchObject({ code: 'migration-misnumbered' })
  } finally {
    await own.stop()
  }
})

test('saying the same crashes again changes no count, and a higher revision replaces', async () => {
  const rows = Array.from({ length: 30 }, (_, i) => crashRow({ id: `c${i}`.padEnd(32, '0'), device: `dev-${i % 7}`, device_key: `key-${i % 7}`, at: NOW + i * 60_000 }))
  await insertCrashes(world.clickhouse, rows)
  const counts = async () => ({
    crashes: await rowsOf(world.clickhouse, 'SELECT count() AS n, uniqExact(device) AS devices FROM crashes FINAL'),
    ids: await rowsOf(world.clickhouse, 'SELECT count() AS n FROM crash_ids FINAL'),
    buckets: await rowsOf(world.clickhouse, 'SELECT bucket, min(first_seen) AS first_seen, max(last_seen) AS last_seen, max(evidence) AS evidence FROM buckets GROUP BY bucket ORDER BY bucket'),
    devices: await rowsOf(world.clickhouse, 'SELECT device, min(first_seen) AS first_seen, max(last_seen) AS last_seen, argMaxMerge(swversion) AS swversion FROM devices GROUP BY device ORDER BY device'),
  })
  const before = await counts()
  expect(before.crashes).toEqual([{ n: '30', devices: '7' }])
  // A restarted worker cuts its batches differently, so that block deduplication would not see the repetition.
  await insertCrashes(world.clickhouse, rows.slice(0, 11))
  await insertCrashes(world.clickhouse, [...rows.slice(5), ...rows.slice(0, 3)])
  expect(await counts()).toEqual(before)
  await world.clickhouse.command({ query: 'OPTIMIZE TABLE crashes FINAL' })
  expect(await counts()).toEqual(before)

  await insertCrashes(world.clickhouse, [{ ...rows[0]!, revision: 1, bucket: '00000000000000bb' }])
  await insertCrashes(world.clickhouse, [rows[0]!])
  expect(await rowsOf(world.clickhouse, 'SELECT bucket, revision FROM crashes FINAL WHERE id = {id:String}', { id: rows[0]!.id })).toEqual([{ bucket: '00000000000000bb', revision: 1 }])
  expect(await rowsOf(world.clickhouse, 'SELECT count() AS n FROM crashes FINAL')).toEqual([{ n: '30' }])
})
