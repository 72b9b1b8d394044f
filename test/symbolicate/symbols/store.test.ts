import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openFsBlobs } from '../../../infra/blobs/fs.ts'
import type { Blobs } from '../../../infra/blobs/blobs.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'
import { openFileCache } from '../../../symbolicate/symbols/cache.ts'
import { openPrepared } from '../../../symbolicate/symbols/prepared.ts'
import { createSymbolStore, type SymbolStore } from '../../../symbolicate/symbols/store.ts'
import { quietLogger } from '../../infra/clickhouse-fixture.ts'

const ID = '01C5BFC8E88AB5C748E77AB3FB13230A0'
const sym = readFileSync(join(import.meta.dirname, `../../corpus/symbols/sensord/${ID}/sensord.sym`))
const sensord = { debugFile: 'sensord', debugId: ID, codeId: null }

let directory: string
let blobs: Blobs
let store: SymbolStore
const open = () => createSymbolStore({ blobs, cacheDirectory: join(directory, 'cache'), logger: quietLogger, metrics: createMetrics({ defaults: false }) })
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'overrun-symbols-'))
  blobs = await openFsBlobs({ directory: join(directory, 'blobs') })
  store = open()
})
afterEach(async () => {
  await store.stop()
  await rm(directory, { recursive: true, force: true })
})
const keysOf = async () => {
  const keys = []
  for await (const { key } of blobs.list('')) keys.push(key)
  return keys
}

test('symbols are missing until they are there, and then found in a form that opens without parsing', async () => {
  expect(await store.locate(sensord)).toEqual({ status: 'missing', reason: `no symbols for sensord ${ID}` })
  expect(await store.put(sym, { name: 'a.sym' })).toMatchObject({ status: 'stored', already: false, prepared: { kind: 'breakpad-sym', arch: 'x86_64', functions: 10 } })
  const located = await store.locate({ ...sensord, debugFile: '/usr/bin/sensord', debugId: ID.toLowerCase() })
  if (located.status !== 'found') throw new Error(located.reason)
  expect(openPrepared(await readFile(located.path))?.identity).toMatchObject({ debugId: ID, name: 'sensord' })
})

test('the same file twice is one object', async () => {
  await store.put(sym, { name: 'a' })
  expect(await store.put(sym, { name: 'b' })).toMatchObject({ status: 'stored', already: true })
  expect(await keysOf()).toEqual([expect.stringMatching(new RegExp(`^symbols/sensord/${ID}/[0-9a-f]{64}\\.sym$`))])
})

test('a module without an id is told apart from one whose symbols are missing', async () => {
  expect(await store.locate({ ...sensord, debugId: null })).toMatchObject({ status: 'no-id' })
})

test.each([
  ['no bytes', ''],
  ['no symbol file', 'hello'],
  ['no identity', 'MODULE Linux x86_64 nonsense sensord\nFUNC 10 10 0 main\n'],
  ['nothing in it', `MODULE Linux x86_64 ${ID} sensord\n`],
  ['a source map without an id', '{"version":3,"mappings":"AAAA","sources":[]}'],
  ['a source map that is no JSON', '{"version":3,'],
])('a file that is of no use is refused with its reason and not kept: %s', async (_, text) => {
  expect(await store.put(Buffer.from(text), { name: 'x' })).toEqual({ status: 'unusable', reason: expect.stringMatching(/^x: ./) })
  expect(await keysOf()).toEqual([])
})

test('a name in a symbol file can\'t leave its folder', async () => {
  const stored = await store.put(Buffer.from(`MODULE Linux x86_64 ${ID} ../../../etc/passwd\nFUNC 10 10 0 main\n`), { name: 'x' })
  expect(stored).toMatchObject({ status: 'stored', key: expect.stringMatching(new RegExp(`^symbols/passwd/${ID}/`)) })
  for (const name of ['..', '.', 'a\\..\\..', '%2e%2e', '\u0000', 'ü'.repeat(200)]) {
    expect(await store.put(Buffer.from(`MODULE Linux x86_64 ${ID} ${name}\nFUNC 10 10 0 main\n`), { name: 'x' })).toMatchObject({ status: 'stored' })
  }
  expect((await keysOf()).every((key) => key.startsWith('symbols/') && key.split('/').length === 4)).toBe(true)
})

test('a symbol file that was damaged in the store is corrupt, and one of another build is mismatched', async () => {
  const stored = await store.put(sym, { name: 'x' })
  if (stored.status !== 'stored') throw new Error(stored.reason)
  await blobs.put(stored.key, Buffer.from('damaged'))
  expect(await store.locate(sensord)).toMatchObject({ status: 'corrupt' })
  await blobs.put(stored.key, Buffer.from(sym.toString('latin1').replace(ID, `${'A'.repeat(32)}0`), 'latin1'))
  const fresh = open()
  expect(await fresh.locate(sensord)).toMatchObject({ status: 'mismatched', reason: expect.stringContaining('A'.repeat(32)) })
  await fresh.stop()
})

test('source maps are found by their debug id, however it is written', async () => {
  const map = { version: 3, mappings: 'AAAA', sources: ['a.ts'], names: [], debugId: '85314830-023F-4CF1-A267-535F4E37BB17' }
  expect(await store.put(Buffer.from(JSON.stringify(map)), { name: 'a.js.map' })).toMatchObject({ status: 'stored', prepared: { kind: 'source-map', debugId: '85314830023f4cf1a267535f4e37bb17', sources: 1 } })
  const path = await store.locateMap('85314830-023f-4cf1-a267-535f4e37bb17')
  expect(JSON.parse(await readFile(path as string, 'utf8'))).toEqual(map)
  expect(await store.locateMap('00000000000000000000000000000000')).toBeNull()
})

test('the cache may be lost at any time', async () => {
  await store.put(sym, { name: 'x' })
  expect(await store.locate(sensord)).toMatchObject({ status: 'found' })
  for (const name of await readdir(join(directory, 'cache'))) await rm(join(directory, 'cache', name))
  expect(await store.locate(sensord)).toMatchObject({ status: 'found' })
})

test('the cache keeps to its size and lets the least used go, but nothing that was just handed out', async () => {
  const old = new Date(Date.now() - 3_600_000)
  const folder = join(directory, 'small')
  const first = openFileCache({ directory: folder, maxBytes: 250 })
  for (const name of ['a', 'b']) await first.put(name, Buffer.alloc(100))
  for (const name of ['a', 'b']) await utimes(join(folder, name), old, old)
  await writeFile(join(folder, 'c'), Buffer.alloc(10))

  const cache = openFileCache({ directory: folder, maxBytes: 250 })
  expect(cache.bytes).toBe(210)
  expect(await cache.use('a')).toBe(join(folder, 'a'))
  await cache.put('d', Buffer.alloc(100))
  expect((await readdir(folder)).toSorted()).toEqual(['a', 'c', 'd'])
  await cache.put('e', Buffer.alloc(100))
  expect((await readdir(folder)).toSorted()).toEqual(['a', 'c', 'd', 'e'])
})
