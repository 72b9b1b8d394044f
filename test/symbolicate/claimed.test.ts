import { readFileSync } from 'node:fs'
import { encode, rfc8949EncodeOptions } from 'cborg'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { TOPIC_ACCEPTED } from '../../infra/log/log.ts'
import type { AcceptedCrash } from '../../ingest/contract.ts'
import { encodeHeartbeat, encodeRefused, type Heartbeat } from '../../ingest/contract.ts'
import { sandboxSettingsSchema } from '../../symbolicate/config.ts'
import { crashRow, insertCrashes } from '../dashboard/crash-row.ts'
import { rowsOf, until } from '../infra/clickhouse-fixture.ts'
import { accepted, ASAN, createWorld, STORY, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await createWorld()
  await world.worker.start()
})
afterAll(() => world.stop())

type Row = Record<string, unknown> & { report: string }
const rowOf = async (id: string) => {
  const rows = await rowsOf<Row>(world.clickhouse, 'SELECT * FROM crashes FINAL WHERE id = {id:String}', { id })
  expect(rows.length).toBe(1)
  return rows[0] as Row
}
const claimOf = (crash: AcceptedCrash, deviceId: string): AcceptedCrash =>
  ({ ...accepted('', { deviceId, contentType: crash.contentType }), standing: 'claimed', claimedOf: crash.id, size: 1234, digest: 'd'.repeat(64) })
const settle = async (...crashes: AcceptedCrash[]) => {
  for (const crash of crashes) await world.send(crash)
  await world.settled()
}

test('a claimed crash takes the bucket of the crash that it names, in the same batch or later', async () => {
  const dump = accepted(ASAN)
  const [together, later] = [claimOf(dump, 'dev-2'), claimOf(dump, 'dev-3')]
  await settle(dump, together)
  await settle(later)
  const named = await rowOf(dump.id)
  for (const claim of [together, later]) {
    const row = await rowOf(claim.id)
    expect(row).toMatchObject({
      standing: 'claimed', claimed_of: dump.id, bucket: named.bucket, title: named.title, kind: named.kind, evidence: named.evidence, status: 'ok',
      device: claim.deviceId, size: '1234', digest: 'd'.repeat(64), dump_length: '0', fault_address: null, pc: null,
    })
    expect(JSON.parse(row.report).notes[0]).toMatchObject({ slug: 'claimed', text: expect.stringContaining(dump.id) })
  }
  expect(named).toMatchObject({ standing: 'counted', claimed_of: '' })
  const [bucket] = await rowsOf<{ n: string }>(world.clickhouse, "SELECT uniqExact(device) AS n FROM crashes FINAL WHERE bucket = {bucket:String} AND standing IN ('counted', 'claimed')", { bucket: named.bucket })
  expect(bucket?.n).toBe('3')
})

test('a claim that is read before its crash waits for it', async () => {
  const dump = accepted(ASAN)
  const claim = claimOf(dump, 'dev-4')
  await world.send(claim)
  await world.send(dump)
  await world.settled()
  expect(await rowOf(claim.id)).toMatchObject({ bucket: (await rowOf(dump.id)).bucket, claimed_of: dump.id })
})

test('what another worker has written meanwhile of a crash that came late is revised, so that it counts in one bucket', async () => {
  const dump = accepted(ASAN)
  const claim = claimOf(dump, 'dev-7')
  const offset = await world.send(claim)
  await until(async () => /^overrun_\w*stragglers\w* 1$/m.test(await world.metrics()), 'the claim waits')
  await insertCrashes(world.clickhouse, [crashRow({ id: claim.id, at: STORY, standing: 'claimed', bucket: 'beefbeefbeefbeef', offset: String(offset) })])
  await settle(dump)
  expect(await rowOf(claim.id)).toMatchObject({ revision: 1, first_bucket: 'beefbeefbeefbeef', bucket: (await rowOf(dump.id)).bucket })
})

test('many claims on a slow dump are each one row, and hold up nobody', async () => {
  await world.restartWorker({ sandbox: sandboxSettingsSchema.parse({ patienceMs: 1 }) })
  const dump = accepted(ASAN)
  const claims = Array.from({ length: 50 }, (_, i) => claimOf(dump, `many-${i}`))
  await settle(dump, ...claims)
  const rows = await rowsOf<{ n: string; b: string }>(world.clickhouse, 'SELECT count() AS n, uniqExact(bucket) AS b FROM crashes FINAL WHERE claimed_of = {id:String}', { id: dump.id })
  expect(rows).toEqual([{ n: '50', b: '1' }])
  await world.restartWorker({})
})

test('a claim on a crash that never comes is kept and counted all the same', async () => {
  await world.restartWorker({ claimWaitMs: 50 })
  const claim = claimOf(accepted(ASAN), 'dev-5')
  await settle(claim)
  expect(await rowOf(claim.id)).toMatchObject({ standing: 'claimed', status: 'dump-missing', bucket: expect.stringMatching(/^[0-9a-f]{16}$/) })
  await world.restartWorker({})
})

test('when symbols arrive a claimed crash goes where the crash that it names goes', async () => {
  const corpus = join(import.meta.dirname, '../corpus')
  const SENSORD = '01C5BFC8E88AB5C748E77AB3FB13230A0'
  const dump = accepted(readFileSync(join(corpus, 'crashpad-x64/sensord.null-write.dmp')), { contentType: 'application/x-minidump' })
  const claim = { ...claimOf(dump, 'dev-6'), eventTime: STORY - 86_400_000 }
  await settle(dump, claim)
  const before = await rowOf(claim.id)
  await world.symbols.put(readFileSync(join(corpus, `symbols/sensord/${SENSORD}/sensord.sym`)), { name: 'sensord.sym' })
  expect(await world.worker.reprocess([SENSORD])).toBe(2)
  const [named, after] = [await rowOf(dump.id), await rowOf(claim.id)]
  expect(after).toMatchObject({ revision: 1, bucket: named.bucket, signature_frames: named.signature_frames })
  expect(after.bucket).not.toBe(before.bucket)
  expect(await world.worker.reprocess([SENSORD])).toBe(0)
})

const heartbeat = (deviceId: string, at: number, said: Partial<Heartbeat> = {}): Heartbeat => ({
  v: 1, type: 'heartbeat', fleet: 'demo', receivedAt: at, authLevel: 'payload-signed', standing: 'counted', deviceId, deviceKeyId: 'k'.repeat(64),
  claims: { bootcount: 1, seq: 0, size: 0, swversion: '9.9', hwmodel: 'T-800' }, ...said,
})

test('heartbeats say who is alive on which version, once a day; an old one that is played again says nothing', async () => {
  const send = (value: Heartbeat) => world.log.append(TOPIC_ACCEPTED, { key: value.deviceId, value: encodeHeartbeat(value) })
  await send(heartbeat('alive', STORY))
  await send(heartbeat('alive', STORY + 3_600_000, { claims: { bootcount: 1, seq: 1, size: 0, swversion: '10.0', hwmodel: 'T-800' } }))
  await send(heartbeat('alive', STORY + 86_400_000, { claims: { bootcount: 2, seq: 0, size: 0, swversion: '10.1' } }))
  await send(heartbeat('played again', STORY, { standing: 'stale-counter' }))
  await settle(accepted(ASAN))
  const days = await rowsOf<Row>(world.clickhouse, "SELECT toString(day) AS day, swversion FROM heartbeats FINAL WHERE standing = 'counted' ORDER BY day")
  expect(days).toEqual([{ day: '2026-06-01', swversion: '10.0' }, { day: '2026-06-02', swversion: '10.1' }])
  const devices = await rowsOf<Row>(world.clickhouse, "SELECT device, toString(min(first_seen)) AS first, toString(max(last_seen)) AS last, argMaxMerge(swversion) AS version FROM devices WHERE device IN ('alive', 'played again') GROUP BY device")
  expect(devices).toEqual([{ device: 'alive', first: '2026-06-01 00:00:00.000', last: '2026-06-02 00:00:00.000', version: '10.1' }])
})

test('what quotas kept out is a row, however often it is read', async () => {
  const value = encodeRefused({ v: 1, type: 'refused', id: 'a'.repeat(32), fleet: 'demo', deviceId: 'loud', slug: 'quota-device', firstAt: STORY, lastAt: STORY + 9000, reports: 7, digests: [{ digest: 'aa', reports: 6 }] })
  await world.log.append(TOPIC_ACCEPTED, { key: 'loud', value })
  await world.log.append(TOPIC_ACCEPTED, { key: 'loud', value })
  await settle(accepted(ASAN))
  expect(await rowsOf<Row>(world.clickhouse, 'SELECT device, slug, toString(last_at) AS last, reports, digests FROM refusals FINAL')).toEqual([
    { device: 'loud', slug: 'quota-device', last: '2026-06-01 00:00:09.000', reports: '7', digests: [{ digest: 'aa', reports: '6' }] },
  ])
  expect(await world.metrics()).toMatch(/overrun_worker_events_total\{result="fact"\} [1-9]/)
})

test("a crash-storm digest is a row of its own kind, with its facts", async () => {
  const digest = encode(new Map<number, unknown>([[1, 900], [2, 5], [3, 95], [4, 850], [5, 1], [6, 4096], [7, 65536], [8, new Map([['SIGSEGV', 900]])]]), rfc8949EncodeOptions)
  const crash = accepted(digest, { contentType: 'application/vnd.overrun.crash-storm+cbor', claims: { compartment: 'httpd' } })
  await settle(crash)
  expect(await rowOf(crash.id)).toMatchObject({ status: 'ok', kind: 'crash-storm', format: 'crash-storm', title: 'crash storm in httpd', evidence: 2, standing: 'counted' })
  expect((await rowOf(crash.id)).evidence_for).toContainEqual({ slug: 'crash-storm', text: '900 crashes between 5 s and 95 s of uptime' })
})
