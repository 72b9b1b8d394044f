import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openFsBlobs } from '../../../infra/blobs/fs.ts'
import type { Blobs } from '../../../infra/blobs/blobs.ts'
import { createMetrics } from '../../../infra/service/metrics.ts'
import { elfNames, elfPrefix, prefixIn } from '../../../symbolicate/symbols/elf-name.ts'
import { debugIdOfBuild } from '../../../symbolicate/symbols/elf/identity.ts'
import { openPrepared, type PreparedSymbols } from '../../../symbolicate/symbols/prepared.ts'
import type { ModuleIdentity } from '../../../symbolicate/symbols/source.ts'
import { createSymbolStore, type SymbolStore } from '../../../symbolicate/symbols/store.ts'
import { quietLogger } from '../../infra/clickhouse-fixture.ts'
import { drawBuildId, drawElf, drawSymbols, drawText, sha256, u32, type DrawnSection } from './elf-builder.ts'

const ID = '01C5BFC8E88AB5C748E77AB3FB13230A0'
const sensord = readFileSync(join(import.meta.dirname, '../../corpus/elf/sensord'))
const firmware = (version: number): Buffer => drawElf({
  bits: 32, machine: 40, loads: [{ address: 0x800_0000, size: 0x400 }],
  sections: [drawText(0x800_0000, 0x40), { name: '.rodata', bytes: u32(version) }, ...drawSymbols([{ name: `main_${version}`, value: 0x800_0001, size: 32 }], 32)],
})

let directory: string
let blobs: Blobs
let store: SymbolStore
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'overrun-elf-'))
  blobs = await openFsBlobs({ directory: join(directory, 'blobs') })
  store = createSymbolStore({ blobs, cacheDirectory: join(directory, 'cache'), logger: quietLogger, metrics: createMetrics({ defaults: false }) })
})
afterEach(async () => {
  await store.stop()
  await rm(directory, { recursive: true, force: true })
})

const module = (said: Partial<ModuleIdentity>): ModuleIdentity => ({ debugFile: 'app', debugId: null, codeId: null, ...said })
async function open(said: Partial<ModuleIdentity>): Promise<PreparedSymbols> {
  const located = await store.locate(module(said))
  if (located.status !== 'found') throw new Error(located.reason)
  return openPrepared(await readFile(located.path))!
}

test('an ELF file is found by its build id, whatever the dump calls the module, and by how its digest begins', async () => {
  expect(await store.locate(module({ debugId: ID }))).toMatchObject({ status: 'missing' })
  const put = await store.put(sensord, { name: 'build/sensord' })
  expect(put).toMatchObject({ status: 'stored', already: false, key: `elf/${sha256(sensord)}.elf`, elfSha256: sha256(sensord), prepared: { kind: 'elf', debugFile: 'sensord', debugId: ID, arch: 'x86-64' } })
  expect(await store.put(sensord, { name: 'again' })).toMatchObject({ already: true })
  expect((await open({ debugFile: '/usr/bin/renamed', debugId: ID.toLowerCase() })).identity).toMatchObject({ debugId: ID, arch: 'x86-64' })
  expect((await open({ debugFile: null, elfSha256: sha256(sensord).slice(0, 9) })).identity.debugId).toBe(ID)
  expect(await store.locate(module({ elfSha256: '0'.repeat(9) }))).toMatchObject({ status: 'missing', reason: expect.stringContaining('000000000') })
  expect(await store.locate(module({ elfSha256: '../../x' }))).toMatchObject({ status: 'no-id' })
})

test('a prefix that several files have is ambiguous and no match, and so is a first page of code', async () => {
  const [one, other] = [firmware(1), firmware(2)]
  await store.put(one, { name: 'one.elf' })
  expect((await open({ elfSha256: sha256(one).slice(0, 8) })).lookup(4)).toMatchObject({ function: 'main_1' })
  const put = await store.put(other, { name: 'two.elf' })
  if (put.status !== 'stored' || put.prepared.kind !== 'elf') throw new Error('not stored')
  expect(await store.locate(module({ debugId: put.prepared.debugId }))).toMatchObject({ status: 'ambiguous', reason: expect.stringContaining('--build-id') })
  // Two files with one beginning of their digest, as a 9-digit prefix may have.
  const twin = `${sha256(one).slice(0, 9)}${'0'.repeat(55)}`
  await blobs.put(`elf/${twin}.elf`, other)
  store.forget(elfNames(twin)[1]!)
  expect(await store.locate(module({ elfSha256: sha256(one).slice(0, 9) }))).toMatchObject({ status: 'ambiguous', reason: expect.stringContaining('2 ELF files') })
  expect((await open({ elfSha256: sha256(other).slice(0, 9) })).lookup(4)).toMatchObject({ function: 'main_2' })
})

test('a stripped program and its debug file are one build, in either order', async () => {
  const id = drawBuildId('5a'.repeat(20))
  const text = drawText(0x1000, 0x40)
  const of = (...sections: DrawnSection[]): Buffer => drawElf({ type: 3, loads: [{ address: 0, size: 0x2000 }], sections })
  const debug = of({ ...text, type: 8, size: 0x40 }, id, ...drawSymbols([{ name: 'handle_request', value: 0x1000, size: 32 }, { name: '_init', value: 0x1030, size: 8 }]))
  const stripped = of(text, id, ...drawSymbols([{ name: '_init', value: 0x1030, size: 8 }]))
  await store.put(debug, { name: 'app.debug' })
  const put = await store.put(stripped, { name: 'app' })
  if (put.status !== 'stored' || put.prepared.kind !== 'elf') throw new Error('not stored')
  const symbols = await open({ debugId: put.prepared.debugId })
  expect(symbols.lookup(0x1004)).toMatchObject({ function: 'handle_request' })
})

test('firmware is found by the digest that its certificate names: of its file, or of its image in flash', async () => {
  const code = Buffer.alloc(0x40, 0x90)
  const elf = firmware(7)
  await store.put(elf, { name: 'app.elf' })
  // A digest stands where a build id does.
  const named = (digest: string): Partial<ModuleIdentity> => ({ debugFile: 'firmware', debugId: debugIdOfBuild(digest) })
  expect((await open(named(sha256(elf)))).lookup(4)).toMatchObject({ function: 'main_7' })
  expect((await open(named(sha256(code)))).lookup(4)).toMatchObject({ function: 'main_7' })
})

test('a file answers to each prefix of its digest that a dump may name', () => {
  const digest = sha256(sensord)
  const names = elfNames(digest)
  expect(names).toContain(`elf-sha256:${digest.slice(0, 9)}`)
  expect(names.at(-1)).toBe(`elf-sha256:${digest}`)
  expect(names.map(prefixIn)).toEqual(names.map((name) => name.slice('elf-sha256:'.length)))
  expect([elfPrefix('abc'), elfPrefix('x'.repeat(9)), elfPrefix(null), prefixIn(ID)]).toEqual([null, null, null, null])
})
