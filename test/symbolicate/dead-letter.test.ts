import { afterAll, beforeAll, expect, test } from 'vitest'
import { rowsOf, until } from '../infra/clickhouse-fixture.ts'
import { accepted, ASAN, createWorld, type World } from './world.ts'

let world: World
beforeAll(async () => { world = await createWorld() })
afterAll(() => world.stop())

const letters = () => rowsOf<Record<string, unknown>>(world.clickhouse, 'SELECT slug, reason, offset, key FROM dead_letters FINAL ORDER BY offset')
const crashes = async () => (await rowsOf<{ id: string }>(world.clickhouse, 'SELECT id FROM crashes FINAL ORDER BY offset')).map(({ id }) => id)

test('an entry whose bytes changed on the disk is a dead letter, never a crash', async () => {
  const [damaged, whole] = [accepted(ASAN), accepted(ASAN)]
  const offset = await world.send(damaged)
  await world.send(whole)
  await world.restartWorker({}, (batch) => ({ ...batch, entries: batch.entries.map((entry) => (entry.offset === offset ? { ...entry, fault: 'checksum-mismatch' } : entry)) }))
  await world.settled()
  expect(await crashes()).toEqual([whole.id])
  expect(await letters()).toEqual([{ slug: 'checksum-mismatch', reason: expect.stringContaining('stored bytes are not'), offset: String(offset), key: 'dev-1' }])
})

test('what the log deleted before it was read is reported, never silent', async () => {
  const crash = accepted(ASAN)
  const offset = await world.send(crash)
  await world.restartWorker({}, (batch) => ({ ...batch, gap: { from: 1_000, to: 1_500 } }))
  await world.settled()
  expect(await crashes()).toContain(crash.id)
  expect(offset).toBeLessThan(1_000)
  expect(await letters()).toContainEqual({ slug: 'retention-gap', reason: 'log: offsets 1000 to 1499 were deleted before they were read', offset: '1000', key: '' })
})

test('a batch that was taken away in a rebalance writes nothing more; whoever owns it now does', async () => {
  const crash = accepted(ASAN)
  let handed = 0
  const before = await rowsOf(world.clickhouse, 'SELECT max(next_offset) AS n FROM positions')
  await world.restartWorker({}, (batch) => {
    handed++
    return { ...batch, stale: () => true }
  })
  await world.send(crash)
  await until(() => handed > 0, 'a batch is handed over')
  await world.worker.stop()
  expect(await crashes()).not.toContain(crash.id)
  expect(await rowsOf(world.clickhouse, 'SELECT max(next_offset) AS n FROM positions')).toEqual(before)

  await world.restartWorker({})
  await world.settled()
  expect(await crashes()).toContain(crash.id)
})
