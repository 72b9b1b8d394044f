import { readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createEventLog } from '../../dashboard/queries/event-log.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { createSymbolStore } from '../../symbolicate/symbols/store.ts'
import { quietLogger, rowsOf, until } from '../infra/clickhouse-fixture.ts'
import { accepted, createWorld, STORY, type World } from './world.ts'
import { drawElf, drawSymbols, sha256 } from './symbols/elf-builder.ts'

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
  expect(await world.worker.reprocess([SENSORD])).toBe(1)
  const after = await rowOf(waiting.id)
  expect(after).toMatchObject({ revision: 1, status: 'ok', pack: before.pack, offset: before.offset, dbgstat: 1 })
  expect(after.missing_symbols.map((module) => module.debug_id)).not.toContain(SENSORD)
  expect(after.bucket).not.toBe(before.bucket)
  expect(after.signature_frames).not.toEqual([])

  expect(await world.worker.reprocess([SENSORD])).toBe(0)
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

test('a worker hears of symbols that another process took, from the audit log alone', async () => {
  const other = accepted(readFileSync(join(corpus, 'breakpad-x64/bpdaemon.heap.dmp')), { contentType: 'application/x-minidump', deviceId: 'dev-9' })
  await world.send(other)
  await world.settled()
  const waited = (await rowOf(other.id)).missing_symbols.length
  expect(waited).toBeGreaterThan(0)
  await world.clickhouse.command({ query: `INSERT INTO crashes SELECT * REPLACE('of-another' AS id, 7 AS partition) FROM (SELECT * FROM crashes FINAL WHERE id = '${other.id}')` })

  const [debugId = ''] = readdirSync(join(corpus, 'symbols/bpdaemon'))
  const elsewhere = createSymbolStore({ blobs: world.blobs, cacheDirectory: join(tmpdir(), `overrun-elsewhere-${process.pid}`), logger: quietLogger, metrics: createMetrics({ defaults: false }) })
  await elsewhere.put(readFileSync(join(corpus, 'symbols/bpdaemon', debugId, 'bpdaemon.sym')), { name: 'bpdaemon.sym' })
  await elsewhere.stop()
  await createEventLog({ clickhouse: world.clickhouse, clock: { now: () => STORY + 60_000 } })
    .append({ fleet: 'demo', actor: 'admin', kind: 'symbols.uploaded', subject: `symbols:${debugId}`, body: {} })
  await until(async () => (await rowOf(other.id)).revision === 1, 'the waiting crash is analysed again')
  expect((await rowOf(other.id)).missing_symbols.length).toBeLessThan(waited)
  // It is in a partition that another worker owns.
  expect((await rowOf('of-another')).revision).toBe(0)
})

test('a firmware whose dump names it by the beginning of its ELF file\'s SHA-256 waits for it, and its crash is counted once', async () => {
  const elf = drawElf({
    bits: 32, machine: 243, loads: [{ address: 0x4200_0000, size: 0x1000 }],
    sections: [{ name: '.flash.text', flags: 6, address: 0x4200_0000, bytes: Buffer.alloc(0x100) }, ...drawSymbols([{ name: 'read_sensor', value: 0x4200_0010, size: 0x40 }], 32)],
  })
  const panic = `Guru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.\n\nCore  0 register dump:\nMEPC    : 0x42000014  RA      : 0x42000014  SP      : 0x3fc92e10\nMCAUSE  : 0x00000005  MTVAL   : 0x00000000\n\nELF file SHA256: ${sha256(elf).slice(0, 9)}\n`
  const waiting = accepted(panic, { deviceId: 'esp' })
  await world.send(waiting)
  await world.settled()
  const before = await rowOf(waiting.id)
  expect(before).toMatchObject({ revision: 0, format: 'esp-panic' })
  expect(before.missing_symbols.map((module) => module.debug_id)).toContain(`elf-sha256:${sha256(elf).slice(0, 9)}`)

  const put = await world.symbols.put(elf, { name: 'build/app.elf' })
  if (put.status !== 'stored') throw new Error(put.reason)
  await createEventLog({ clickhouse: world.clickhouse, clock: { now: () => STORY + 60_000 } })
    .append({ fleet: 'demo', actor: 'test', kind: 'symbols.uploaded', subject: 'symbols:x', body: { elf_sha256: put.elfSha256 } })
  world.worker.look()
  await until(async () => (await rowOf(waiting.id)).revision === 1, 'the firmware\'s crash is reprocessed')
  const after = await rowOf(waiting.id)
  expect(after.missing_symbols.map((module) => module.debug_id).filter((id) => id.startsWith('elf-sha256:'))).toEqual([])
  expect(after.report).toContain('read_sensor')
  expect(await rowsOf(world.clickhouse, 'SELECT count() AS n FROM crashes FINAL WHERE id = {id:String}', { id: waiting.id })).toEqual([{ n: '1' }])
})
