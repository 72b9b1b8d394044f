import { expect, test } from 'vitest'
import { parseBreakpadSym, type BreakpadSymbols } from '../../../symbolicate/symbols/breakpad-sym.ts'
import { openPrepared } from '../../../symbolicate/symbols/prepared.ts'

const HEAD = 'MODULE Linux x86_64 0102030405060708090A0B0C0D0E0F100 sensord\n'

const INLINED = `${HEAD}INFO CODE_ID 01020304
FILE 0 /src/main.c
FILE 7 /src/vec.h
INLINE_ORIGIN 3 vec_at
INLINE_ORIGIN 4 check
FUNC m 1000 40 0 handle request
INLINE 0 12 0 3 1008 10 1030 8
INLINE 1 55 7 4 100c 4
1000 8 10 0
1008 4 56 7
100c 4 81 7
1010 8 57 7
1030 8 58 7
FUNC 1040 10 0 tail
1040 10 90 0
PUBLIC 2000 0 exported
`

test('lines, functions and what covers nothing', () => {
  const symbols = parsed(INLINED)
  expect(symbols.identity).toEqual({ os: 'Linux', arch: 'x86_64', debugId: '0102030405060708090A0B0C0D0E0F100', name: 'sensord' })
  expect(symbols.lookup(0x1004)).toEqual({ function: 'handle request', functionOffset: 0x1000, file: '/src/main.c', line: 10, inlines: [], approximate: false })
  expect(symbols.lookup(0x1020)).toMatchObject({ function: 'handle request', file: null, line: null })
  expect(symbols.lookup(0xfff)).toBeNull()
  expect(symbols.lookup(0x1050)).toBeNull()
})

test('inlined calls are listed innermost first, each at its own place', () => {
  expect(parsed(INLINED).lookup(0x100d)).toEqual({
    function: 'handle request', functionOffset: 0x1000, file: '/src/main.c', line: 12, approximate: false,
    inlines: [{ function: 'check', file: '/src/vec.h', line: 81 }, { function: 'vec_at', file: '/src/vec.h', line: 55 }],
  })
  expect(parsed(INLINED).lookup(0x1030)).toMatchObject({ line: 12, inlines: [{ function: 'vec_at', line: 58 }] })
})

test('an INLINE of older dump_syms has no file', () => {
  const symbols = parsed(INLINED.replace('INLINE 0 12 0 3', 'INLINE 0 12 3').replace('INLINE 1 55 7 4', 'INLINE 1 55 4'))
  expect(symbols.lookup(0x100d)).toMatchObject({ line: 12, file: null, inlines: [{ function: 'check', line: 81 }, { function: 'vec_at', line: 55, file: null }] })
})

test('records in any order, overlapping, with carriage returns: the first in address order stays', () => {
  const symbols = parsed(`${HEAD}FUNC 200 10 0 second\r\n208 8 2 0\r\n200 8 1 0\r\nFUNC 100 20 0 first\r\nFUNC 110 20 0 overlaps\r\nFILE 0 late.c\r\n`)
  expect(symbols.lookup(0x118)?.function).toBe('first')
  expect(symbols.lookup(0x125)).toBeNull()
  expect(symbols.lookup(0x204)).toMatchObject({ line: 1, file: 'late.c' })
  expect(symbols.lookup(0x20a)).toMatchObject({ line: 2 })
})

test('a PUBLIC name reaches to the next function, by the unwind records', () => {
  const symbols = parsed(`${HEAD}PUBLIC 1000 0 known\nPUBLIC 1000 0 alias\nSTACK CFI INIT 1000 80 .cfa: $rsp 8 + .ra: .cfa -8 + ^\nSTACK CFI INIT 1080 40 .cfa: $rsp 8 + .ra: .cfa -8 + ^\nFUNC 9000 10 0 far\n`)
  expect(symbols.lookup(0x1010)).toMatchObject({ function: 'known', functionOffset: 0x1000, approximate: false })
  // Another function, that has no name, starts at 0x1080.
  expect(symbols.lookup(0x1090)).toMatchObject({ function: 'known', approximate: true })
  expect(symbols.lookup(0x10d0)).toMatchObject({ approximate: true })
  expect(symbols.lookup(0x9020)).toBeNull()
})

test('without unwind records a PUBLIC name is trusted for a page', () => {
  const symbols = parsed(`${HEAD}PUBLIC 1000 0 near\n`)
  expect(symbols.lookup(0x2000)).toMatchObject({ approximate: false })
  expect(symbols.lookup(0x2001)).toMatchObject({ approximate: true })
  expect(symbols.lookup(0xfff)).toBeNull()
})

test('STACK WIN tells where functions start, and how their frames are laid out', () => {
  const symbols = parsed(`${HEAD}PUBLIC 1000 0 known\nSTACK WIN 4 1000 20 0 0 8 c 1c 0 1 $T0 .raSearch =\nSTACK WIN 0 1010 30 0 0 4 8 10 0 0 1\nSTACK WIN 2 1080 20 0 0 0 0 0 0 0 0\n`)
  expect(symbols.lookup(0x101f)).toMatchObject({ approximate: false })
  expect(symbols.lookup(0x1020)).toMatchObject({ approximate: true })
  expect(symbols.windowsFrame!(0x1010)).toEqual({ parameters: 8, savedRegisters: 12, locals: 28, program: '$T0 .raSearch =', savesBasePointer: false })
  expect(symbols.windowsFrame!(0x1030)).toEqual({ parameters: 4, savedRegisters: 8, locals: 16, program: null, savesBasePointer: true })
  expect(symbols.windowsFrame!(0x1080)).toBeNull()
})

test('call-frame rules are those of INIT with every change up to the address', () => {
  const symbols = parsed(`${HEAD}STACK CFI INIT 1000 20 .cfa: $rsp 8 + .ra: .cfa -8 + ^\nSTACK CFI 1001 .cfa: $rsp 16 + $rbp: .cfa -16 + ^\nSTACK CFI 1010 .cfa: $rbp 16 +\nSTACK CFI 1030 stray: 1\n`)
  expect([...symbols.cfi(0x1000)!]).toEqual([['.cfa', '$rsp 8 +'], ['.ra', '.cfa -8 + ^']])
  expect(Object.fromEntries(symbols.cfi(0x1012)!)).toEqual({ '.cfa': '$rbp 16 +', '.ra': '.cfa -8 + ^', $rbp: '.cfa -16 + ^' })
  expect(symbols.cfi(0x1020)).toBeNull()
  expect(symbols.cfi(0xfff)).toBeNull()
})

test('thousands of changes in one function give the rules that each place has', () => {
  const changes = Array.from({ length: 1000 }, (_, index) => `STACK CFI ${(0x1000 + index).toString(16)} ${index % 3 === 0 ? '$rbx' : '$r12'}: ${index}\n`).join('')
  const symbols = parsed(`${HEAD}STACK CFI INIT 1000 1000 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n${changes}`)
  for (let index = 1; index < 1000; index += 7) {
    const last = (wanted: (at: number) => boolean): string => { let at = index; while (!wanted(at)) at--; return String(at) }
    expect(Object.fromEntries(symbols.cfi(0x1000 + index)!)).toEqual({ '.cfa': '$rsp 8 +', '.ra': '.cfa -8 + ^', $rbx: last((at) => at % 3 === 0), $r12: last((at) => at % 3 !== 0) })
  }
  expect(symbols.cfi(0x1fff)!.get('$rbx')).toBe('999')
})

test('the prepared form answers as the text did, and a changed byte is noticed', () => {
  const text = parsed(INLINED)
  const bytes = text.serialize()
  const opened = openPrepared(bytes)!
  for (let offset = 0xff0; offset < 0x2010; offset++) expect(opened.lookup(offset)).toEqual(text.lookup(offset))
  expect(opened.identity).toEqual(text.identity)
  expect(opened.serialize()).toEqual(bytes)
  // At any alignment.
  const shifted = new Uint8Array(bytes.length + 1)
  shifted.set(bytes, 1)
  expect(openPrepared(shifted.subarray(1))!.lookup(0x1004)).toEqual(text.lookup(0x1004))
  for (let at = 0; at < bytes.length; at += 3) {
    const changed = bytes.slice()
    changed[at]! ^= 0x10
    expect(openPrepared(changed), `byte ${at}`).toBeNull()
  }
  expect(openPrepared(bytes.slice(0, -4))).toBeNull()
  expect(openPrepared(new Uint8Array())).toBeNull()
})

test('lines that mean nothing are skipped and counted', () => {
  const symbols = parsed(`${HEAD}FUNC zz 10 0 broken\n1000 8 1 0\nFUNC 1000 ffffffffff 0 too long\nFUNC 2000 10 0 good\n2000 8 -1 0\nPUBLIC 123456789012 0 beyond\nINLINE 0 1 0 0 2000\nnonsense\n\n`)
  expect(symbols.skipped).toBe(5)
  expect(symbols.lookup(0x2000)).toMatchObject({ function: 'good', line: null })
})

test('a name that is not UTF-8 is shown, not thrown', () => {
  const bytes = Buffer.concat([Buffer.from(`${HEAD}FUNC 1000 10 0 `), Buffer.from([0xff, 0xfe, 0x41]), Buffer.from('\n')])
  expect(parsed(bytes).lookup(0x1000)?.function).toBe('\ufffd\ufffdA')
})

test('nesting that no compiler makes ends', () => {
  const inlines = Array.from({ length: 5000 }, (_, depth) => `INLINE ${depth} 1 0 0 1000 10\n`).join('')
  expect(parsed(`${HEAD}FUNC 1000 10 0 deep\n${inlines}`).lookup(0x1000)!.inlines).toHaveLength(128)
})

test('what is no symbol file is refused with its reason', () => {
  expect(parseBreakpadSym(new Uint8Array())).toMatchObject({ slug: 'symbols-empty' })
  expect(parseBreakpadSym(Buffer.from('FUNC 1000 10 0 main\n'))).toMatchObject({ slug: 'symbols-corrupt' })
  expect(parseBreakpadSym(Buffer.from('MODULE Linux\n'))).toMatchObject({ slug: 'symbols-corrupt' })
  expect(parseBreakpadSym(Buffer.from(INLINED), { bytes: 10, records: 10 })).toMatchObject({ slug: 'symbols-too-large' })
  expect(parseBreakpadSym(Buffer.from(INLINED), { bytes: 10_000, records: 5 })).toMatchObject({ slug: 'symbols-too-large' })
})

function parsed(text: string | Buffer): BreakpadSymbols {
  const result = parseBreakpadSym(Buffer.from(text))
  if ('slug' in result) throw new Error(result.reason)
  return result
}
