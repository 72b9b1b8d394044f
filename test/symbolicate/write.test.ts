import { afterAll, beforeAll, expect, test } from 'vitest'
import { createMetrics } from '../../infra/service/metrics.ts'
import type { Analysis } from '../../symbolicate/contract.ts'
import { createInserter } from '../../symbolicate/insert.ts'
import { createWorkerMetrics } from '../../symbolicate/metrics.ts'
import { unreadable } from '../../symbolicate/unreadable.ts'
import { written } from '../../symbolicate/queries/written.ts'
import { analysedColumns, claimsOf, dateTime, renewedRow, revised, rowOf, type CrashRow } from '../../symbolicate/write.ts'
import { quietLogger, rowsOf, startTestClickHouse, type TestClickHouse } from '../infra/clickhouse-fixture.ts'
import { accepted, STORY } from './world.ts'

let server: TestClickHouse
beforeAll(async () => { server = await startTestClickHouse() })
afterAll(() => server.stop())

const inserter = () => createInserter({ clickhouse: server.clickhouse, logger: quietLogger, metrics: createWorkerMetrics(createMetrics({ defaults: false })), retryMs: 10, retryMaxMs: 100 })
const place = { pack: 'p', dumpOffset: 1, dumpLength: 2, manifestPack: 'm', manifestOffset: 3, manifestLength: 4 }
const row = (analysis: Partial<Analysis> = {}, said: Parameters<typeof accepted>[1] = {}) => {
  const crash = accepted('x', said)
  return rowOf({ accepted: crash, position: { topic: 't', partition: 0, offset: 2 ** 52 }, deviceNumber: 1, archive: place, revision: 0, analysis: { ...unreadable('dump-empty', 'no bytes', crash), ...analysis } }, STORY)
}
const stored = async (id: string) => (await rowsOf<CrashRow>(server.clickhouse, 'SELECT * FROM crashes FINAL WHERE id = {id:String}', { id }))[0]

test('a row comes back from the table as it was written, 64-bit addresses and all', async () => {
  const base = unreadable('dump-empty', 'no bytes', accepted('x'))
  const written = row({
    evidence: { ...base.evidence, faultAddress: 0x4141414141414141n, pc: 0xffff_ffff_ffff_ffffn, sp: 0n, cwe: [787, 121], for: [{ slug: 'a', text: 'b' }] },
    signature: { ...base.signature, frames: ['f', 'g'], notes: [{ rule: 'r', from: 'a', to: 'b', why: 'c' }] },
    report: { ...base.report, modules: [{ base_addr: '0x1', end_addr: '0x2', filename: 'f', code_id: 'ab', debug_file: 'f', debug_id: 'CD', version: null, symbol_status: 'missing', symbol_reason: null }] },
  }, { annotations: { 'a\'b': 'c"d\n\u0001\u{1f600}' } })
  await inserter().insert('crashes', [written], () => true)
  const back = await stored(written.id) as CrashRow
  const asTable = { ...written, offset: String(written.offset), device_number: String(written.device_number), bootcount: '1', seq: String(written.seq), size: '1', dump_offset: '1', dump_length: '2', manifest_offset: '3', manifest_length: '4' }
  expect(back).toEqual(asTable)
  expect(back).toMatchObject({ fault_address: '4702111234474983745', pc: '18446744073709551615', sp: '0', missing_symbols: [{ debug_file: 'f', debug_id: 'CD', code_id: 'ab' }] })
})

test('a row read back can be written again with a higher revision and counts once', async () => {
  const first = row()
  await inserter().insert('crashes', [first], () => true)
  const back = await stored(first.id) as CrashRow
  await inserter().insert('crashes', [{ ...back, ...analysedColumns(unreadable('dump-truncated', 'better', { contentType: 'text/plain', claims: {} }), Number(back.revision) + 1, STORY) }], () => true)
  expect(await stored(first.id)).toMatchObject({ revision: 1, status: 'dump-truncated' })
  expect(await rowsOf(server.clickhouse, 'SELECT count() AS n, uniqExact(id) AS u FROM crashes FINAL WHERE id = {id:String}', { id: first.id })).toEqual([{ n: '1', u: '1' }])
})

test('the claims that the table keeps are the claims that an analysis saw', () => {
  const claims = { bootcount: 3, seq: 4, size: 1, uptimeSeconds: 9, hwmodel: 'h', swname: 'n', swversion: 'v', buildId: 'ab', encoding: 'gzip', resetReason: 'r', compartment: 'c', layer: 'app', svn: 1, process: 'p', lastInputAgeMs: 5, peer: '192.0.2.1', listenerPort: 80, fingerprint: 'ff', dbgstat: 2 } as const
  expect(claimsOf(row({}, { claims }))).toEqual(claims)
  expect(Object.values(claimsOf(row({}, { claims: { bootcount: 0, seq: 0 } }))).filter((value) => value === '' || value === null)).toEqual([])
})

test('a row that ClickHouse refuses is handed back, and the others of its block are written', async () => {
  const rows: object[] = Array.from({ length: 9 }, () => row())
  rows[4] = { ...rows[4], pc: 'not a number' }
  const { refused } = await inserter().insert('crashes', rows, () => true)
  expect(refused).toEqual([{ row: rows[4], reason: expect.stringMatching(/./) }])
  expect(await rowsOf(server.clickhouse, 'SELECT count() AS n FROM crashes WHERE id IN {ids:Array(String)}', { ids: rows.map((r) => (r as CrashRow).id) })).toEqual([{ n: '8' }])
})

test('crashes of any month go in as one block', async () => {
  const rows = Array.from({ length: 150 }, (_, month) => row({}, { eventTime: Date.UTC(2000, month, 15) }))
  expect(await inserter().insert('crashes', rows, () => true)).toEqual({ refused: [] })
})

test('a time beyond what the table can hold is its last moment', () => {
  expect(dateTime(Number.MAX_SAFE_INTEGER)).toBe('2299-12-31 23:59:59.999')
})

test('an entry that is read again keeps its revision when it says the same, and has the next one, with its first bucket, when it does not', async () => {
  const first = row()
  await inserter().insert('crashes', [first], () => true)
  const before = async () => (await written(server.clickhouse, [first.id])).get(first.id)![0]!
  const same = revised(first, await before())
  expect([same.revision, same.first_bucket]).toEqual([0, ''])
  const moved = revised({ ...first, bucket: 'ffffffffffffffff' }, await before())
  expect([moved.revision, moved.first_bucket]).toEqual([1, first.bucket])
  await inserter().insert('crashes', [moved], () => true)
  const again = revised(moved, await before())
  expect([again.revision, again.first_bucket]).toEqual([1, first.bucket])
  const back = revised(first, await before())
  expect([back.revision, back.first_bucket]).toEqual([2, first.bucket])
  expect(renewedRow(back, analysedColumns(unreadable('dump-truncated', 'better', { contentType: 'text/plain', claims: {} }), 0, STORY))).toMatchObject({ revision: 3, first_bucket: first.bucket })
})
