import fc from 'fast-check'
import { expect, test } from 'vitest'
import { armPrologues } from '../../../symbolicate/symbols/dwarf/arm-prologue.ts'
import type { ElfImage } from '../../../symbolicate/symbols/elf/elf.ts'

/** One executable section of these bytes at 0, one function over all of it. */
function stepsOf(code: Uint8Array, thumb: boolean): string[] {
  const image = { cpu: 'arm', sections: [{ type: 1, flags: 6, address: 0n, size: code.length }], content: () => code, space: { base: 0n } } as unknown as ElfImage
  const symbols = { starts: Uint32Array.of(0), sizes: Uint32Array.of(code.length), names: ['f'], labels: [false], thumb: Uint8Array.of(Number(thumb)) }
  const [found] = armPrologues(image, symbols)
  return found === undefined ? [] : [found.entry, ...found.steps.map(({ from, rules }) => `${from}: ${rules}`)]
}
const thumb = (...halves: number[]): string[] => stepsOf(new Uint8Array(Uint16Array.from(halves).buffer), true)
const arm = (...words: number[]): string[] => stepsOf(new Uint8Array(Uint32Array.from(words).buffer), false)
const ENTRY = '.cfa: sp 0 + .ra: lr'

test('Thumb: push, sub sp, and a frame pointer, up to the first call', () => {
  // push {r4, r5, r7, lr}; sub sp, #16; add r7, sp, #8; bl; push {r0}
  expect(thumb(0xb5b0, 0xb084, 0xaf02, 0xf000, 0xf800, 0xb401)).toEqual([
    ENTRY,
    '2: .cfa: sp 16 + .ra: sp 12 + ^ r7: sp 8 + ^ r5: sp 4 + ^ r4: sp 0 + ^',
    '4: .cfa: sp 32 + .ra: sp 28 + ^ r7: sp 24 + ^ r5: sp 20 + ^ r4: sp 16 + ^',
    '6: .cfa: r7 24 + .ra: r7 20 + ^ r7: r7 16 + ^ r5: r7 12 + ^ r4: r7 8 + ^',
  ])
})

test('Thumb-2: wide pushes, arguments stored above the return address, large frames', () => {
  // push {r1, r2, r3}; stmdb sp!, {r4, r8, lr}; vpush {d8}; sub.w sp, sp, #1024; b.n
  expect(thumb(0xb40e, 0xe92d, 0x4110, 0xed2d, 0x8b02, 0xf5ad, 0x6d80, 0xe7fe)).toEqual([
    ENTRY, '2: .cfa: sp 12 + .ra: lr', '6: .cfa: sp 24 + .ra: sp 8 + ^ r8: sp 4 + ^ r4: sp 0 + ^', '10: .cfa: sp 32 + .ra: sp 16 + ^ r8: sp 12 + ^ r4: sp 8 + ^',
    '14: .cfa: sp 1056 + .ra: sp 1040 + ^ r8: sp 1036 + ^ r4: sp 1032 + ^',
  ])
})

test('ARM: push {r11, lr}, add r11, sub sp; and a leaf', () => {
  // push {r11, lr}; add r11, sp, #4; sub sp, sp, #16; bl
  expect(arm(0xe92d4800, 0xe28db004, 0xe24dd010, 0xeb000000)).toEqual([
    ENTRY, '4: .cfa: sp 8 + .ra: sp 4 + ^ r11: sp 0 + ^', '8: .cfa: r11 4 + .ra: r11 0 + ^ r11: r11 -4 + ^', '12: .cfa: r11 4 + .ra: r11 0 + ^ r11: r11 -4 + ^',
  ])
  expect(thumb(0x2000, 0x4770)).toEqual([ENTRY])
})

test('a register that was not saved is no frame pointer, and any bytes end', () => {
  expect(thumb(0xb510, 0xaf00, 0xe7fe).at(-1)).toBe('4: .cfa: sp 8 + .ra: sp 4 + ^ r4: sp 0 + ^')
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (code, isThumb) => {
    for (const rule of stepsOf(code, isThumb)) expect(rule).toMatch(/\.cfa: (?:sp|r7|r11) -?\d+ \+ \.ra: (?:lr|(?:sp|r7|r11) -?\d+ \+ \^)/)
  }), { numRuns: 2000 })
})
