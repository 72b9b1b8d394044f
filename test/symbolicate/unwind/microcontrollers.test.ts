import { describe, expect, test } from 'vitest'
import type { Cpu, Dump, Os } from '../../../symbolicate/formats/dump.ts'
import { createMemory } from '../../../symbolicate/formats/memory.ts'
import type { CfiRules, ModuleSymbols } from '../../../symbolicate/symbols/source.ts'
import { createUnwinder } from '../../../symbolicate/unwind/unwind.ts'

const CODE = 0x4000_0000n
/** Functions of 0x100 bytes: the first is a, at CODE. */
const NAMES = ['a', 'b', 'c', 'd', 'vPortTaskWrapper', 'f']

interface Story { cpu: Cpu; os: Os; registers: Record<string, number | bigint>; memory: Record<string, number[]>; rules?: Record<string, string>; base?: bigint; width?: 4 | 8 }

async function walk({ cpu, os, registers, memory, rules = {}, base = CODE, width = 4 }: Story): Promise<string[]> {
  const pieces = Object.entries(memory).map(([address, words]) => {
    const bytes = Buffer.alloc(words.length * width)
    for (const [index, word] of words.entries()) width === 8 ? bytes.writeBigUInt64LE(BigInt(word), index * 8) : bytes.writeUInt32LE(word >>> 0, index * 4)
    return { base: BigInt(address), bytes }
  })
  const symbols: ModuleSymbols = {
    lookup: (offset) => (NAMES[offset >>> 8] === undefined ? null : { function: NAMES[offset >>> 8]!, functionOffset: offset & ~255, file: null, line: null, inlines: [], approximate: false }),
    cfi: (offset): CfiRules | null => {
      const rule = rules[NAMES[offset >>> 8] ?? '']
      return rule === undefined ? null : new Map(rule.split(', ').map((part) => part.split(': ') as [string, string]))
    },
  }
  const held = createMemory(pieces)
  const dump: Dump = {
    format: 'zephyr-coredump', os, osVersion: null, cpu, exception: null, crashingThread: 0, mainModule: 0, unloadedModules: [], memory: held, regions: [], annotations: {}, abortMessage: null, pid: null, createdAt: null, notes: [],
    modules: [{ base, size: 0x1000, name: 'firmware', codeId: null, debugId: null, debugFile: null, version: null }],
    threads: [{ id: 0, name: null, registers: new Map(Object.entries(registers).map(([name, value]) => [name, BigInt(value)])), stack: null, frames: null }],
  }
  const stack = await createUnwinder(dump, async () => symbols)(dump.threads[0]!)
  return stack.frames.map(({ trust, symbol, repeats }) => `${trust} ${symbol?.function ?? '??'}${repeats > 1 ? ` x${repeats}` : ''}`)
}

describe('Xtensa\'s register windows', () => {
  const xtensa = { cpu: 'xtensa', os: 'esp-idf' } as const

  test('each caller\'s a0 and a1 lie below its callee\'s stack', async () => {
    expect(await walk({
      ...xtensa, registers: { pc: 0x4000_0010, a0: 0x8000_0123, a1: 0x3ffb_0040 },
      // Below 0x3ffb0040 b's a0 and a1, below b's stack those of c, and c was called by nobody.
      memory: { 0x3ffb_0030: [0x8000_0223, 0x3ffb_0080, 0, 0], 0x3ffb_0070: [0x0000_0000, 0x3ffb_00c0, 0, 0] },
    })).toEqual(['context a', 'frame_pointer b', 'frame_pointer c'])
  })

  test('a call that never arrived leaves its return address in the window it would have got', async () => {
    expect(await walk({
      ...xtensa, registers: { pc: 0x4141_4140, a0: 0x8000_0123, a1: 0x3ffb_0040, a8: 0x8000_0013, a4: 0x1234 },
      memory: { 0x3ffb_0030: [0x0000_0000, 0x3ffb_0080, 0, 0] },
    })).toEqual(['context ??', 'cfi a', 'frame_pointer b'])
  })

  test('stacks that point down, or at themselves, end the walk', async () => {
    expect(await walk({ ...xtensa, registers: { pc: 0x4000_0010, a0: 0x8000_0123, a1: 0x3ffb_0040 }, memory: { 0x3ffb_0030: [0x8000_0123, 0x3ffb_0040, 0, 0] } })).toEqual(['context a'])
  })

  test('the first function of a task is its end', async () => {
    expect(await walk({
      ...xtensa, registers: { pc: 0x4000_0010, a0: 0x8000_0423, a1: 0x3ffb_0040 }, memory: { 0x3ffb_0030: [0x4000_0000, 0x3ffb_0080, 0, 0], 0x3ffb_0080: [0x4000_0123] },
    })).toEqual(['context a', 'frame_pointer vPortTaskWrapper'])
  })
})

describe('RISC-V', () => {
  test.each([4, 8] as const)('a chain of frame pointers, %i bytes a word', async (width) => {
    const slot = (at: number): number => 0x8000_1000 + at * width
    expect(await walk({
      cpu: width === 8 ? 'riscv64' : 'riscv32', os: 'linux', width, registers: { pc: CODE + 0x10n, ra: 0, sp: slot(0), s0: slot(4) },
      memory: { [slot(0)]: [0, 0, slot(8), 0x4000_0120, 0, 0, 0, 0x4000_0220, 0, 0] },
    })).toEqual(['context a', 'frame_pointer b', 'frame_pointer c'])
  })

  test('without rules a leaf\'s caller is in ra; ra into the function itself is stale', async () => {
    const riscv = { cpu: 'riscv32', os: 'esp-idf' } as const
    expect(await walk({ ...riscv, registers: { pc: CODE + 0x10n, ra: CODE + 0x124n, sp: 0x2000 }, memory: { 0x2000: [0x4000_0224] } })).toEqual(['context a', 'scan b', 'scan c'])
    expect(await walk({ ...riscv, registers: { pc: CODE + 0x10n, ra: CODE + 0x24n, sp: 0x2000 }, memory: { 0x2000: [0x4000_0224] } })).toEqual(['context a', 'scan c'])
  })

  test('a scan passes over function pointers, and over return addresses that lead nowhere', async () => {
    expect(await walk({
      cpu: 'riscv32', os: 'esp-idf', registers: { pc: CODE + 0x10n, ra: 0, sp: 0x2000 },
      rules: { b: '.cfa: sp 16 +, .ra: .cfa -4 + ^', c: '.cfa: sp 16 +, .ra: .cfa -4 + ^' },
      // The start of b; b, whose rules lead to 7; c, whose rules lead to d.
      memory: { 0x2000: [0x4000_0100, 0x4000_0124, 0, 0, 0, 0, 0, 7, 0x4000_0224, 0, 0, 0, 0, 0, 0, 0x4000_0324, ...Array.from({ length: 16 }, () => 0)] },
    })).toEqual(['context a', 'scan c', 'cfi d'])
  })
})

describe('Cortex-M', () => {
  const cortex = { cpu: 'arm', os: 'zephyr', base: 0n } as const
  const handler = '.cfa: sp 8 +, .ra: .cfa -4 + ^'
  const pushed = (pc: number, lr: number, xpsr = 0x0100_0000): number[] => [1, 2, 3, 4, 5, lr, pc, xpsr]

  test('flash begins at 0, and a link register there is a caller', async () => {
    expect(await walk({ ...cortex, registers: { pc: 0x10, lr: 0x125, sp: 0x2000_0000 }, memory: { 0x2000_0000: [0, 0] } })).toEqual(['context a', 'scan b'])
  })

  test.each([
    ['on the main stack', 0xffff_fff9, 0x2000_0008, pushed(0x110, 0x225)],
    ['with an alignment word', 0xffff_fff9, 0x2000_0008, [...pushed(0x110, 0x225, 0x0100_0200), 0]],
    ['with floating point', 0xffff_ffe9, 0x2000_0008, [...pushed(0x110, 0x225), ...Array.from({ length: 18 }, () => 0)]],
    ['on the process stack', 0xffff_fffd, 0x1fff_0000, pushed(0x110, 0x225)],
    ['with a signature and saved registers', 0xffff_ffd9, 0x2000_0008, [0xfefa125a, 0, 14, 15, 16, 17, 18, 19, 20, 21, ...pushed(0x110, 0x225)]],
  ])('behind a handler stands what it interrupted: %s', async (_, exceptionReturn, at, frame) => {
    expect(await walk({
      ...cortex, registers: { pc: 0x10, lr: 0x55, sp: 0x2000_0000, psp: 0x1fff_0000 }, rules: { a: handler, b: '.cfa: sp 8 +, .ra: lr', c: '.cfa: sp 4 +, .ra: .cfa -4 + ^' },
      memory: at === 0x2000_0008 ? { 0x2000_0000: [0, exceptionReturn, ...frame, 0, 0, 0x325, 0, 0] } : { 0x2000_0000: [0, exceptionReturn], [at]: [...frame, 0, 0, 0x325, 0, 0] },
    })).toEqual(['context a', 'cfi b', 'cfi c', 'cfi d'])
  })

  test('a frame of the other security state, or one that the dump lacks, is not invented', async () => {
    const other = await walk({ ...cortex, registers: { pc: 0x10, lr: 0x55, sp: 0x2000_0000 }, rules: { a: handler }, memory: { 0x2000_0000: [0, 0xffff_ffb9, ...pushed(0x110, 0x225)] } })
    expect(other.slice(0, 2)).toEqual(['context a', 'cfi ??'])
    expect(other.slice(2).every((frame) => !frame.startsWith('cfi b'))).toBe(true)
    expect(await walk({ ...cortex, registers: { pc: 0x10, lr: 0x55, sp: 0x2000_0000 }, rules: { a: handler }, memory: { 0x2000_0000: [0, 0xffff_fff9, 1, 2, 3] } })).toEqual(['context a', 'cfi ??'])
  })

  test('an exception frame that leads to itself ends within its budget', async () => {
    const frames = await walk({ ...cortex, registers: { pc: 0x10, lr: 0x55, sp: 0x2000_0000, psp: 0x2000_0000 }, rules: { a: '.cfa: sp, .ra: lr', b: '.cfa: sp, .ra: lr' }, memory: { 0x2000_0000: Array.from({ length: 64 }, (_, index) => (index % 8 === 5 ? 0xffff_fff9 : index % 8 === 6 ? 0x110 : 0)) } })
    expect(frames.length).toBeLessThan(32)
  })

  test('without a program counter the stack is searched', async () => {
    expect(await walk({ ...cortex, registers: { sp: 0x2000_0000, r4: 1 }, memory: { 0x2000_0000: [0, 0x1234, 0x125, 0x225] } })).toEqual(['scan b', 'scan c'])
    expect(await walk({ ...cortex, registers: { r4: 1 }, memory: { 0x2000_0000: [0x125] } })).toEqual([])
  })
})
