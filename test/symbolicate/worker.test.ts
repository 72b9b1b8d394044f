import { readFile } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { TOPIC_ACCEPTED, TOPIC_DEAD_LETTERS, type LogEntry } from '../../infra/log/log.ts'
import { rowsOf } from '../infra/clickhouse-fixture.ts'
import type { Report } from '../../symbolicate/contract.ts'
import { sandboxSettingsSchema } from '../../symbolicate/config.ts'
import { accepted, ASAN, createWorld, STORY, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await createWorld()
  await world.worker.start()
})
afterAll(() => world.stop())

type Row = Record<string, unknown>
const rowOf = async (id: string) => {
  const rows = await rowsOf<Row>(world.clickhouse, 'SELECT * FROM crashes FINAL WHERE id = {id:String}', { id })
  expect(rows.length).toBe(1)
  return rows[0] as Row
}
const letterAt = async (offset: number) => (await rowsOf<Row>(world.clickhouse, 'SELECT * FROM dead_letters FINAL WHERE topic = {topic:String} AND offset = {offset:UInt64}', { topic: TOPIC_ACCEPTED, offset }))[0]

test('a crash goes from the log to one row with its frames, signature and evidence', async () => {
  const crash = accepted(ASAN)
  const offset = await world.send(crash)
  await world.settled()
  expect(await rowOf(crash.id)).toMatchObject({
    fleet: 'demo', event_time: '2026-06-01 00:00:00.000', revision: 0, topic: TOPIC_ACCEPTED, partition: 0, offset: String(offset), device: 'dev-1',
    status: 'ok', format: 'sanitizer', kind: 'heap-buffer-overflow', access: 'write', standing: 'counted', swname: 'sensord', bootcount: '1',
  })
  const row = await rowOf(crash.id)
  expect(row.signature).toContain('parse_header')
  expect(row.bucket).toMatch(/^[0-9a-f]{16}$/)
  expect(JSON.parse(row.report as string)).toHaveProperty('crashing_thread.frames.0.function', 'parse_header')
})

test('the bytes that were signed are the bytes that are kept', async () => {
  const crash = accepted(ASAN)
  await world.send(crash)
  await world.settled()
  const row = await rowOf(crash.id)
  const slice = (key: unknown, start: unknown, length: unknown) => world.blobs.get(String(key), { start: Number(start), end: Number(start) + Number(length) })
  expect(Buffer.from(await slice(row.pack, row.dump_offset, row.dump_length) as Uint8Array).toString()).toBe(ASAN)
  expect(Buffer.from(await slice(row.manifest_pack, row.manifest_offset, row.manifest_length) as Uint8Array)).toEqual(crash.manifest)
})

test('a module whose name is no plain file name is looked up like any other', async () => {
  const crash = accepted(await readFile(new URL('../corpus/breakpad-x64/bpdaemon.heap.dmp', import.meta.url)), { contentType: 'application/x-minidump' })
  await world.send(crash)
  await world.settled()
  const row = await rowOf(crash.id)
  expect(row.status).toBe('ok')
  expect((row.missing_symbols as { debug_file: string }[]).map(({ debug_file: file }) => file)).toContain('libstdc++.so.6')
})

test('a look-up that can never work costs its module, and the crash goes on', async () => {
  const { locate } = world.symbols
  world.symbols.locate = async (module) => (module.debugFile?.endsWith('sensord') ? Promise.reject(new TypeError('not a key')) : locate(module))
  try {
    const crash = accepted(await readFile(new URL('../corpus/crashpad-x64/sensord.null-read.dmp', import.meta.url)), { contentType: 'application/x-minidump' })
    await world.send(crash)
    await world.settled()
    const { modules } = JSON.parse((await rowOf(crash.id)).report as string) as Report
    expect(modules.find(({ debug_file: file }) => file === 'sensord')).toMatchObject({ symbol_status: 'corrupt', symbol_reason: 'the look-up failed: not a key' })
  } finally {
    world.symbols.locate = locate
  }
})

test('a large dump stays in its own blob, and its manifest is kept in the pack', async () => {
  await world.blobs.put('dumps/large', Buffer.from(ASAN))
  const crash = { ...accepted(ASAN), dump: { blob: 'dumps/large' } }
  await world.send(crash)
  await world.settled()
  expect(await rowOf(crash.id)).toMatchObject({ status: 'ok', pack: 'dumps/large', dump_offset: '0', dump_length: String(ASAN.length), manifest_pack: expect.stringMatching(/^packs\/crashes\.accepted\/0\//) })
})

test('a message that comes twice is one crash', async () => {
  const crash = accepted(ASAN)
  await world.send(crash)
  await world.send(crash)
  await world.settled()
  // Accepted again by an ingest that had forgotten the first: another event time, the same crash.
  await world.send({ ...crash, eventTime: STORY + 5000, receivedAt: STORY + 5000 })
  await world.settled()
  expect(await rowOf(crash.id)).toMatchObject({ event_time: '2026-06-01 00:00:00.000' })
  expect((await rowsOf<{ n: string }>(world.clickhouse, 'SELECT count() AS n FROM crashes WHERE id = {id:String}', { id: crash.id }))[0]?.n).toBe('1')
})

test.each([
  ['dump-empty', accepted('')],
  ['dump-truncated', accepted(Buffer.from('MDMP\x93\xa7'), { contentType: 'application/x-minidump' })],
  ['format-unknown', accepted(Buffer.from([...'no crash of any kind'].map((c) => c.charCodeAt(0) ^ 0x80)), { contentType: 'application/x-minidump' })],
  ['encoding-invalid', accepted('not gzip', { claims: { encoding: 'gzip' } })],
  ['budget-exceeded', accepted(gzipSync(Buffer.alloc(80 * 2 ** 20)), { claims: { encoding: 'gzip' } })],
  ['dump-missing', { ...accepted('lost'), dump: { blob: 'dumps/lost' } }],
] as const)('a dump that can\'t be read is kept, marked and counted: %s', async (status, crash) => {
  await world.send(crash)
  await world.settled()
  expect(await rowOf(crash.id)).toMatchObject({ status, status_reason: expect.stringMatching(/./), bucket: expect.stringMatching(/^[0-9a-f]{16}$/) })
})

test('a compressed dump is inflated by its parser', async () => {
  const crash = accepted(gzipSync(ASAN), { claims: { encoding: 'gzip' } })
  await world.send(crash)
  await world.settled()
  expect(await rowOf(crash.id)).toMatchObject({ status: 'ok', kind: 'heap-buffer-overflow', encoding: 'gzip' })
})

test('what is no crash becomes a dead letter with its reason, as a row and whole in the topic', async () => {
  const undecodable = await world.log.append(TOPIC_ACCEPTED, { key: 'k', value: Buffer.from([0xff, 1, 2, 3]) })
  const invalid = await world.log.append(TOPIC_ACCEPTED, { key: 'k', value: Buffer.from([0xa1, 0x61, 0x76, 2]) })
  const crash = accepted(ASAN)
  await world.send(crash)
  await world.settled()
  expect(await letterAt(undecodable.offset)).toMatchObject({ slug: 'message-undecodable', stage: 'decode', key: 'k', message: '/wECAw==', reason: expect.stringContaining('not CBOR') })
  expect(await letterAt(invalid.offset)).toMatchObject({ slug: 'message-invalid' })
  expect(await rowOf(crash.id)).toMatchObject({ status: 'ok' })

  const letters: LogEntry[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  const reader = await world.log.consume({ topic: TOPIC_DEAD_LETTERS, group: 'test', startAt: async () => 0, maxEntries: 10, maxBytes: 2 ** 20, maxWaitMs: 10 }, async (batch) => {
    letters.push(...batch.entries)
    if (letters.length >= 2) resolve()
  })
  await promise
  await reader.stop()
  expect(letters[0]).toMatchObject({ key: 'k', headers: { 'dead-letter-slug': 'message-undecodable', 'dead-letter-stage': 'decode', 'dead-letter-offset': String(undecodable.offset), 'dead-letter-partition': '0', 'dead-letter-topic': TOPIC_ACCEPTED } })
  expect([...letters[0]?.value ?? []]).toEqual([0xff, 1, 2, 3])
})

test('of two reports with the same counters and other bytes the later reused them, in one batch and across batches', async () => {
  const first = accepted(`${ASAN}first`, { deviceId: 'dev-clone', claims: { bootcount: 7, seq: 0 } })
  const second = accepted(`${ASAN}second`, { deviceId: 'dev-clone', claims: { bootcount: 7, seq: 0 } })
  const third = accepted(`${ASAN}third`, { deviceId: 'dev-clone', claims: { bootcount: 7, seq: 0 } })
  await Promise.all([world.send(first), world.send(second)])
  await world.settled()
  await world.send(third)
  await world.settled()
  expect([(await rowOf(first.id)).standing, (await rowOf(second.id)).standing, (await rowOf(third.id)).standing]).toEqual(['counted', 'counter-reuse', 'counter-reuse'])
})

test('hostile text can\'t keep a batch from being written', async () => {
  const crash = accepted(`${ASAN.replaceAll('parse_header', 'p\u0000\u202e\\\'"\u{1f4a5}')}`, { claims: { process: '\ud800 lone', compartment: '\'; DROP TABLE crashes --' }, annotations: { '\udfff': '{"a":1}' } })
  await world.send(crash)
  await world.settled()
  expect(await rowOf(crash.id)).toMatchObject({ process: '\ufffd lone', compartment: '\'; DROP TABLE crashes --' })
})

test('the metrics say what became of every message, each with a help text', async () => {
  const text = await world.metrics()
  expect(text).toMatch(/overrun_worker_events_total\{result="written"\} [1-9]/)
  expect(text).toMatch(/overrun_worker_events_total\{result="duplicate"\} 2\n/)
  expect(text).toMatch(/overrun_dlq_messages_total\{reason="message-undecodable"\} 1\n/)
  expect(text).toMatch(/overrun_queue_lag_messages\{topic="crashes.accepted",partition="0"\} 0\n/)
  const named = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name)
  const helped = [...text.matchAll(/^# HELP (\S+) .*[Rr]ising|^# HELP (\S+) .*(?:Flat|rise|limit)/gm)].map(([, a, b]) => a ?? b)
  expect(named.filter((name) => !helped.includes(name))).toEqual([])
})

test('while the engine is away nothing is lost and nothing is written twice', async () => {
  const before = accepted(ASAN)
  await world.send(before)
  world.engine.kill()
  const after = accepted(ASAN)
  await world.send(after)
  await world.settled()
  expect(await rowOf(before.id)).toMatchObject({ status: 'ok' })
  expect(await rowOf(after.id)).toMatchObject({ status: 'ok' })
})

test('a slow dump holds up nobody, and the position waits for it', async () => {
  await world.restartWorker({ sandbox: sandboxSettingsSchema.parse({ patienceMs: 1 }) })
  const crashes = Array.from({ length: 20 }, () => accepted(ASAN))
  for (const crash of crashes) await world.send(crash)
  await world.settled()
  for (const crash of crashes) expect(await rowOf(crash.id)).toMatchObject({ status: 'ok' })
})

test('a worker that starts again goes on where the table says', async () => {
  const [before] = await rowsOf<{ n: string }>(world.clickhouse, 'SELECT count() AS n FROM crashes')
  await world.restartWorker()
  const crash = accepted(ASAN)
  await world.send(crash)
  await world.settled()
  const [after] = await rowsOf<{ n: string }>(world.clickhouse, 'SELECT count() AS n FROM crashes')
  expect(Number(after?.n)).toBe(Number(before?.n) + 1)
})

test('a batch whose partition seemed lost for a moment is not taken for handled', async () => {
  let asked = 0
  await world.restartWorker(undefined, (batch) => ({ ...batch, stale: () => asked++ === 0 }))
  const crash = accepted(ASAN)
  await world.send(crash)
  await world.settled()
  expect((await rowOf(crash.id)).status).toBe('ok')
  expect(asked).toBeGreaterThan(1)
})
