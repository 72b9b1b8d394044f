/** What `overrun explain --json` prints is what its schema says, field by field, for every dump of the corpus. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyse } from '../../symbolicate/analyse.ts'
import { explainJson } from '../../symbolicate/explain.ts'
import { explainJsonSchema, explainSchema } from '../../symbolicate/report-schema.ts'
import { createSource } from '../peers/breakpad-store.ts'
import { drawMinidump } from '../synth/minidump.ts'
import { ASAN } from './world.ts'

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'), 'minidump')
const here = existsSync(corpus)
test('the corpus is there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${corpus} is missing: set OVERRUN_CORPUS`).toBe(true))

describe.skipIf(!here)(`dumps of ${corpus}${here ? '' : ' (absent)'}`, () => {
  const files = here ? readdirSync(corpus, { recursive: true }).map(String).filter((file) => file.endsWith('.dmp')).toSorted() : []
  const symbols = createSource(corpus, ['symbols', 'breakpad/processor-testdata/symbols', 'rust-minidump/testdata/symbols'])

  test.each(files)('%s', async (file) => holds(readFileSync(join(corpus, file)), symbols))
})

test.each([['text', ASAN], ['what can\'t be read', 'noise'], ['nothing', ''], ['a drawn dump with every stream', drawMinidump({
  os: 'macos', threads: [{ id: 1, registers: { rip: 0x5010n, rsp: 0x7000n }, stack: { base: 0x7000n, bytes: new Uint8Array(64) } }], pid: 3, startedAt: 1_699_999_990,
  exception: { thread: 1, code: 1, flags: 1, address: 16n }, unloaded: [{ base: 0x5000n, size: 0x1000, name: 'gone.dylib' }], bootArguments: '-v', annotations: { a: 'b' },
  lsbRelease: 'DISTRIB_ID=Ubuntu\n', cpuInfoText: 'microcode\t: 0x2b\n', macCrashInfo: [{ version: 5n, thread: 1n, dialogMode: 0n, abortCause: 2n, strings: ['/usr/lib/libc.dylib', 'abort() called', '', '', ''] }],
})]])('%s', async (_, content) => holds(typeof content === 'string' ? Buffer.from(content) : content, createSource('/nowhere', [])))

test('the schema is JSON Schema that names each field of rust-minidump\'s that is kept', () => {
  const schema = explainJsonSchema() as { properties: Record<string, unknown>; required: string[] }
  expect(schema).toMatchObject({ $schema: expect.stringContaining('json-schema.org'), type: 'object' })
  expect(Object.keys(schema.properties)).toEqual(expect.arrayContaining(['status', 'pid', 'crash_info', 'system_info', 'crashing_thread', 'threads', 'modules', 'main_module', 'unloaded_modules', 'lsb_release', 'mac_crash_info', 'analysis']))
  expect(JSON.parse(JSON.stringify(schema))).toEqual(schema)
})

async function holds(bytes: Uint8Array, symbols: Parameters<typeof analyse>[1]['symbols']): Promise<void> {
  const analysis = await analyse({ bytes, contentType: 'text/plain', claims: {}, annotations: {} }, { symbols, maps: { find: async () => null } })
  const printed = JSON.parse(JSON.stringify(explainJson(analysis, null))) as unknown
  // A field that the schema doesn't know is dropped by parse: then the two differ.
  expect(explainSchema.parse(printed)).toEqual(printed)
}
