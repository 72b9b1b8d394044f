import { afterAll, beforeAll, expect, test } from 'vitest'
import { TOPIC_DEAD_LETTERS, type LogEntry } from '../../infra/log/log.ts'
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
  expect(await rowsOf(world.clickhouse, 'SELECT topic, partition, first_offset, end_offset, isNull(lost_after) AS unknown, lost_before > lost_after AS ordered FROM log_gaps FINAL')).toEqual([
    { topic: 'crashes.accepted', partition: 0, first_offset: '1000', end_offset: '1500', unknown: 0, ordered: 1 },
  ])
  expect(await world.metrics()).toMatch(/overrun_queue_gap_messages_total\{topic="crashes.accepted"\} 500/)
  expect(await world.metrics()).toMatch(/overrun_queue_lag_messages\{topic="crashes.accepted",partition="0"\} 0/)
})

test('a gap that nothing follows is recorded too, and the position moves behind it', async () => {
  const offset = await world.send(accepted(ASAN))
  await world.restartWorker({}, (batch) => ({ ...batch, entries: [], gap: { from: offset, to: offset + 1 } }))
  await world.settled()
  expect(await rowsOf(world.clickhouse, `SELECT first_offset, end_offset FROM log_gaps FINAL WHERE first_offset = ${offset}`)).toEqual([{ first_offset: String(offset), end_offset: String(offset + 1) }])
  expect(await rowsOf(world.clickhouse, 'SELECT max(next_offset) AS next FROM positions')).toEqual([{ next: String(offset + 1) }])
  await world.restartWorker({})
})

test('a dead letter keeps all that the log had of it: key, headers and every byte', async () => {
  const value = Buffer.concat([Buffer.from([0xff]), Buffer.alloc(300_000, 'x'), Buffer.from('end')])
  const { offset } = await world.log.append('crashes.accepted', { key: 'demo/dev-9', value, headers: { 'overrun-contract': '7', traceparent: '00-1-2-01' } })
  await until(async () => (await letters()).some((letter) => letter.offset === String(offset)), 'the letter')
  const [row] = await rowsOf<{ message: string }>(world.clickhouse, `SELECT stage, key, headers, message_bytes, replay_of, message FROM dead_letters FINAL WHERE offset = ${offset}`)
  expect(row).toMatchObject({ stage: 'decode', key: 'demo/dev-9', headers: { 'overrun-contract': '7', traceparent: '00-1-2-01' }, message_bytes: String(value.length), replay_of: '' })
  expect(Buffer.compare(Buffer.from(row!.message, 'base64'), value)).toBe(0)
  const inTopic = await new Promise<LogEntry>((resolve) => {
    void world.log.consume({ topic: TOPIC_DEAD_LETTERS, group: 'test', startAt: async () => 0, maxEntries: 10, maxBytes: 2 ** 20, maxWaitMs: 10 }, async ({ entries }) => {
      const found = entries.find(({ headers }) => headers['dead-letter-offset'] === String(offset))
      if (found) resolve(found)
    })
  })
  expect(inTopic).toMatchObject({ key: 'demo/dev-9', headers: { 'overrun-contract': '7', traceparent: '00-1-2-01', 'dead-letter-slug': 'message-undecodable' } })
  expect(Buffer.compare(inTopic.value, value)).toBe(0)
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
