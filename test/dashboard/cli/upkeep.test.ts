import { utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { registerDeadLetters } from '../../../dashboard/cli/dead-letters.ts'
import { registerDevice } from '../../../dashboard/cli/device.ts'
import { registerSweep } from '../../../dashboard/cli/sweep.ts'
import { dashboardSettingsSchema } from '../../../dashboard/config.ts'
import { createDashboard, type Dashboard } from '../../../dashboard/server.ts'
import { TOPIC_ACCEPTED } from '../../../infra/log/log.ts'
import { systemClock } from '../../../infra/service/clock.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'
import { encodeAcceptedCrash } from '../../../ingest/contract.ts'
import { quietLogger, rowsOf, until } from '../../infra/clickhouse-fixture.ts'
import { accepted, ASAN, createWorld, type World } from '../../symbolicate/world.ts'
import { run } from './command.ts'

/** The commands against a real dashboard beside a real worker. */
const TOKEN = 'test-token-0123456789abcdef'
let world: World
let dashboard: Dashboard
let server: string[]
beforeAll(async () => {
  world = await createWorld()
  await world.worker.start()
  dashboard = createDashboard({
    settings: dashboardSettingsSchema.parse({ port: 0, token: TOKEN, fleet: 'demo' }), clickhouse: world.clickhouse, blobs: world.blobs, clock: systemClock,
    logger: quietLogger, metrics: createMetrics({ defaults: false }), symbols: { put: async () => ({ status: 'unusable', reason: 'no symbols here' }) },
    openLog: async () => world.log,
  })
  const { port } = await dashboard.start()
  server = ['--url', `http://127.0.0.1:${port}`, '--token', TOKEN]
})
afterAll(async () => {
  await dashboard.stop()
  await world.stop()
})

type Letter = { id: string; slug: string; stage: string; replayed_at: string | null; replay_of: string; message_length: number }
const list = async (...args: string[]): Promise<Letter[]> =>
  (await run(registerDeadLetters, 'dead-letters', 'list', '--json', ...args, ...server)).out.split('\n').filter(Boolean).map((line) => JSON.parse(line) as Letter)
const replay = async (...args: string[]) => {
  const { code, out } = await run(registerDeadLetters, 'dead-letters', 'replay', '--json', ...args, ...server)
  return { code, ...JSON.parse(out) as { replayed: string[]; skipped: { id: string; why: string }[] } }
}
const caughtUp = () => until(async () => (await world.log.stats(TOPIC_ACCEPTED, 'symbolicate')).lag === 0, 'the worker has caught up')
const count = async (id: string) => (await rowsOf(world.clickhouse, `SELECT 1 FROM crashes FINAL WHERE id = '${id}'`)).length
const append = (value: Uint8Array, headers = {}) => world.log.append(TOPIC_ACCEPTED, { key: 'demo/dev-1', value, headers })

test('a letter that a newer worker understands is put back, becomes one crash, and twice is still one', async () => {
  // As a worker of an older version would have left it: the message is good, the letter is there.
  const crash = accepted(ASAN)
  const { offset } = await append(encodeAcceptedCrash({ ...crash, v: 2 as 1 }), { 'overrun-contract': '2' })
  await caughtUp()
  const id = `${TOPIC_ACCEPTED}/0/${offset}`
  expect(await list()).toMatchObject([{ id, slug: 'message-invalid', stage: 'decode', replayed_at: null, replay_of: '' }])
  await world.clickhouse.command({
    query: `ALTER TABLE dead_letters UPDATE message = {message:String} WHERE offset = ${offset} SETTINGS mutations_sync = 1`,
    query_params: { message: Buffer.from(encodeAcceptedCrash(crash)).toString('base64') },
  })

  expect(await replay(id)).toEqual({ code: 0, replayed: [id], skipped: [] })
  await until(async () => await count(crash.id) === 1, 'the crash')
  expect(await rowsOf(world.clickhouse, `SELECT flags FROM crashes FINAL WHERE id = '${crash.id}'`)).toEqual([{ flags: ['replayed'] }])
  expect(await list()).toEqual([])
  expect(await list('--state', 'replayed')).toMatchObject([{ id, replayed_at: expect.stringMatching(/^20/) }])

  expect(await replay(id)).toMatchObject({ code: 21, replayed: [], skipped: [{ id, why: 'replayed-before' }] })
  // As if the first answer had got lost between the log and the row that says so.
  await world.clickhouse.command({ query: 'TRUNCATE TABLE dead_letter_replays' })
  expect(await replay(id)).toMatchObject({ code: 0, replayed: [id] })
  await caughtUp()
  expect(await count(crash.id)).toBe(1)
  expect(await rowsOf(world.clickhouse, `SELECT kind, subject, JSONExtractUInt(body, 'letters') AS letters FROM events FINAL WHERE kind = 'dead-letters.replayed' ORDER BY number`))
    .toEqual(Array.from({ length: 3 }, () => ({ kind: 'dead-letters.replayed', subject: 'dead-letters', letters: '1' })))
})

test('what is no crash once more is a new letter that names the first, byte for byte the same', async () => {
  const noise = Buffer.concat([Buffer.from([0xff]), Buffer.alloc(200_000, 7)])
  const { offset } = await append(noise, { traceparent: 'x' })
  await caughtUp()
  const id = `${TOPIC_ACCEPTED}/0/${offset}`
  expect(await replay('--all', '--reason', 'message-undecodable')).toMatchObject({ replayed: [id], skipped: [] })
  await until(async () => (await list()).length === 1, 'the new letter')
  const [again] = await list()
  expect(again).toMatchObject({ replay_of: id, slug: 'message-undecodable', message_length: noise.length })
  const [row] = await rowsOf<{ message: string; headers: object }>(world.clickhouse, `SELECT message, headers FROM dead_letters FINAL WHERE replay_of = '${id}'`)
  expect(Buffer.compare(Buffer.from(row!.message, 'base64'), noise)).toBe(0)
  expect(row!.headers).toEqual({ traceparent: 'x', 'replay-of': id })
})

test('what has no bytes, or is not there, stays, and says why', async () => {
  await world.clickhouse.insert({ table: 'dead_letters', format: 'JSONEachRow', values: [
    { topic: TOPIC_ACCEPTED, partition: 7, offset: 1, at: '2026-01-01 00:00:00', stage: 'log', slug: 'retention-gap', reason: 'gone \u001b[2J', key: '', message: '' },
    { topic: TOPIC_ACCEPTED, partition: 7, offset: 2, at: '2026-01-01 00:00:00', stage: 'decode', slug: 'message-invalid', reason: '', key: '', message: Buffer.alloc(65_536).toString('base64') },
  ] })
  const ids = [1, 2, 3].map((offset) => `${TOPIC_ACCEPTED}/7/${offset}`)
  expect(await replay(...ids, 'nonsense')).toMatchObject({ code: 21, replayed: [], skipped: [
    { id: ids[0], why: 'no-message' }, { id: ids[1], why: 'message-cut' }, { id: ids[2], why: 'letter-unknown' }, { id: 'nonsense', why: 'letter-unknown' },
  ] })
  const { out } = await run(registerDeadLetters, 'dead-letters', 'list', '--limit', '3', ...server)
  expect(out.trim().split('\n')).toHaveLength(3)
  expect(out).not.toContain('\u001b')
  expect((await run(registerDeadLetters, 'dead-letters', 'replay', ...server)).code).toBe(21)
})

test('sweep tells what would go, and then it goes', async () => {
  await world.blobs.put('dumps/orphan', Buffer.from('nobody names me'))
  const old = new Date(Date.now() - 48 * 3_600_000)
  await utimes(join(world.blobDirectory, 'dumps/orphan'), old, old)
  const sweep = async (...args: string[]) => JSON.parse((await run(registerSweep, 'sweep', '--json', ...args, ...server)).out) as { orphans: { keys: string[]; objects: number } }
  expect((await sweep('--dry-run')).orphans).toMatchObject({ objects: 1, keys: ['dumps/orphan'] })
  expect((await sweep()).orphans.objects).toBe(1)
  expect(await world.blobs.head('dumps/orphan')).toBeNull()
  expect((await run(registerSweep, 'sweep', ...server)).out).toMatch(/^\d+ objects\. Gone: 0 that no crash names/)
  expect(await rowsOf(world.clickhouse, 'SELECT orphans, orphan_bytes FROM sweeps ORDER BY at')).toEqual([{ orphans: '1', orphan_bytes: '15' }, { orphans: '0', orphan_bytes: '0' }])
})

test('a device is forgotten by name, with a stone in the audit log', async () => {
  const crash = accepted(ASAN, { deviceId: 'acme/sensor 9' })
  await world.send(crash)
  await until(async () => await count(crash.id) === 1, 'the crash')
  expect(await run(registerDevice, 'device', 'forget', 'acme/sensor 9', '--reason', 'sold', '--fleet', 'demo', ...server)).toMatchObject({ code: 21, err: expect.stringContaining('--yes') })
  const { code, out } = await run(registerDevice, 'device', 'forget', 'acme/sensor 9', '--reason', 'sold', '--fleet', 'demo', '--yes', ...server)
  expect(code).toBe(0)
  expect(out).toMatch(/^acme\/sensor 9 is forgotten: 1 crashes; \d+ bytes in 1 packs are zeros now, 0 large dumps are gone\. Rows that went with them: .*crash_ids 1/)
  expect(await count(crash.id)).toBe(0)
  const events = await rowsOf<{ kind: string; body: string }>(world.clickhouse, `SELECT kind, body FROM events FINAL WHERE subject = 'device:acme/sensor 9' ORDER BY number`)
  expect(events.map(({ kind }) => kind)).toEqual(['device.forget-asked', 'device.forgotten'])
  expect(JSON.parse(events[1]!.body)).toMatchObject({ reason: 'sold', rows: { crashes: 1 } })
  expect(JSON.parse((await run(registerDevice, 'device', 'forget', 'acme/sensor 9', '--reason', 'sold', '--fleet', 'demo', '--yes', '--json', ...server)).out))
    .toEqual({ fleet: 'demo', device: 'acme/sensor 9', packs: 0, bytes: 0, dumps: 0, rows: {} })
})
