import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ClickHouseError } from '@clickhouse/client'
import { connectClickHouse } from '../../infra/clickhouse/client.ts'
import { rowsOf, startTestClickHouse, type TestClickHouse } from './clickhouse-fixture.ts'

let world: TestClickHouse
beforeAll(async () => { world = await startTestClickHouse({ schema: false }) })
afterAll(() => world.stop())

const errorOf = (promise: Promise<unknown>): Promise<ClickHouseError> => promise.then(
  () => { throw new Error('expected a ClickHouseError') },
  (error: unknown) => { expect(error).toBeInstanceOf(ClickHouseError); return error as ClickHouseError })

test('the unmodified client pings, also with a SELECT', async () => {
  expect(await world.clickhouse.ping()).toEqual({ success: true })
  expect(await world.clickhouse.ping({ select: true })).toEqual({ success: true })
})

test('every kind of column goes in as JSON rows and comes out the same, up to the last bit', async () => {
  await world.clickhouse.command({ query: `
    CREATE TABLE kinds (id UInt32, u64 UInt64, nullable Nullable(UInt64), at DateTime64(3, 'UTC'), text String, low LowCardinality(String),
      list Array(LowCardinality(String)), pairs Array(Tuple(slug String, text String)), map Map(String, String), tiny UInt8, real Float64)
    ENGINE = MergeTree ORDER BY id` })
  const row = {
    id: 1, u64: '18446744073709551615', nullable: null, at: '2026-03-01 12:00:00.123', text: 'it\'s \\ "quoted" \u0000 \t \n 漢 😀 \ud800', low: '',
    list: ['a', 'b\'c'], pairs: [{ slug: 's', text: '{x:String}' }], map: { 'k\n': 'v\\' }, tiny: 255, real: -1234.5e-10,
  }
  const { summary } = await world.clickhouse.insert({ table: 'kinds', values: [row, { ...row, id: 2, nullable: '9223372036854775808' }], format: 'JSONEachRow' })
  expect(summary?.written_rows).toBe('2')
  const [first, second] = await rowsOf<typeof row>(world.clickhouse, 'SELECT * FROM kinds ORDER BY id')
  expect(first).toEqual({ ...row, text: row.text.replace('\ud800', '\\ud800') })
  expect(second?.nullable).toBe('9223372036854775808')
})

test('parameters are bound as values, whatever they contain', async () => {
  const hostile = ['\'; DROP TABLE kinds; --', '\\', '\\\'', 'a\tb\nc', '\u0000', '{x:String}', '漢 😀', '', '\\N', 'NULL']
  for (const text of hostile) {
    expect(await rowsOf(world.clickhouse, 'SELECT {text:String} AS text, length({text:String}) AS bytes', { text })).toEqual([{ text, bytes: String(Buffer.byteLength(text)) }])
  }
  expect(await rowsOf(world.clickhouse, 'SELECT {list:Array(String)} AS list', { list: hostile })).toEqual([{ list: hostile }])
  const [kinds] = await rowsOf<Record<string, unknown>>(world.clickhouse,
    'SELECT {big:UInt64} AS big, {none:Nullable(String)} AS none, {now:DateTime64(3)} AS now, {ids:Array(UInt64)} AS ids, {yes:Bool} AS yes, {name:Identifier} FROM (SELECT 7 AS column)',
    { big: 18446744073709551615n, none: null, now: new Date(Date.UTC(2026, 2, 1, 12, 0, 0, 45)), ids: [1, 2], yes: true, name: 'column' })
  expect(kinds).toEqual({ big: '18446744073709551615', none: null, now: '2026-03-01 12:00:00.045', ids: ['1', '2'], yes: true, column: 7 })
})

test('what one statement sets or binds is unknown to the next', async () => {
  await world.clickhouse.query({ query: 'SELECT {secret:String}', query_params: { secret: 'x' }, clickhouse_settings: { max_threads: 3 } })
  expect((await errorOf(world.clickhouse.query({ query: 'SELECT {secret:String}' }))).code).toBe('456')
  expect(await rowsOf(world.clickhouse, 'SELECT toString(getSetting(\'max_threads\')) AS threads')).toEqual([{ threads: '2' }])
})

test('a connection that is kept for readers brings nothing of its last statement', async () => {
  const read = (query: string, query_params: Record<string, unknown> = {}, settings = {}) =>
    world.clickhouse.query({ query, query_params, format: 'JSONEachRow', clickhouse_settings: { readonly: '1', ...settings } }).then((result) => result.json<Record<string, unknown>>())
  expect(await read('SELECT {secret:String} AS secret', { secret: 'x' })).toEqual([{ secret: 'x' }])
  expect(await read('SELECT {secret:String} AS secret', { secret: 'y' })).toEqual([{ secret: 'y' }])
  expect((await errorOf(read('SELECT {secret:String} AS secret'))).code).toBe('456')
  expect((await errorOf(read('SELECT {secret:String} AS secret', { other: 'x' }))).code).toBe('456')
  const threads = 'SELECT toString(getSetting(\'max_threads\')) AS threads'
  expect([await read(threads, {}, { max_threads: 3 }), await read(threads), await read(threads, {}, { max_threads: 3 })]).toEqual([[{ threads: '3' }], [{ threads: '2' }], [{ threads: '3' }]])
  await errorOf(read('SELECT 1; SET max_threads = 7'))
  await read('SET max_threads = 7').catch(() => {})
  expect(await read(threads)).toEqual([{ threads: '2' }])
  for (const write of ['SELECT 1; CREATE TABLE no (n UInt8) ENGINE = Memory', 'CREATE TABLE no (n UInt8) ENGINE = Memory']) {
    await errorOf(read(write))
    expect(await read('SELECT count() AS n FROM system.tables WHERE name = \'no\'')).toEqual([{ n: '0' }])
  }
  const answers = await Promise.all(Array.from({ length: 60 }, async (_, i) => read('SELECT {value:String} AS value, sleepEachRow(0.002)', { value: `v${i}` })))
  expect(answers.map((rows) => rows[0]?.value)).toEqual(Array.from({ length: 60 }, (_, i) => `v${i}`))
})

test('bound statements run side by side without taking each other\'s values', async () => {
  const answers = await Promise.all(Array.from({ length: 60 }, async (_, i) =>
    rowsOf<{ value: string }>(world.clickhouse, 'SELECT {value:String} AS value, sleepEachRow(0.002)', { value: `v${i}` })))
  expect(answers.map((rows) => rows[0]?.value)).toEqual(Array.from({ length: 60 }, (_, i) => `v${i}`))
})

test('an error arrives with ClickHouse\'s code and type', async () => {
  const unknown = await errorOf(world.clickhouse.query({ query: 'SELECT * FROM nowhere' }))
  expect([unknown.code, unknown.type]).toEqual(['60', 'UNKNOWN_TABLE'])
  const syntax = await errorOf(world.clickhouse.query({ query: 'SELEC 1' }))
  expect([syntax.code, syntax.type]).toEqual(['62', 'SYNTAX_ERROR'])
  const setting = await errorOf(world.clickhouse.query({ query: 'SELECT 1', clickhouse_settings: { no_such_setting: 1 } as never }))
  expect([setting.code, setting.type]).toEqual(['115', 'UNKNOWN_SETTING'])
})

test('an insert with one bad row inserts none', async () => {
  await world.clickhouse.command({ query: 'CREATE TABLE strict (n UInt8) ENGINE = MergeTree ORDER BY n' })
  const bad = await errorOf(world.clickhouse.insert({ table: 'strict', values: [{ n: 1 }, { n: 'many' }], format: 'JSONEachRow' }))
  expect(bad.message).toContain('at row 2')
  expect((await errorOf(world.clickhouse.insert({ table: 'missing', values: [{ n: 1 }], format: 'JSONEachRow' }))).code).toBe('60')
  expect(await rowsOf(world.clickhouse, 'SELECT count() AS n FROM strict')).toEqual([{ n: '0' }])
})

test('readonly is kept, and a GET is readonly by itself', async () => {
  expect((await errorOf(world.clickhouse.command({ query: 'CREATE TABLE no (n UInt8) ENGINE = Memory', clickhouse_settings: { readonly: '1' } }))).code).toBe('164')
  const { status, body } = await raw('GET', `/?query=${encodeURIComponent('CREATE TABLE no (n UInt8) ENGINE = Memory')}`, passwordHeader())
  expect([status, /Code: 164/.test(body)]).toEqual([403, true])
})

test('a statement that takes too long or too much memory ends with an error, and the engine lives on', async () => {
  const slow = await errorOf(world.clickhouse.query({ query: 'SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 3', clickhouse_settings: { max_execution_time: 1 } }))
  expect(slow.code).toBe('159')
  const greedy = await errorOf(world.clickhouse.query({ query: 'SELECT uniqExact(number) FROM numbers(50000000)' }))
  expect(greedy.type).toBe('MEMORY_LIMIT_EXCEEDED')
  expect(await world.clickhouse.ping({ select: true })).toEqual({ success: true })
})

test('a wrong password, a missing one and another user are refused', async () => {
  const wrong = connectClickHouse({ ...world.engine.address, password: 'guess' }, 'overrun-test')
  expect((await errorOf(wrong.query({ query: 'SELECT 1' }))).code).toBe('516')
  await wrong.close()
  expect((await raw('GET', '/?query=SELECT%201', {})).status).toBe(403)
  const other = connectClickHouse({ ...world.engine.address, username: 'root' }, 'overrun-test')
  expect((await errorOf(other.query({ query: 'SELECT 1' }))).code).toBe('516')
  await other.close()
})

test('an insert beyond the limit is refused with an answer, not with a broken connection', async () => {
  await world.clickhouse.command({ query: 'CREATE TABLE wide (text String) ENGINE = MergeTree ORDER BY tuple()' })
  const text = 'x'.repeat(1024 * 1024)
  const error = await errorOf(world.clickhouse.insert({ table: 'wide', values: Array.from({ length: 70 }, () => ({ text })), format: 'JSONEachRow' }))
  expect(error.type).toBe('TOO_MANY_BYTES')
  expect(await rowsOf(world.clickhouse, 'SELECT count() AS n FROM wide')).toEqual([{ n: '0' }])
})

test('the password is in neither the arguments nor the environment of the engine', async () => {
  const { password } = world.engine.address
  for (const file of ['cmdline', 'environ']) expect(await readFile(`/proc/${world.engine.pid}/${file}`, 'utf8')).not.toContain(password)
})

const passwordHeader = (): Record<string, string> => ({ 'x-clickhouse-user': 'default', 'x-clickhouse-key': world.engine.address.password })

function raw(method: string, path: string, headers: Record<string, string>): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    request(new URL(path, world.engine.address.url), { method, headers }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => { body += chunk }).on('end', () => resolve({ status: response.statusCode ?? 0, body }))
    }).on('error', reject).end()
  })
}

test('clients that go while their inserts wait for the writer do not keep it from the others', async () => {
  const { engine, clickhouse } = world
  await clickhouse.command({ query: 'CREATE TABLE left_alone (n UInt8) ENGINE = MergeTree ORDER BY n' })
  const { hostname, port } = new URL(engine.address.url)
  const begin = async () => {
    const socket = connect(Number(port), hostname).on('error', () => {})
    await once(socket, 'connect')
    const authorization = Buffer.from(`${engine.address.username}:${engine.address.password}`).toString('base64')
    socket.write(`POST /?query=${encodeURIComponent('INSERT INTO left_alone FORMAT JSONEachRow')} HTTP/1.1\r\nHost: engine\r\nAuthorization: Basic ${authorization}\r\nContent-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n`)
    return socket
  }
  // The first holds the writer with rows that never come, the others wait behind it.
  const sockets = [await begin(), await begin(), await begin()]
  await new Promise((resolve) => setTimeout(resolve, 200))
  for (const socket of sockets.reverse()) socket.destroy()
  await clickhouse.insert({ table: 'left_alone', values: [{ n: 1 }], format: 'JSONEachRow' })
  expect(await rowsOf(clickhouse, 'SELECT n FROM left_alone')).toEqual([{ n: 1 }])
})
