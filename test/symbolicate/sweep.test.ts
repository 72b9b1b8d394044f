import { utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { TOPIC_ACCEPTED } from '../../infra/log/log.ts'
import { encodeAcceptedCrash } from '../../ingest/contract.ts'
import { readDump } from '../../symbolicate/archive.ts'
import { archiveSettingsSchema } from '../../symbolicate/config.ts'
import { lastSweep } from '../../symbolicate/queries/named.ts'
import { recordSweep, sweep } from '../../symbolicate/sweep.ts'
import { keys } from '../infra/blobs.suite.ts'
import { rowsOf, until } from '../infra/clickhouse-fixture.ts'
import { accepted, ASAN, createWorld, type World } from './world.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
let world: World
beforeAll(async () => {
  world = await createWorld()
  await world.worker.start()
})
afterAll(() => world.stop())

const deps = () => ({ log: world.log, blobs: world.blobs, clickhouse: world.clickhouse, settings: archiveSettingsSchema.parse({}) })
const aged = (key: string, ageMs: number) => utimes(join(world.blobDirectory, key), new Date(Date.now() - ageMs), new Date(Date.now() - ageMs))
const there = async (key: string) => (await world.blobs.head(key)) !== null

/** A large dump, as ingest leaves it: the blob first, then the message that names it. */
async function uploadLarge(name: string, ageMs: number) {
  const crash = accepted(ASAN, { dump: { blob: `dumps/${name}` } })
  await world.blobs.put(`dumps/${name}`, Buffer.from(ASAN))
  await aged(`dumps/${name}`, ageMs)
  return crash
}

test('what no row names goes once it is older than a day; what a row names, and what is younger, stays', async () => {
  const named = await uploadLarge('named', 30 * HOUR)
  await world.send(named)
  await world.settled()
  await uploadLarge('orphan', 30 * HOUR)
  await uploadLarge('young', 20 * HOUR)
  const orphanPack = 'packs/crashes.accepted/0/0000000000000000-0000000000000009-00ff00ff00ff00ff-0.pack'
  await world.blobs.put(orphanPack, Buffer.from('a pack whose rows were never written'))
  await aged(orphanPack, 30 * HOUR)
  const [pack] = await keys(world.blobs, 'packs/crashes.accepted/0/').then((found) => found.filter((key) => key !== orphanPack))
  await aged(pack!, 30 * HOUR)
  await world.blobs.put('symbols/untouched', Buffer.from('MODULE'))
  await aged('symbols/untouched', 1000 * DAY)

  const dry = await sweep(deps(), { dryRun: true })
  expect(dry).toMatchObject({ objects: 5, orphans: { objects: 2, keys: ['dumps/orphan', orphanPack] }, aged: { objects: 0 }, waiting: 0 })
  expect(await there('dumps/orphan')).toBe(true)

  expect((await sweep(deps(), { dryRun: false })).orphans).toEqual(dry.orphans)
  expect(await Promise.all(['dumps/orphan', orphanPack, 'dumps/named', pack!, 'dumps/young', 'symbols/untouched'].map(there))).toEqual([false, false, true, true, true, true])
  expect((await sweep(deps(), { dryRun: false })).orphans.objects).toBe(0)
})

test('nothing goes while a message from before its upload is not written, however long that takes', async () => {
  await world.worker.stop()
  await uploadLarge('in-flight', 30 * HOUR)
  // A message that nobody has written, as if it had waited for 31 hours: an hour longer than the blob is there.
  await world.log.append(TOPIC_ACCEPTED, { key: 'demo/dev-1', value: encodeAcceptedCrash(accepted(ASAN)) })
  const stalled = { ...deps(), log: { stats: async (...asked: Parameters<World['log']['stats']>) => ({ ...await world.log.stats(...asked), oldestAgeMs: 31 * HOUR }) } }
  expect(await sweep(stalled, { dryRun: false })).toMatchObject({ orphans: { objects: 0 }, waiting: 1 })
  expect(await there('dumps/in-flight')).toBe(true)
  // Half an hour after the upload is not enough either: a message comes behind its blob.
  const slow = { ...stalled, log: { stats: async (...asked: Parameters<World['log']['stats']>) => ({ ...await world.log.stats(...asked), oldestAgeMs: 29.5 * HOUR }) } }
  expect(await sweep(slow, { dryRun: false })).toMatchObject({ orphans: { objects: 0 }, waiting: 1 })

  await world.restartWorker()
  await until(async () => (await world.log.stats(TOPIC_ACCEPTED, 'symbolicate')).lag === 0, 'the worker has caught up')
  expect(await sweep(deps(), { dryRun: false })).toMatchObject({ orphans: { keys: ['dumps/in-flight'] }, waiting: 0 })
})

test('a slow dump holds its position, and so every blob from after it', async () => {
  const before = await rowsOf<{ n: string }>(world.clickhouse, 'SELECT max(next_offset) AS n FROM positions')
  // What the group has confirmed may be ahead of what is written; the sweep asks the table.
  const asked: ReadonlyMap<number, number>[] = []
  const log = { stats: async (topic: string, confirmed: string | ReadonlyMap<number, number>) => {
    asked.push(confirmed as ReadonlyMap<number, number>)
    return world.log.stats(topic, confirmed)
  } }
  await sweep({ ...deps(), log }, { dryRun: true })
  expect(asked).toEqual([new Map([[0, Number(before[0]!.n)]])])
})

test('a dump that only a dead letter names stays, also when its message is of a newer version', async () => {
  const crash = await uploadLarge('letter', 30 * HOUR)
  await world.log.append(TOPIC_ACCEPTED, { key: 'demo/dev-1', value: encodeAcceptedCrash({ ...crash, v: 2 as 1 }) })
  await until(async () => (await rowsOf(world.clickhouse, "SELECT 1 FROM dead_letters FINAL WHERE slug = 'message-invalid'")).length === 1, 'the letter')
  expect(await sweep(deps(), { dryRun: false })).toMatchObject({ orphans: { objects: 0 }, waiting: 0 })
  expect(await there('dumps/letter')).toBe(true)
})

test('while ClickHouse or the log is away nothing is removed', async () => {
  await uploadLarge('safe', 400 * DAY)
  const away = { query: async () => { throw new Error('connection refused') } } as unknown as World['clickhouse']
  await expect(sweep({ ...deps(), clickhouse: away }, { dryRun: false })).rejects.toThrow('connection refused')
  await expect(sweep({ ...deps(), log: { stats: async () => { throw new Error('no broker') } } }, { dryRun: false })).rejects.toThrow('no broker')
  expect(await there('dumps/safe')).toBe(true)
  await world.blobs.delete('dumps/safe')
})

test('past their age a large dump goes, a pack is cut to its manifests, and the manifests stay where the rows say', async () => {
  const [small, large] = [accepted('a small dump'), await uploadLarge('old', 91 * DAY)]
  await world.send(small)
  await world.send(large)
  await world.settled()
  const rows = await rowsOf<{ id: string; pack: string; dump_offset: string; dump_length: string; manifest_pack: string; manifest_offset: string; manifest_length: string }>(
    world.clickhouse, `SELECT id, pack, dump_offset, dump_length, manifest_pack, manifest_offset, manifest_length FROM crashes FINAL WHERE id IN ('${small.id}', '${large.id}')`)
  const rowOf = (id: string) => rows.find((row) => row.id === id)!
  const packs = [...new Set(rows.map(({ manifest_pack }) => manifest_pack))]
  for (const pack of packs) await aged(pack, 91 * DAY)
  const place = { pack: rowOf(small.id).pack, dumpOffset: Number(rowOf(small.id).dump_offset), dumpLength: Number(rowOf(small.id).dump_length) }
  expect(Buffer.from((await readDump(world.blobs, place))!).toString()).toBe('a small dump')

  const swept = await sweep(deps(), { dryRun: false })
  expect(swept.aged.keys.toSorted()).toEqual(['dumps/old', rowOf(small.id).pack].toSorted())
  expect(swept.aged.bytes).toBe(Buffer.byteLength(ASAN) + 'a small dump'.length)
  expect(await there('dumps/old')).toBe(false)
  expect(await readDump(world.blobs, place)).toBeNull()
  const manifests = async () => Promise.all([small, large].map(async ({ id, manifest }) => {
    const { manifest_pack, manifest_offset, manifest_length } = rowOf(id)
    const bytes = await world.blobs.get(manifest_pack, { start: Number(manifest_offset), end: Number(manifest_offset) + Number(manifest_length) })
    return bytes !== null && Buffer.compare(bytes, manifest!) === 0
  }))
  expect(await manifests()).toEqual([true, true])
  expect((await sweep(deps(), { dryRun: false })).aged.objects).toBe(0)

  for (const pack of packs) await aged(pack, 401 * DAY)
  expect((await sweep(deps(), { dryRun: false })).aged.keys.toSorted()).toEqual(packs.toSorted())
  expect(await manifests()).toEqual([false, false])
})

test('an object that is written anew between the look and the removal stays', async () => {
  await uploadLarge('rewritten', 30 * HOUR)
  const blobs = { ...world.blobs, head: async (key: string) => {
    await world.blobs.put(key, Buffer.from('the same name, new bytes'))
    return world.blobs.head(key)
  } }
  expect((await sweep({ ...deps(), blobs }, { dryRun: false })).orphans.objects).toBe(0)
  expect(await there('dumps/rewritten')).toBe(true)
})

test('each pass leaves a row, by which several workers agree', async () => {
  expect(await lastSweep(world.clickhouse)).toBe(0)
  const swept = await sweep(deps(), { dryRun: true })
  await recordSweep(world.clickhouse, swept)
  expect(await lastSweep(world.clickhouse)).toBe(swept.at)
})
