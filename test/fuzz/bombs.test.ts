/**
 * Inputs that are small and ask for much: counts and sizes at their extremes, nesting, cycles, names that point elsewhere.
 * Each ends as an outcome of ours; that no test runs into its time limit is part of what is tested.
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { openFsBlobs } from '../../infra/blobs/fs.ts'
import { analyse } from '../../symbolicate/analyse.ts'
import type { Analysis } from '../../symbolicate/contract.ts'
import { checkAnswer } from '../../symbolicate/sandbox/answers.ts'
import { prepare } from '../../symbolicate/sandbox/prepare.ts'
import { createFrameReader, frame } from '../../symbolicate/sandbox/wire.ts'
import { openPrepared, type PreparedSymbols } from '../../symbolicate/symbols/prepared.ts'
import { mapFrames } from '../../symbolicate/symbols/source-map.ts'
import type { SymbolSource } from '../../symbolicate/symbols/source.ts'
import { createSymbolStore } from '../../symbolicate/symbols/store.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { quietLogger } from '../infra/clickhouse-fixture.ts'
import { abbreviation, cstring, drawElf, u32, u64, uleb, unit } from '../synth/elf.ts'
import { type Drawn, drawMinidump, drawWords } from '../synth/minidump.ts'

const LONG = process.env.OVERRUN_LONG === '1'
const directory = mkdtempSync(join(tmpdir(), 'overrun-bombs-'))
afterAll(() => rmSync(directory, { recursive: true }))

const HOSTILE_NAMES = ['../secret', '..\\..\\secret', '/etc/passwd', '\0', '.', '..', 'a/../../secret', '%2e%2e/secret', 'C:\\secret', '\u202e', 'x'.repeat(5000)]
const NOBODY: SymbolSource = { find: async () => ({ status: 'missing', reason: 'none' }) }
const OURS = ['ok', 'partial', 'dump-truncated', 'dump-malformed', 'format-unknown', 'budget-exceeded']

/** As in production: what the child answers passes its parent's check, and fits. */
async function read(bytes: Uint8Array, symbols: SymbolSource = NOBODY): Promise<Analysis> {
  const analysis = await analyse({ bytes, contentType: 'application/x-minidump', claims: {}, annotations: {} }, { symbols, maps: { find: async () => null } })
  expect(OURS).toContain(analysis.status)
  checkAnswer(createFrameReader(4 * 2 ** 20).push(frame({ t: 'analysis', analysis }))[0])
  return analysis
}

describe('a minidump', () => {
  const thread = { id: 1, registers: { rip: 0x400100n, rsp: 0x7000n }, stack: { base: 0x7000n, bytes: new Uint8Array(64) } }
  const code = { base: 0x400000n, size: 0x1000, name: '/usr/bin/sensord' }

  test.each<[string, Drawn]>([
    ['every list claims four billion entries', { threads: [thread], modules: [code], memory: [], claims: { threads: 0xffff_ffff, modules: 0xffff_ffff, memory: 0xffff_ffff } }],
    ['modules end past the last address', { threads: [thread], modules: [{ base: 0xffff_ffff_ffff_f000n, size: 0xffff_ffff, name: 'top' }, code] }],
    ['a thousand modules lie over each other', { threads: [thread], modules: Array.from({ length: 1000 }, (_, index) => ({ base: BigInt(index), size: 0xffff_0000, name: 'm'.repeat(200) })) }],
    ['names are as long as names can be', { threads: [{ ...thread, name: '\u4e00'.repeat(8000) }], modules: Array.from({ length: 200 }, (_, index) => ({ base: BigInt(index) << 20n, size: 0x1000, name: `/${'\u0001'.repeat(8000)}${index}` })) }],
    ['annotations fill megabytes', { threads: [thread], annotations: Object.fromEntries(Array.from({ length: 600 }, (_, index) => [`key ${index}`, '\u0007'.repeat(16_000)])) }],
    ['memory lies over itself thousands of times', { threads: [thread], memory: Array.from({ length: 5000 }, () => ({ base: 0x7000n, bytes: new Uint8Array(8) })) }],
    ['every frame lies in a module of the longest name', {
      threads: [{ id: 1, registers: { rip: 0x400100n, rsp: 0x7000n }, stack: { base: 0x7000n, bytes: drawWords(Array.from({ length: 500 }, (_, index) => 0x400000 + 8 * index)) } }],
      modules: [{ ...code, name: '\u4e00'.repeat(4000) }], exception: { thread: 1, code: 11 },
    }],
    ['an 8 MiB annotation names a thread', { threads: [{ ...thread, name: 'x'.repeat(2 ** 20) }], exception: { thread: 1, code: 11 } }],
  ])('%s', async (_, drawn) => {
    await read(drawMinidump(drawn))
  })

  test('four thousand deep threads are told as far as an answer holds, the crashed one whole', async () => {
    const words = drawWords(Array.from({ length: 150 }, (_, index) => 0x400000 + 8 * index))
    const threads = Array.from({ length: 4000 }, (_, id) => ({ id, registers: { rip: 0x400100n, rsp: 0x10_0000n * BigInt(id) }, stack: { base: 0x10_0000n * BigInt(id), bytes: words } }))
    const { report } = await read(drawMinidump({ threads, modules: [code], exception: { thread: 3999, code: 11 } }))
    expect(report.threads).toHaveLength(4000)
    expect(report.crashing_thread?.frames.length).toBeGreaterThan(100)
    expect(report.notes.map(({ slug }) => slug)).toContain('frames-omitted')
  }, 60_000)

  test('a stack whose rules find the same frame again ends', async () => {
    const sym = ['MODULE Linux x86_64 0403020106050807090A0B0C0D0E0F100 sensord', 'FUNC 0 1000 0 spin', 'STACK CFI INIT 0 1000 .cfa: $rsp .ra: $rip $rbp: $rsp'].join('\n')
    const { report } = await read(drawMinidump({ threads: [thread], modules: [{ ...code, buildId: Uint8Array.from({ length: 20 }, (_, index) => index + 1) }], exception: { thread: 1, code: 11 } }), found(sym))
    expect(report.crashing_thread?.frame_count).toBeLessThanOrEqual(2)
  })

  test('names and ids that point out of the store find nothing there', async () => {
    writeFileSync(join(directory, 'secret'), 'secret')
    const files = await openFsBlobs({ directory: join(directory, 'store') })
    const asked: string[] = []
    const blobs = { ...files, list: (prefix: string) => { asked.push(prefix); return files.list(prefix) } }
    const store = createSymbolStore({ blobs, cacheDirectory: join(directory, 'cache'), logger: quietLogger, metrics: createMetrics({ defaults: false }) })
    for (const hostile of HOSTILE_NAMES) {
      expect(await store.locate({ debugFile: hostile, debugId: hostile, codeId: hostile, elfSha256: hostile })).toMatchObject({ status: expect.stringMatching(/missing|no-id/) })
      expect(await store.locateMap(hostile)).toBeNull()
      const pdb = { guid: new Uint8Array(16).fill(0x2e), age: 1, path: hostile.slice(0, 1000) }
      const { report } = await read(drawMinidump({ threads: [thread], modules: [{ base: 0x400000n, size: 0x1000, name: hostile.slice(0, 1000), pdb }] }))
      expect(report.modules[0]?.filename).not.toMatch(/[/\\]/)
    }
    await store.stop()
    expect(asked.length).toBeGreaterThan(HOSTILE_NAMES.length)
    expect(asked.flatMap((prefix) => prefix.split('/')).filter((part) => /^\.|[^\w.=-]/.test(part))).toEqual([])
    expect(readdirSync(directory).toSorted()).toEqual(expect.arrayContaining(['secret', 'store']))
  })
})

describe('a Breakpad symbol file', () => {
  const MODULE = 'MODULE Linux x86_64 0102030405060708090A0B0C0D0E0F100 x'

  test(`${LONG ? '10,000,000' : '300,000'} lines in one function are read within the budget`, () => {
    const count = LONG ? 10_000_000 : 300_000
    const line = 'ff 1 7 0\n'
    const bytes = Buffer.concat([Buffer.from(`${MODULE}\nFILE 0 a.c\nFUNC 0 ${count.toString(16)} 0 f\n`), Buffer.from(line.repeat(count))])
    expect(prepared(bytes)?.lookup(0xff)?.line).toBe(7)
    expect(process.memoryUsage().rss).toBeLessThan(LONG ? 2 ** 30 : 512 * 2 ** 20)
  }, 120_000)

  test('inlined calls a hundred thousand levels deep give the outermost 128', () => {
    const lines = Array.from({ length: 100_000 }, (_, depth) => `INLINE ${depth} 1 0 0 0 1000`)
    const hit = prepared(Buffer.from([MODULE, 'FILE 0 a.c', 'INLINE_ORIGIN 0 g', 'FUNC 0 1000 0 f', ...lines, '0 1000 9 0'].join('\n')))?.lookup(5)
    expect(hit?.inlines.length).toBe(128)
  })

  test.each([
    ['a rule of a hundred thousand words', `STACK CFI INIT 0 10 .cfa: ${'$rsp '.repeat(100_000)} .ra: .cfa`],
    ['a rule that names itself', 'STACK CFI INIT 0 10 .cfa: .cfa 8 + .ra: .ra'],
    ['a hundred thousand changes of one function', ['STACK CFI INIT 0 100000 .cfa: $rsp 8 + .ra: .cfa -8 + ^', ...Array.from({ length: 100_000 }, (_, at) => `STACK CFI ${at.toString(16)} $r${at}: .cfa -16 + ^`)].join('\n')],
    ['a Windows program that loops in its words', `STACK WIN 4 0 10 0 0 0 0 0 0 1 ${'$T0 $T0 = '.repeat(10_000)}`],
    ['functions that all lie at one place', Array.from({ length: 50_000 }, (_, index) => `FUNC 0 ffffffff 0 f${index}`).join('\n')],
    ['numbers past all numbers', 'FUNC ffffffffffffffff ffffffffffffffff 0 f\nPUBLIC ffffffffffffffffffffffff 0 p\nFILE 99999999999999999999 x'],
  ])('%s', (_, text) => {
    const opened = prepared(Buffer.from(`${MODULE}\nFUNC 0 10 0 f\n${text}\n`))
    for (const offset of [0, 1, 0xff, 0x1_0000, 0xffff_ffff]) { opened?.lookup(offset); opened?.cfi(offset); opened?.windowsFrame?.(offset) }
  })
})

describe('an ELF file with DWARF', () => {
  // Tags and attributes: compile unit 0x11, subprogram 0x2e, inlined 0x1d; name 3, low 0x11, high 0x12, ranges 0x55, origin 0x31, specification 0x47, sibling 1.
  const CU = abbreviation(1, 0x11, true, [[3, 8], [0x11, 1], [0x12, 7]])
  const cu = [1, ...cstring('a.c'), ...u64(0), ...u64(0x1000)]
  const elf = (abbreviations: number[], entries: Uint8Array | number[], more: Parameters<typeof drawElf>[0]['sections'] = {}): Uint8Array => drawElf({
    sections: {
      '.text': { bytes: new Uint8Array(0x1000), address: 0, flags: 6 },
      '.debug_abbrev': { bytes: Uint8Array.from([...abbreviations, 0]) }, '.debug_info': { bytes: unit(entries) }, ...more,
    },
  })
  const FUNCTION = abbreviation(2, 0x2e, true, [[3, 8], [0x11, 1], [0x12, 7]])
  const named = [2, ...cstring('f'), ...u64(0x10), ...u64(0x100)]

  test('without a bomb, the function is found', () => {
    expect(ask(elf([...CU, ...FUNCTION], [...cu, ...named, 0, 0]))?.lookup(0x20)).toMatchObject({ function: 'f', functionOffset: 0x10 })
    expect([...withFrame([])?.cfi(0x20) ?? []]).toEqual([['.cfa', expect.stringContaining('8')], ['.ra', expect.anything()]])
  })

  test('a function draws its name from itself, or from one that draws it back', () => {
    const origin = abbreviation(3, 0x2e, false, [[0x11, 1], [0x12, 7], [0x31, 0x13]])
    const at = 11 + cu.length
    const self = [...cu, 3, ...u64(0), ...u64(0x100), ...u32(at)]
    ask(elf([...CU, ...origin], [...self, 0]))
    const size = 1 + 8 + 8 + 4
    ask(elf([...CU, ...origin], [...cu, 3, ...u64(0), ...u64(0x10), ...u32(at + size), 3, ...u64(0x10), ...u64(0x10), ...u32(at), 0]))
  })

  test('entries nest two hundred thousand levels deep', () => {
    const block = abbreviation(4, 0x0b, true, [])
    ask(elf([...CU, ...FUNCTION, ...block], Buffer.concat([Buffer.from([...cu, ...named]), Buffer.alloc(200_000, 4), Buffer.alloc(200_002)])))
  })

  test('inlined calls nest fifty thousand levels deep', () => {
    const inlined = abbreviation(5, 0x1d, true, [[0x11, 1], [0x12, 7], [0x31, 0x13]])
    const one = Buffer.from([5, ...u64(0x10), ...u64(0x100), ...u32(11 + cu.length)])
    const opened = ask(elf([...CU, ...FUNCTION, ...inlined], Buffer.concat([Buffer.from([...cu, ...named]), ...new Array<Buffer>(50_000).fill(one), Buffer.alloc(50_002)])))
    expect(opened?.lookup(0x20)?.inlines.length ?? 0).toBeLessThanOrEqual(128)
  })

  test('an attribute\'s form is given by the next form, without end', () => {
    const indirect = abbreviation(3, 0x2e, false, [[3, 0x16]])
    ask(elf([...CU, ...indirect], Buffer.concat([Buffer.from([...cu, 3]), Buffer.alloc(100_000, 0x16)])))
  })

  test.each<[string, number[], number[]]>([
    ['abbreviations claim codes past all numbers', [...abbreviation(Number.MAX_SAFE_INTEGER, 0x2e, true, []), ...CU], [...cu, 0]],
    ['an abbreviation has a hundred thousand attributes', abbreviation(1, 0x11, true, new Array<[number, number]>(100_000).fill([3, 0x19])), [1, 0]],
    ['an entry follows an abbreviation that isn\'t there', CU, [...cu, 77, 78, 79]],
    ['a sibling lies before its brother', [...CU, ...abbreviation(2, 0x2e, true, [[1, 0x13]])], [...cu, 2, ...u32(11), 2, ...u32(11), 0, 0]],
    ['a block claims four gigabytes', [...CU, ...abbreviation(2, 0x2e, false, [[2, 4]])], [...cu, 2, ...u32(0xffff_fff0)]],
    ['a string has no end', CU, [1, 0x41, 0x41]],
  ])('%s', (_, abbreviations, entries) => {
    ask(elf(abbreviations, entries))
  })

  test('units of no length and of all length', () => {
    for (const head of [u32(0), u32(1), u32(0xffff_fff0), [...u32(0xffff_ffff), ...u64(2 ** 53)]]) {
      ask(drawElf({ sections: { '.text': { bytes: new Uint8Array(16), flags: 6 }, '.debug_abbrev': { bytes: Uint8Array.from([...CU, 0]) }, '.debug_info': { bytes: Uint8Array.from(Array.from({ length: 5000 }, () => head).flat()) } } }))
    }
  })

  test('a line program repeats itself, goes back, and divides by nothing', () => {
    const header = [...u32(0), 4, 0, ...u32(20), 0, 0, 1, 0xfb, 0, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, ...cstring('a.c').slice(0, 0), 0, ...cstring('a.c'), 0, 0, 0, 0]
    const program = Buffer.concat([Buffer.from(header), Buffer.from([0, 9, 2, ...u64(0)]), Buffer.alloc(300_000, 0xff), Buffer.from([3, 0x80, 0x80, 0x80, 0x80, 0x78, 1, 0, 1, 1])])
    program.writeUInt32LE(program.length - 4, 0)
    const stmt = abbreviation(1, 0x11, true, [[3, 8], [0x11, 1], [0x12, 7], [0x10, 0x17]])
    ask(elf(stmt, [...cu, ...u32(0), 0], { '.debug_line': { bytes: program } }))
  })

  test.each<[string, number[]]>([
    ['states are remembered a hundred thousand times', new Array<number>(100_000).fill(0x0a)],
    ['places advance a hundred thousand times', new Array<number>(100_000).fill(0x41)],
    ['an expression jumps back to its own start', [0x0f, 3, 0x2f, 0xfd, 0xff]],
    ['an expression of a hundred thousand words', [0x0f, ...uleb(100_000), ...new Array<number>(100_000).fill(0x12)]],
    ['an expression longer than the section', [0x0f, ...uleb(2 ** 40)]],
  ])('frame rules: %s', (_, instructions) => {
    withFrame(instructions)
  })

  /** A CIE (cfa = rsp + 8, return address at cfa - 8) and one FDE over all of the text. */
  function withFrame(instructions: number[]): PreparedSymbols | null {
    const cie = [...u32(0), ...u32(0xffff_ffff), 3, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1]
    const fde = [...u32(0), ...u32(0), ...u64(0x10), ...u64(0xff0), ...instructions]
    const bytes = Buffer.from([...cie, ...fde])
    bytes.writeUInt32LE(cie.length - 4, 0)
    bytes.writeUInt32LE(fde.length - 4, cie.length)
    return ask(elf([...CU, ...FUNCTION], [...cu, ...named, 0, 0], { '.debug_frame': { bytes } }))
  }

  test('a section inflates to more than there is', () => {
    const compressed = Buffer.concat([Buffer.from([...u32(1), ...u32(0), ...u64(2 ** 50), ...u64(1)]), Buffer.from('789c030000000001', 'hex')])
    ask(elf(CU, [...cu, 0], { '.debug_str': { bytes: compressed, flags: 0x800 }, '.debug_line': { bytes: compressed, flags: 0x800 } }))
  })

  function ask(bytes: Uint8Array): PreparedSymbols | null {
    const answer = prepare(bytes, 'bomb')
    if (answer.t === 'unusable') return null
    const opened = 'bytes' in answer.prepared ? openPrepared(answer.prepared.bytes) : null
    for (const offset of [0, 0x10, 0x20, 0x110, 0xfff, 0xffff_ffff]) { opened?.lookup(offset); opened?.cfi(offset) }
    return opened
  }
})

describe('a source map', () => {
  const ID = 'a'.repeat(32)
  const FRAME = { address: null, module: 'a.js', moduleOffset: null, function: 'f', file: 'a.js', line: 1, column: 3, column0: 2, inline: false }

  test.each<[string, object]>([
    ['a million lines of nothing', { version: 3, sources: [], names: [], mappings: ';'.repeat(1_000_000) }],
    ['a million mappings in one line', { version: 3, sources: ['a'], names: [], mappings: 'AAAA,'.repeat(1_000_000) }],
    ['numbers of a million digits', { version: 3, sources: ['a'], names: [], mappings: 'g'.repeat(1_000_000) }],
    ['a hundred thousand sections', { version: 3, sections: Array.from({ length: 100_000 }, (_, line) => ({ offset: { line, column: 0 }, map: { version: 3, sources: [], names: [], mappings: '' } })) }],
    ['sections within sections', JSON.parse(`${'{"version":3,"sections":[{"offset":{"line":0,"column":0},"map":'.repeat(500)}{}${'}]}'.repeat(500)}`) as object],
    ['a source root that climbs', { version: 3, sourceRoot: '../'.repeat(10_000), sources: ['../'.repeat(10_000)], names: [], mappings: 'AAAA' }],
  ])('%s', async (_, map) => {
    const { statuses } = await mapFrames([FRAME], new Map([['a.js', ID]]), { find: async () => Buffer.from(JSON.stringify(map)) })
    expect(['found', 'corrupt']).toContain(statuses.get('a.js')?.status)
  })
})

function prepared(bytes: Uint8Array): PreparedSymbols | null {
  const answer = prepare(bytes, 'bomb.sym')
  return answer.t === 'prepared' && 'bytes' in answer.prepared ? openPrepared(answer.prepared.bytes) : null
}

function found(sym: string): SymbolSource {
  const symbols = prepared(Buffer.from(sym))
  if (symbols === null) throw new Error('the symbols are none')
  return { find: async () => ({ status: 'found', symbols }) }
}
