import { afterAll, beforeAll, expect, test } from 'vitest'
import { setRetention } from '../../infra/clickhouse/retention.ts'
import { crashRow, insertCrashes } from '../dashboard/crash-row.ts'
import { rowsOf, startTestClickHouse, type TestClickHouse } from './clickhouse-fixture.ts'

let world: TestClickHouse
beforeAll(async () => { world = await startTestClickHouse() })
afterAll(() => world.stop())

const DAY = 86_400_000
const TABLES = ['crashes', 'device_crashes', 'crash_ids']
const left = () => Promise.all(TABLES.map(async (table) => {
  await world.clickhouse.command({ query: `OPTIMIZE TABLE ${table} FINAL` })
  return (await rowsOf<{ n: string }>(world.clickhouse, `SELECT count() AS n FROM ${table}`))[0]?.n
}))

test('rows go when they are older than the retention says, and stay when it says nothing', async () => {
  const row = (n: number, age: number) => crashRow({ id: String(n).padStart(32, '0'), at: Date.now() - age * DAY })
  await insertCrashes(world.clickhouse, [row(1, 1), row(2, 40), row(3, 400)])
  await setRetention(world.clickhouse, undefined)
  expect(await left()).toEqual(['3', '3', '3'])
  await setRetention(world.clickhouse, 30)
  expect(await left()).toEqual(['1', '1', '1'])
  await setRetention(world.clickhouse, undefined)
  await insertCrashes(world.clickhouse, [row(4, 400)])
  expect(await left()).toEqual(['2', '2', '2'])
})

test('a set stays as long as the newest crash that may be in it', async () => {
  const WEEK = 7 * DAY
  const weekEnd = (Math.floor(Date.now() / WEEK) - 3) * WEEK
  await insertCrashes(world.clickhouse, [crashRow({ id: 'e'.repeat(32), at: weekEnd - DAY / 2, fleet: 'weekly' })])
  // The crash stays, while the beginning of its week is too old.
  await setRetention(world.clickhouse, Math.ceil((Date.now() - weekEnd) / DAY) + 1)
  for (const [table, spans] of [['bucket_counts', 4], ['property_counts', 3], ['fleet_counts', 1]] as const) {
    await world.clickhouse.command({ query: `OPTIMIZE TABLE ${table} FINAL` })
    expect([table, await rowsOf(world.clickhouse, `SELECT DISTINCT ${table === 'fleet_counts' ? 'start' : 'span'} AS told FROM ${table} WHERE fleet = 'weekly'`)]).toEqual([table, expect.objectContaining({ length: spans })])
  }
  await setRetention(world.clickhouse, undefined)
})

test('a retention that is there already changes no table', async () => {
  await setRetention(world.clickhouse, 30)
  const versions = () => rowsOf(world.clickhouse, 'SELECT name, metadata_modification_time, engine_full FROM system.tables WHERE database = currentDatabase() ORDER BY name')
  const before = await versions()
  await setRetention(world.clickhouse, 30)
  expect(await versions()).toEqual(before)
})
