import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { analyse } from '../../../symbolicate/analyse.ts'
import { parseBreakpadSym } from '../../../symbolicate/symbols/breakpad-sym.ts'
import type { ModuleSymbols, SymbolSource } from '../../../symbolicate/symbols/source.ts'

// From bytes to bucket on real dumps. A change here moves crashes between buckets on every fleet: it must be meant.
const corpus = join(import.meta.dirname, '../../corpus')

test.each([
  ['crashpad-x64/sensord-nofp.abort', 1, '14d369895b7f33f0', '1 | abort | run | worker'],
  ['crashpad-x64/sensord-nofp.assert', 1, '81313842add76049', '1 | assertion | run | worker'],
  ['crashpad-x64/sensord-nofp.div0', 1, 'b7981e898ff7076e', '1 | divide-by-zero | scale | worker'],
  ['crashpad-x64/sensord-nofp.exec-stack', 4, 'b6245cae5b431b4d', '1 | code-injection | run | worker'],
  ['crashpad-x64/sensord-nofp.heap-overflow', 3, 'f35692a2d1fdc94e', '1 | heap-corruption | in sensord-nofp'],
  ['crashpad-x64/sensord-nofp.illegal', 1, '1ade54fbdb28bac0', '1 | illegal-instruction | run | worker'],
  ['crashpad-x64/sensord-nofp.jump-4141', 4, '814075bfd55d929f', '1 | control-flow | dispatch | run | worker'],
  ['crashpad-x64/sensord-nofp.null-read', 1, '2ec020dfb995168b', '1 | null-dereference(near-null) | read_reg | worker'],
  ['crashpad-x64/sensord-nofp.null-write', 1, '54d8fdbbc1498b65', '1 | null-dereference(near-null) | run | worker'],
  ['crashpad-x64/sensord-nofp.stack-smash', 3, 'bc7c63143936f187', '1 | stack-guard | parse_mqtt'],
  ['crashpad-x64/sensord.abort', 1, '14d369895b7f33f0', '1 | abort | run | worker'],
  ['crashpad-x64/sensord.assert', 1, '81313842add76049', '1 | assertion | run | worker'],
  ['crashpad-x64/sensord.div0', 1, '2aeebbd5a47f8fdf', '1 | divide-by-zero | scale | run | worker'],
  ['crashpad-x64/sensord.exec-stack', 4, 'b6245cae5b431b4d', '1 | code-injection | run | worker'],
  ['crashpad-x64/sensord.heap-overflow', 3, 'd46d1a27d8bf5fca', '1 | heap-corruption | in sensord'],
  ['crashpad-x64/sensord.illegal', 1, '1ade54fbdb28bac0', '1 | illegal-instruction | run | worker'],
  ['crashpad-x64/sensord.jump-4141', 4, '814075bfd55d929f', '1 | control-flow | dispatch | run | worker'],
  ['crashpad-x64/sensord.null-read', 1, '80d326c7208cf937', '1 | null-dereference(near-null) | read_reg | run | worker'],
  ['crashpad-x64/sensord.null-write', 1, '54d8fdbbc1498b65', '1 | null-dereference(near-null) | run | worker'],
  ['crashpad-x64/sensord.stack-smash', 3, 'bc7c63143936f187', '1 | stack-guard | parse_mqtt'],
  ['breakpad-x64/bpdaemon.heap', 3, '179d30457b7b7d4b', '1 | heap-corruption | in bpdaemon'],
])('%s: E%i, bucket %s', async (file, level, bucket, text) => {
  const { evidence, signature, status } = await analyse(
    { bytes: readFileSync(join(corpus, `${file}.dmp`)), contentType: 'application/x-minidump', claims: {}, annotations: {} }, { symbols, maps: { find: async () => null } },
  )
  expect([status, evidence.class, signature.text, signature.bucket]).toEqual(['ok', level, text, bucket])
})

test('without symbols the bucket is provisional, keeps builds apart, and holds no address', async () => {
  const missing: SymbolSource = { find: async () => ({ status: 'missing', reason: 'none' }) }
  const read = async (file: string) => (await analyse(
    { bytes: readFileSync(join(corpus, file)), contentType: 'application/x-minidump', claims: {}, annotations: {} }, { symbols: missing, maps: { find: async () => null } },
  )).signature
  const [first, second] = [await read('crashpad-x64/sensord.null-read.dmp'), await read('crashpad-x64/sensord-nofp.null-read.dmp')]
  expect(first.provisional && second.provisional).toBe(true)
  expect(first.bucket).not.toBe(second.bucket)
  expect(first.text).not.toMatch(/0x[0-9a-f]{9}/)
  expect(first.text).toContain('sensord/01C5BFC8E88AB5C7+0x')
})

const known = new Map<string, ModuleSymbols>()
const symbols: SymbolSource = {
  async find({ debugFile, debugId }) {
    const name = debugFile?.split('/').at(-1) ?? ''
    const path = join(corpus, 'symbols', name, debugId ?? '', `${name}.sym`)
    if (debugId === null || !existsSync(path)) return { status: 'missing', reason: 'not in the store' }
    const parsed = known.get(path) ?? parseBreakpadSym(readFileSync(path))
    if ('slug' in parsed) return { status: 'corrupt', reason: parsed.reason }
    known.set(path, parsed)
    return { status: 'found', symbols: parsed }
  },
}
