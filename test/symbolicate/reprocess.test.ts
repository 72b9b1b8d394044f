import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rowsOf, until } from '../infra/clickhouse-fixture.ts'
import { accepted, createWorld, type World } from './world.ts'

const corpus = join(import.meta.dirname, '../corpus')
const dump = readFileSync(join(corpus, 'crashpad-x64/sensord.null-write.dmp'))
const SENSORD = '01C5BFC8E88AB5C748E77AB3FB13230A0'
const sym = readFileSync(join(corpus, `symbols/sensord/${SENSORD}/sensord.sym`))

let world: World
beforeAll(async () => {
  world = await createWorld()
  await world.worker.start()
})
afterAll(() => world.stop())

type Row = Record<string, unknown> & { missing_symbols: { debug_id: string }[] }
const rowOf = async (id: string) => (await rowsOf<Row>(world.clickhouse, 'SELECT * FROM crashes FINAL WHERE id = {id:String}', { id }))[0] as Row
const crash = (device: string, claims = {}) => accepted(dump, { contentType: 'application/x-minidump', deviceId: device, claims: { dbgstat: 1, ...claims } })

test('symbols that arrive later give waiting crashes their frames and their bucket, once', async () => {
  const waiting = crash('dev-1')
  await world.send(waiting)
  await world.settled()
  const before = await rowOf(waiting.id)
  expect(before).toMatchObject({ revision: 0, status: 'ok' })
  expect(before.missing_symbols).toContainEqual(expect.objectContaining({ debug_file: 'sensord', debug_id: SENSORD }))

  expect(await world.symbols.put(sym, { name: 'sensord.sym' })).toMatchObject({ status: 'stored', already: false, prepared: { debugFile: 'sensord', debugId: SENSORD } })
  expect(await world.worker.reprocess({ debugId: SENSORD })).toBe(1)
  const after = await rowOf(waiting.id)
  expect(after).toMatchObject({ revision: 1, status: 'ok', pack: before.pack, offset: before.offset, dbgstat: 1 })
  expect(after.missing_symbols.map((module) => module.debug_id)).not.toContain(SENSORD)
  expect(after.bucket).not.toBe(before.bucket)
  expect(after.signature_frames).not.toEqual([])

  expect(await world.worker.reprocess({ debugId: SENSORD })).toBe(0)
  expect(await rowOf(waiting.id)).toMatchObject({ revision: 1 })
  expect(await rowsOf(world.clickhouse, 'SELECT count() AS n FROM crashes FINAL')).toEqual([{ n: '1' }])
})

test('a crash that comes after its symbols has frames at once', async () => {
  const later = crash('dev-2')
  await world.send(later)
  await world.settled()
  const row = await rowOf(later.id)
  expect(row).toMatchObject({ revision: 0 })
  expect(row.bucket).toBe((await rowsOf<Row>(world.clickhouse, 'SELECT bucket FROM crashes FINAL WHERE revision = 1'))[0]?.bucket)
})

test('a worker that died before it was done sweeps up when it starts', async () => {
  const other = accepted(readFileSync(join(corpus, 'crashpad-x64/sensord-nofp.null-write.dmp')), { contentType: 'application/x-minidump' })
  await world.send(other)
  await world.settled()
  expect((await rowOf(other.id)).revision).toBe(0)
  await world.symbols.put(readFileSync(join(corpus, 'symbols/sensord-nofp/18D28BEBDBD1D454DA785CCB309AF56A0/sensord-nofp.sym')), { name: 'x' })
  await world.restartWorker()
  await until(async () => (await rowOf(other.id)).revision === 1, 'the waiting crash is reprocessed')
})
