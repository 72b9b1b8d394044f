import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { deflateSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { prepareElf, type ElfFile } from '../../../symbolicate/symbols/elf/prepare.ts'
import { openPrepared, preparedOf, type PreparedSymbols } from '../../../symbolicate/symbols/prepared.ts'
import { drawDwarf } from './dwarf-builder.ts'
import { drawBuildId, drawElf, drawSymbols, drawText, NOBITS, u32, u64, u8, uleb, type DrawnElf, type DrawnSection } from './elf-builder.ts'

const sensord = readFileSync(join(import.meta.dirname, '../../corpus/elf/sensord'))
const BASE = 0x40_0000
const LOADS = [{ address: BASE, size: 0x3000 }]
const TEXT = drawText(0x40_1000, 0x100)

const file = (bytes: Uint8Array, name = 'app'): ElfFile => ({ name, bytes })
const draw = (elf: Omit<DrawnElf, 'loads'>): ElfFile => file(drawElf({ loads: LOADS, ...elf }))
function prepared(...files: ElfFile[]): PreparedSymbols & { problems: string[]; debugId: string } {
  const result = prepareElf(files[0]!, files.slice(1))
  if ('reason' in result) throw new Error(result.reason)
  return { ...openPrepared(preparedOf(result.tables).serialize())!, problems: result.problems, debugId: result.debugId }
}
const reasonOf = (bytes: Uint8Array): string => {
  const result = prepareElf(file(bytes))
  return 'reason' in result ? result.reason : 'usable'
}

test('a program is known by its build id, and its offsets count from its lowest segment', () => {
  const symbols = prepared(file(sensord))
  expect(symbols).toMatchObject({ debugId: '01C5BFC8E88AB5C748E77AB3FB13230A0', linkBase: 0, problems: [] })
  const drawn = prepared(draw({ sections: [TEXT, drawBuildId('00112233445566778899aabbccddeeff01020304'), ...drawSymbols([{ name: 'main', value: 0x40_1010, size: 16 }])] }))
  expect(drawn).toMatchObject({ debugId: '33221100554477668899AABBCCDDEEFF0', linkBase: BASE })
  expect(drawn.lookup(0x1012)).toMatchObject({ function: 'main', functionOffset: 0x1010, approximate: false })
})

test('without a build id the first page of its code tells builds apart', () => {
  const of = (fill: number): string => prepared(draw({ sections: [{ ...TEXT, bytes: Buffer.alloc(0x100, fill).fill(1, 0, 3) }, ...drawSymbols([{ name: 'main', value: 0x40_1000, size: 8 }])] })).debugId
  expect(of(2)).toBe(of(2))
  expect(of(2)).not.toBe(of(3))
})

test('what is no program for us is refused with its reason', () => {
  expect(reasonOf(drawElf({ bigEndian: true, sections: [TEXT] }))).toMatch(/big-endian/)
  expect(reasonOf(drawElf({ type: 4, sections: [TEXT] }))).toMatch(/core dump/)
  expect(reasonOf(drawElf({ type: 1, sections: [TEXT] }))).toMatch(/object file/)
  expect(reasonOf(Buffer.from('\x7fELF'))).toMatch(/4 of 52 bytes/)
  expect(reasonOf(drawElf({ sections: [{ name: '.data', bytes: Buffer.alloc(8) }] }))).toMatch(/neither a build id nor code/)
})

test('of several names of one address the exported function counts; marks and absolute symbols name nothing', () => {
  const symbols = prepared(draw({
    machine: 40, bits: 32, sections: [TEXT, ...drawSymbols([
      { name: '$t', value: 0x40_1000, type: 0, bind: 0 }, { name: '__read', value: 0x40_1001, size: 16, bind: 2 }, { name: 'read', value: 0x40_1001, size: 16 },
      { name: 'read_local', value: 0x40_1001, size: 16, bind: 0 }, { name: '$d.3', value: 0x40_1010, type: 0, bind: 0 }, { name: 'label', value: 0x40_1020, type: 0 },
    ], 32)],
  }))
  expect(symbols.lookup(0x1000)).toMatchObject({ function: 'read', functionOffset: 0x1000 })
  expect(symbols.lookup(0x100f)).toMatchObject({ function: 'read' })
  expect(symbols.lookup(0x1010)).toBeNull()
  expect(symbols.lookup(0x1024)).toMatchObject({ function: 'label', approximate: false })
})

test.each([4, 5] as const)('functions, lines and inlined calls of DWARF %i', (version) => {
  const symbols = prepared(draw({ sections: [TEXT, ...inlinedUnit(version)] }))
  expect(symbols.problems).toEqual([])
  const main = version === 5 ? 'b.c' : 'a.c'
  const other = version === 5 ? 'a.c' : 'b.c'
  expect(symbols.lookup(0x1000)).toEqual({ function: 'outer', functionOffset: 0x1000, file: `/src/${main}`, line: 10, inlines: [], approximate: false })
  expect(symbols.lookup(0x1014)).toEqual({
    function: 'outer', functionOffset: 0x1000, file: `/src/${main}`, line: 77, approximate: false,
    inlines: [{ function: 'inner', file: version === 5 ? null : `/src/${other}`, line: 50 }, { function: 'middle', file: `/src/${main}`, line: 88 }],
  })
  expect(symbols.lookup(0x1040)).toBeNull()
})

test('functions that the linker dropped are left out, but code at address 0 stays where a symbol is', () => {
  const dead = (sections: DrawnSection[], loads = LOADS) => prepared(file(drawElf({ loads, sections: [
    ...sections, ...drawDwarf({ version: 4, files: ['a.c'], functions: [{ name: 'dead', low: 0, size: 0x40 }, { name: 'alive', low: 0x100, size: 0x20 }], rows: [[{ at: 0, file: 1, line: 3 }], [{ at: 0x100, file: 1, line: 9 }]] })] })))
  const flash = [{ address: 0, size: 0x1000 }]
  const text = drawText(0, 0x200)
  expect(dead([text], flash).lookup(0x10)).toBeNull()
  expect(dead([text], flash).lookup(0x101)).toMatchObject({ function: 'alive', line: 9 })
  expect(dead([text, ...drawSymbols([{ name: 'dead', value: 0, size: 0x40 }])], flash).lookup(0x1)).toMatchObject({ function: 'dead', line: 3 })
})

test('a name that refers to itself ends, and a plain name gives way to the mangled one of the symbol table', () => {
  const unit = drawDwarf({ version: 4, files: ['a.cc'], functions: [{ low: 0x40_1000, size: 0x10, origin: 'self' }], rows: [[{ at: 0x40_1000, file: 1, line: 1 }]] })
  expect(prepared(draw({ sections: [TEXT, ...unit] })).lookup(0x1002)).toMatchObject({ function: '<unknown>', line: 1 })
  expect(prepared(draw({ sections: [TEXT, ...unit, ...drawSymbols([{ name: '_Z3foov', value: 0x40_1000, size: 16 }])] })).lookup(0x1002)).toMatchObject({ function: '_Z3foov', line: 1 })
})

test('sections compressed in each way say the same, and one that inflates without end does not', () => {
  const plain = inlinedUnit(4)
  const answer = prepared(draw({ sections: [TEXT, ...plain] })).lookup(0x1014)
  const elf = (type: number, squeeze: (bytes: Uint8Array) => Uint8Array) => plain.map((section) => ({ ...section, flags: 0x800, bytes: Buffer.concat([u32(type), u32(0), u64(section.bytes.length), u64(1), squeeze(section.bytes)]) }))
  const gnu = plain.map(({ name, bytes }) => ({ name: name.replace('.debug', '.zdebug'), bytes: Buffer.concat([Buffer.from('ZLIB'), u64(bytes.length).reverse(), deflateSync(bytes)]) }))
  for (const sections of [elf(1, deflateSync), elf(2, zstdCompressSync), gnu]) expect(prepared(draw({ sections: [TEXT, ...sections] })).lookup(0x1014)).toEqual(answer)
  const bomb = plain.map((section) => ({ ...section, flags: 0x800, bytes: Buffer.concat([u32(1), u32(0), u64(16), u64(1), deflateSync(Buffer.alloc(1 << 20))]) }))
  expect(prepared(draw({ sections: [TEXT, ...bomb, ...drawSymbols([{ name: 'main', value: 0x40_1000, size: 4 }])] })).problems.join()).toMatch(/\.debug_/)
})

test('a stripped program and its debug file complete each other', () => {
  const id = drawBuildId('aa'.repeat(20))
  const frame = drawFrame([])
  const stripped = draw({ sections: [TEXT, id, frame] })
  const debug = { ...draw({ sections: [{ ...TEXT, type: NOBITS, size: 0x100 }, id, ...inlinedUnit(4)] }), name: 'app.debug' }
  const symbols = prepared(stripped, debug)
  expect(symbols.lookup(0x1000)).toMatchObject({ function: 'outer', line: 10 })
  expect(symbols.cfi(0x1000)!.get('.cfa')).toBe('$rsp 8 +')
  expect(prepared(stripped).lookup(0x1000)).toBeNull()
  expect(prepared(stripped, { name: 'other', bytes: drawElf({ loads: [{ address: 0x80_0000, size: 0x1000 }], sections: [drawText(0x80_0000, 16)] }) }).problems).toEqual(['other: for another machine or address'])
})

test('unwind rules follow each instruction, expressions included', () => {
  // push rbp; mov rbp, rsp; ... a remembered state, and the linkage table's expression.
  const symbols = prepared(draw({ sections: [TEXT, drawFrame([
    u8(0x41), u8(0x0e, 16), u8(0x86, 2), u8(0x43), u8(0x0d, 6), u8(0x0a), u8(0x48), u8(0x0c, 7, 8), u8(0xc6), u8(0x41), u8(0x0b),
    u8(0x50), u8(0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22), u8(0x41), u8(0x10, 3, 2, 0x23, 40), u8(0x41), u8(0x07, 16),
  ])] }))
  const at = (offset: number) => Object.fromEntries(symbols.cfi(0x1000 + offset)!)
  expect(at(0)).toEqual({ '.cfa': '$rsp 8 +', '.ra': '.cfa -8 + ^' })
  expect(at(1)).toMatchObject({ '.cfa': '$rsp 16 +', $rbp: '.cfa -16 + ^' })
  expect(at(4)).toMatchObject({ '.cfa': '$rbp 16 +' })
  expect(at(12)).toMatchObject({ '.cfa': '$rsp 8 +', $rbp: '$rbp' })
  expect(at(13)).toMatchObject({ '.cfa': '$rbp 16 +', $rbp: '.cfa -16 + ^' })
  expect(at(29)).toMatchObject({ '.cfa': '$rsp 8 + $rip 15 & 11 >= 3 << +' })
  expect(at(30)).toMatchObject({ $rbx: '.cfa 40 + ^' })
  expect(at(31)).toMatchObject({ '.ra': '.undef' })
})

test('any change to a program gives symbols or a reason, and symbols that can be asked anything', () => {
  const change = fc.record({ at: fc.nat(sensord.length - 1), value: fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), length: fc.integer({ min: 1, max: 8 }) })
  fc.assert(fc.property(fc.array(change, { minLength: 1, maxLength: 12 }), fc.option(fc.nat(sensord.length), { nil: sensord.length }), (changes, end) => {
    const bytes = Buffer.from(sensord.subarray(0, end))
    for (const { at, value, length } of changes) bytes.fill(value, Math.min(at, end), Math.min(at + length, end))
    const result = prepareElf(file(bytes))
    if ('reason' in result) return
    const symbols = openPrepared(preparedOf(result.tables).serialize())!
    for (let offset = 0x1000; offset < 0x1800; offset += 17) {
      symbols.lookup(offset)
      symbols.cfi(offset)
    }
  }), { numRuns: 300 })
})

function inlinedUnit(version: 4 | 5): DrawnSection[] {
  const at = 0x40_1000
  return drawDwarf({
    version, files: ['a.c', 'b.c'], abstract: ['middle', 'inner'],
    functions: [{ name: 'outer', low: at, size: 0x40, calls: [{ of: 0, low: at + 0x10, size: 0x20, line: 77, calls: [{ of: 1, low: at + 0x14, size: 8, line: 88 }] }] }],
    rows: [[{ at, file: 1, line: 10 }, { at: at + 0x10, file: 1, line: 20 }, { at: at + 0x14, file: 2, line: 50 }, { at: at + 0x1c, file: 1, line: 21 }]],
  })
}

/** .eh_frame of the code at 0x401000: x86-64's usual beginning, absolute addresses. */
function drawFrame(instructions: Buffer[]): DrawnSection {
  const cie = Buffer.concat([u32(0), u8(1), Buffer.from('zR\0'), uleb(1), u8(0x78, 16), uleb(1), u8(0x00), u8(0x0c, 7, 8, 0x90, 1)])
  const fdeBody = Buffer.concat([u64(0x40_1000), u64(0x80), uleb(0), ...instructions])
  const fde = Buffer.concat([u32(4 + cie.length + 4), fdeBody])
  return { name: '.eh_frame', flags: 2, address: 0x40_2000, bytes: Buffer.concat([u32(cie.length), cie, u32(fde.length), fde, u32(0)]) }
}

test('a program\'s instructions are kept while they are few, each where it lies, and read to the end of their section', () => {
  const code = Buffer.from(Array.from({ length: 0x101 }, (_, index) => index & 255))
  const section = (name: string, address: number, bytes: Buffer): DrawnSection => ({ name, flags: 6, address, bytes })
  const symbols = prepared(draw({ sections: [section('.text', 0x40_1000, code), section('.late', 0x40_2000, Buffer.from([9, 8, 7])), drawBuildId('00112233445566778899aabbccddeeff01020304')] }))
  expect([...symbols.code!(0x1002, 4)!]).toEqual([2, 3, 4, 5])
  expect([...symbols.code!(0x10ff, 16)!]).toEqual([255, 0])
  expect([...symbols.code!(0x2000, 16)!]).toEqual([9, 8, 7])
  for (const outside of [0, 0xfff, 0x1101, 0x2003]) expect(symbols.code!(outside, 4)).toBeNull()

  const large = (size: number) => prepared(file(drawElf({ loads: [{ address: BASE, size: 0x80_0000 }], sections: [section('.text', 0x40_1000, Buffer.alloc(size, 0x90)), drawBuildId('00112233445566778899aabbccddeeff01020304')] })))
  expect(large(4 * 2 ** 20).code!(0x1000, 2)).toEqual(Uint8Array.of(0x90, 0x90))
  expect(large(4 * 2 ** 20 + 1).code!(0x1000, 2)).toBeNull()
})
