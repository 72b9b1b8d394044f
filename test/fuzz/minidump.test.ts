/**
 * What hostile bytes may do to the native path: nothing but end, within the budget, with one of our slugs or a report.
 * Inputs are real dumps and symbol files with flipped bytes, extreme numbers at the places where numbers are, and cuts;
 * and drawn ones with lying structure. Every access goes through a reader or a typed array, which can't leave its buffer;
 * the properties below run over a window inside of a larger buffer whose margin must never be seen in an answer.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ANALYSIS_STATUSES } from '../../symbolicate/contract.ts'
import { parseMinidump } from '../../symbolicate/formats/minidump.ts'
import { analyseNative, NATIVE_BUDGET, type NativeBudget } from '../../symbolicate/native.ts'
import { parseBreakpadSym } from '../../symbolicate/symbols/breakpad-sym.ts'
import { openPrepared } from '../../symbolicate/symbols/prepared.ts'
import type { SymbolSource } from '../../symbolicate/symbols/source.ts'

const CORPUS = join(import.meta.dirname, '../corpus')
const dumps = ['crashpad-x64', 'linux-arm64', 'breakpad-x64'].flatMap((folder) => readdirSync(join(CORPUS, folder)).filter((file) => file.endsWith('.dmp')).map((file) => readFileSync(join(CORPUS, folder, file))))
const symbolFile = readFileSync(join(CORPUS, 'symbols/sensord/01C5BFC8E88AB5C748E77AB3FB13230A0/sensord.sym'))

const BUDGET: NativeBudget = { minidump: { ...NATIVE_BUDGET.minidump, threads: 64, modules: 256, ranges: 1024 }, unwind: { walked: 2048, kept: 64, candidates: 4096, places: 4096 } }
const OURS = new Set<string>(['dump-empty', 'dump-truncated', 'dump-malformed', 'budget-exceeded'])

/** Changes that hurt parsers: single bits, the extremes of 32-bit numbers, a copy of some bytes elsewhere, a cut. */
const change = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('flip' as const), at: fc.nat(), bit: fc.nat(7) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('number' as const), at: fc.nat(), value: fc.constantFrom(0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 0x10000, 32, 12) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('copy' as const), at: fc.nat(), from: fc.nat(), length: fc.nat(64) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut' as const), at: fc.nat() }) },
)
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never
/** Structure is at the front of these files; half of the changes go there. */
const changes = fc.array(fc.tuple(change, fc.boolean()), { minLength: 1, maxLength: 12 })

test('a changed dump is parsed or refused with our slug, and never seen past its end', () => {
  fc.assert(fc.property(fc.nat(dumps.length - 1), changes, (which, list) => {
    const bytes = inWindow(mutate(dumps[which]!, list))
    const result = parseMinidump(bytes, BUDGET.minidump)
    if (!('dump' in result)) {
      expect(OURS.has(result.slug)).toBe(true)
      return
    }
    const { dump } = result
    expect(dump.threads.length).toBeLessThanOrEqual(BUDGET.minidump.threads)
    expect(dump.modules.length).toBeLessThanOrEqual(BUDGET.minidump.modules)
    expect(JSON.stringify([dump.annotations, dump.notes, dump.modules.map((module) => [module.name, module.debugFile])])).not.toContain(MARGIN_TEXT)
    for (const { base, size } of dump.memory.ranges().slice(0, 50)) {
      const held = dump.memory.bytes(base, size)
      if (held) expect(held.byteOffset >= bytes.byteOffset && held.byteOffset + held.length <= bytes.byteOffset + bytes.length).toBe(true)
    }
  }), { numRuns: 3000 })
}, 60_000)

test('a changed dump is analysed to its end with a status of ours', async () => {
  const source = oneSource(openPrepared((parseBreakpadSym(symbolFile) as { serialize(): Uint8Array }).serialize())!)
  await fc.assert(fc.asyncProperty(fc.nat(dumps.length - 1), changes, async (which, list) => {
    const { status, stacks, report } = await analyseNative(mutate(dumps[which]!, list), 'application/x-dmp', source, BUDGET)
    expect(ANALYSIS_STATUSES).toContain(status)
    expect(stacks.reduce((sum, stack) => sum + stack.frames.length + stack.omitted, 0)).toBeLessThanOrEqual(BUDGET.unwind.walked)
    expect(Math.max(0, ...stacks.map((stack) => stack.frames.length))).toBeLessThanOrEqual(BUDGET.unwind.kept)
    JSON.stringify(report)
  }), { numRuns: 800 })
}, 60_000)

test('any bytes behind the magic are refused or parsed', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
    const result = parseMinidump(Buffer.concat([Buffer.from('MDMP'), bytes]))
    expect('dump' in result || OURS.has(result.slug)).toBe(true)
  }), { numRuns: 2000 })
})

test('a changed symbol file is read or refused, and its answers are in order', () => {
  fc.assert(fc.property(changes, fc.array(fc.nat(0x3000), { minLength: 5, maxLength: 5 }), (list, offsets) => {
    const parsed = parseBreakpadSym(inWindow(mutate(symbolFile, list)))
    if ('slug' in parsed) return
    const opened = openPrepared(parsed.serialize())!
    for (const offset of offsets) {
      const hit = parsed.lookup(offset)
      if (hit) {
        expect(hit.functionOffset).toBeLessThanOrEqual(offset)
        expect(JSON.stringify(hit)).not.toContain(MARGIN_TEXT)
      }
      expect(opened.lookup(offset)).toEqual(hit)
      expect(opened.cfi(offset)).toEqual(parsed.cfi(offset))
    }
  }), { numRuns: 1500 })
}, 60_000)

/** Lines put together from the format's own words: the most likely way past the first checks. */
test('symbol files made of valid words in any order', () => {
  const number = fc.constantFrom('0', '1', '7', '10', 'fff', '1000', '1010', 'ffffffff', '100000000', '-1', 'x', '')
  const words = fc.oneof(number, fc.constantFrom('FUNC', 'm', 'INLINE', 'INLINE_ORIGIN', 'FILE', 'PUBLIC', 'STACK', 'CFI', 'INIT', 'WIN', 'INFO', 'MODULE', '.cfa:', '.ra:', '$rsp', '^', '+', 'name'))
  const line = fc.array(words, { maxLength: 9 }).map((list) => list.join(' '))
  fc.assert(fc.property(fc.array(line, { maxLength: 40 }), fc.nat(0x2000), (lines, offset) => {
    const parsed = parseBreakpadSym(Buffer.from(['MODULE Linux x86_64 0102030405060708090A0B0C0D0E0F100 x', ...lines].join('\n')))
    if ('slug' in parsed) throw new Error(parsed.reason)
    expect(openPrepared(parsed.serialize())!.lookup(offset)).toEqual(parsed.lookup(offset))
    parsed.cfi(offset)
  }), { numRuns: 2000 })
})

const MARGIN_TEXT = 'BEYONDTHEEND'
/** The bytes in the middle of a larger buffer; a read past either end would find MARGIN_TEXT. */
function inWindow(bytes: Uint8Array): Uint8Array {
  const margin = Buffer.from(MARGIN_TEXT.repeat(8))
  const whole = Buffer.concat([margin, bytes, margin])
  return new Uint8Array(whole.buffer, whole.byteOffset + margin.length, bytes.length)
}

function mutate(original: Uint8Array, list: [Change, boolean][]): Uint8Array {
  let bytes = new Uint8Array(original)
  for (const [edit, front] of list) {
    const at = edit.at % Math.max(1, front ? Math.min(bytes.length, 4096) : bytes.length)
    if (edit.kind === 'flip' && at < bytes.length) bytes[at]! ^= 1 << edit.bit
    if (edit.kind === 'number' && at + 4 <= bytes.length) new DataView(bytes.buffer, bytes.byteOffset).setUint32(at & ~3, edit.value, true)
    if (edit.kind === 'copy') bytes.copyWithin(at, edit.from % Math.max(1, bytes.length), (edit.from % Math.max(1, bytes.length)) + edit.length)
    if (edit.kind === 'cut' && !front) bytes = bytes.slice(0, at)
  }
  return bytes
}

function oneSource(symbols: NonNullable<ReturnType<typeof openPrepared>>): SymbolSource {
  return { find: async () => ({ status: 'found', symbols }) }
}
