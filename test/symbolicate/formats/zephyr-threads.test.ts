import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { analyse } from '../../../symbolicate/analyse.ts'
import { analyseNative } from '../../../symbolicate/native.ts'
import { prepareElf } from '../../../symbolicate/symbols/elf/prepare.ts'
import { openPrepared, preparedOf } from '../../../symbolicate/symbols/prepared.ts'
import type { SymbolSource } from '../../../symbolicate/symbols/source.ts'
import { elfSymbols } from '../../peers/elf-symbols.ts'
import { drawBuildId, drawElf, drawSymbols, drawText, u16, u32, u64 } from '../symbols/elf-builder.ts'

const TYPE = 'application/x-zephyr-coredump'
const corpus = join(import.meta.dirname, '../../corpus/mcu')

describe('three threads on a Cortex-M4 under QEMU, kept and switched as Zephyr does', () => {
  const explain = (log: Uint8Array) => analyse({ bytes: log, contentType: TYPE, claims: {}, annotations: {} }, { symbols: elfSymbols([join(corpus, 'threads.elf')]), maps: { find: async () => null } })
  const log = readFileSync(join(corpus, 'threads.log'))

  test('each has its name and its stack, over frames with and without floating point', async () => {
    const { report } = await explain(log)
    expect(report.threads.map(({ thread_name, frames }) => [thread_name, ...frames.map((frame) => frame.function)])).toEqual([
      ['main', 'store_sample', 'record', 'run', 'z_thread_entry', 'Reset_Handler'],
      ['logger', 'arch_swap', 'k_sleep', 'flush_log', 'logger', 'z_thread_entry'],
      ['sensor', 'arch_swap', 'k_sleep', 'wait_for_sample', 'convert', 'sensor', 'z_thread_entry'],
    ])
    expect(report.threads.flatMap(({ frames }) => frames.slice(1).map(({ trust }) => trust))).toEqual(Array.from({ length: 13 }, () => 'cfi'))
    expect(report.crashing_thread).toMatchObject({ thread_name: 'main' })
  })

  test('the access that failed wrote: the dump has no code, the firmware has', async () => {
    expect(await explain(log)).toMatchObject({
      kind: 'wild-write', access: 'write', evidence: { class: 3, severity: 'exploitable', for: [{ slug: 'wild-write' }, { slug: 'access-decoded' }] }, report: { crash_info: { type: 'BusFault / PRECISERR', address: '0xf0000004' } },
    })
  })
})

// ---- Drawn: other offsets than any kernel has.

const LAYOUT = { current: 12, threads: 20, entry: 4, next: 60, state: 1, options: 2, prio: 3, sp: 40, name: 70, arch: 100, exceptionReturn: 3, size: 112, kernel: 32 }
const KERNEL = 0x2000_0100
const [FIRST, SECOND] = [0x2000_0200, 0x2000_0300]
const [STACK_FIRST, STACK_SECOND] = [0x2000_0400, 0x2000_0500]

interface Drawn { names?: string; version?: number; fields?: number; bits?: 32 | 64; machine?: number }

function firmware({ names = '_kernel_thread_info', version = 1, fields = 14, bits = 32, machine = 40 }: Drawn = {}): SymbolSource {
  const { current, threads, entry, next, state, options, prio, sp, name, arch, exceptionReturn } = LAYOUT
  const word = (value: number | bigint): Buffer => (bits === 64 ? u64(value) : u32(Number(value)))
  const none = bits === 64 ? 0xffff_ffff_ffff_ffffn : 0xffff_ffff
  const array = [version, current, threads, entry, next, state, options, prio, sp, name, arch, none, none, exceptionReturn].slice(0, fields)
  const info = Buffer.concat([...array.map((value) => word(value)), word(array.length), Buffer.from([bits / 8])])
  const at = 0x3000
  const countAt = at + array.length * (bits / 8)
  const bytes = drawElf({
    bits, machine, loads: [{ address: 0x1000, size: 0x3000 }],
    sections: [drawText(0x1000, 0x400), drawBuildId('00112233445566778899aabbccddeeff00112233'), { name: 'info', flags: 2, address: at, bytes: info }, ...drawSymbols([
      { name: 'crashes', value: 0x1000, size: 0x100 }, { name: 'waits', value: 0x1100, size: 0x100 }, { name: 'sleeps', value: 0x1200, size: 0x100 },
      { name: '_kernel', value: KERNEL, size: LAYOUT.kernel, type: 1 }, { name: `${names}_offsets`, value: at, size: array.length * 4, type: 1 },
      { name: `${names}_num_offsets`, value: countAt, size: 4, type: 1 }, { name: `${names}_size_t_size`, value: countAt + bits / 8, size: 1, type: 1 },
    ], bits)],
  })
  const prepared = prepareElf({ name: 'zephyr.elf', bytes })
  if ('reason' in prepared) throw new Error(prepared.reason)
  const symbols = openPrepared(preparedOf(prepared.tables).serialize())!
  return { find: async () => ({ status: 'found', symbols }) }
}

interface Thread { at: number; next: number; name: string; sp: number; saved: number[]; entered: number }
function threadBytes({ next, name, sp, saved, entered }: Thread): Buffer {
  const bytes = Buffer.alloc(LAYOUT.size)
  for (const [index, value] of saved.entries()) bytes.writeUInt32LE(value, LAYOUT.sp - 32 + 4 * index)
  bytes.writeUInt32LE(sp, LAYOUT.sp)
  bytes.writeUInt32LE(next, LAYOUT.next)
  bytes.write(`${name}\0`, LAYOUT.name, 'latin1')
  bytes[LAYOUT.arch + LAYOUT.exceptionReturn] = entered
  return bytes
}
const frameBytes = (pc: number, xpsr = 0x0100_0000): Buffer => Buffer.concat([1, 2, 3, 4, 5, 0x1001, pc, xpsr, ...Array.from({ length: 40 }, () => 0)].map(u32))
const memory = (at: number, bytes: Uint8Array): Buffer => Buffer.concat([Buffer.from('M'), u16(1), u32(at), u32(at + bytes.length), bytes])

const SAVED = [4, 5, 6, 7, 8, 9, 10, 11].map((value) => 0x40 + value)
const ONE: Thread = { at: FIRST, next: SECOND, name: 'control', sp: 0, saved: SAVED, entered: 0xfd }
const TWO: Thread = { at: SECOND, next: 0, name: 'radio', sp: STACK_SECOND, saved: SAVED, entered: 0xfd }

interface Crash { current?: number; first?: number; threads?: Thread[]; asSection?: boolean; xpsr?: number; frame?: Buffer; target?: number }
function crash({ current = FIRST, first = FIRST, threads = [ONE, TWO], asSection = true, xpsr = 0x0100_0000, frame = frameBytes(0x1210), target = 3 }: Crash = {}): Buffer {
  const kernel = Buffer.alloc(LAYOUT.kernel)
  kernel.writeUInt32LE(current, LAYOUT.current)
  kernel.writeUInt32LE(first, LAYOUT.threads)
  const registers = target === 3 ? [0, 0, 0, 0, 0, 0x1001, 0x1010, xpsr, STACK_FIRST, 0, 0, 0, 0, 0, 0, 0, 0] : Array.from({ length: 19 }, (_, index) => (index === 17 ? 0x1010 : index === 18 ? STACK_FIRST : 0))
  return Buffer.concat([
    Buffer.from('ZE'), u16(2), u16(target), Buffer.from([5, 0]), u32(0), Buffer.from('A'), u16(2), u16(registers.length * 4), ...registers.map(u32),
    asSection ? Buffer.concat([Buffer.from('T'), u16(1), u16(kernel.length), kernel]) : memory(KERNEL, kernel),
    ...threads.map((thread) => memory(thread.at, threadBytes(thread))), memory(STACK_FIRST, Buffer.alloc(64)), memory(STACK_SECOND, frame),
  ])
}
const threadsOf = async (bytes: Buffer, symbols = firmware()) => {
  const { dump, stacks } = await analyseNative(bytes, TYPE, symbols)
  return { notes: dump!.notes.map(({ slug }) => slug), threads: dump!.threads.map(({ id, name, registers }, index) => ({ id, name, registers: Object.fromEntries(registers ?? []), top: stacks[index]!.frames[0]?.symbol?.function ?? null })) }
}

describe('drawn firmware', () => {
  test.each([
    ['in its own section', crash()], ['in dumped memory', crash({ asSection: false })],
  ])('the kernel structure %s leads to every thread, and to what its processor saved', async (_, bytes) => {
    const { notes, threads } = await threadsOf(bytes)
    expect(notes).toEqual([])
    expect(threads).toMatchObject([{ id: FIRST, name: 'control', top: 'crashes' }, { id: SECOND, name: 'radio', top: 'sleeps' }])
    expect(threads[1]!.registers).toEqual({ r0: 1n, r1: 2n, r2: 3n, r3: 4n, r12: 5n, lr: 0x1001n, pc: 0x1210n, cpsr: 0x0100_0000n, sp: BigInt(STACK_SECOND + 32), r4: 0x44n, r5: 0x45n, r6: 0x46n, r7: 0x47n, r8: 0x48n, r9: 0x49n, r10: 0x4an, fp: 0x4bn })
  })

  test('the older names, and firmware that has fewer offsets', async () => {
    expect((await threadsOf(crash(), firmware({ names: '_kernel_openocd' }))).threads).toMatchObject([{ name: 'control' }, { name: 'radio' }])
    expect((await threadsOf(crash(), firmware({ fields: 9, version: 0 }))).threads).toMatchObject([{ id: FIRST, name: null }, { id: SECOND, name: null, top: 'sleeps' }])
  })

  test.each([[0xfd, 0x0100_0000, 32], [0xfd, 0x0100_0200, 36], [0xed, 0x0100_0000, 104], [0xed, 0x0100_0200, 108]])('entered by 0x%s with status %s: the frame has its size', async (entered, xpsr, size) => {
    const { threads } = await threadsOf(crash({ threads: [ONE, { ...TWO, entered }], frame: frameBytes(0x1110, xpsr) }))
    expect(threads[1]).toMatchObject({ top: 'waits', registers: { sp: BigInt(STACK_SECOND + size) } })
  })

  test('a handler that crashed is none of the threads', async () => {
    expect((await threadsOf(crash({ xpsr: 0x0100_0010, threads: [{ ...ONE, sp: STACK_SECOND }, TWO] }))).threads).toMatchObject([{ id: 0, name: null, top: 'crashes' }, { name: 'control', top: 'sleeps' }, { name: 'radio' }])
  })

  test('of another processor the stack pointer is taken', async () => {
    expect((await threadsOf(crash({ target: 4 }), firmware({ machine: 243 }))).threads).toMatchObject([{ name: 'control' }, { name: 'radio', registers: { sp: BigInt(STACK_SECOND) } }])
  })

  test('a list in a circle, out of the dump, or without its memory ends, and says so', async () => {
    expect(await threadsOf(crash({ threads: [ONE, { ...TWO, next: FIRST }] }))).toMatchObject({ notes: ['threads-cut'], threads: [{ name: 'control' }, { name: 'radio' }] })
    expect(await threadsOf(crash({ threads: [ONE, { ...TWO, next: 0x6000_0000 }] }))).toMatchObject({ notes: ['threads-cut'], threads: [{ name: 'control' }, { name: 'radio' }, { id: 0x6000_0000, name: null, top: null }] })
    expect(await threadsOf(crash({ threads: [] }))).toMatchObject({ notes: ['threads-cut'], threads: [{ id: FIRST, name: null, top: 'crashes' }] })
  })

  test('without the firmware\'s offsets the thread that crashed is all there is, and a note says why', async () => {
    const without = { find: async () => ({ status: 'missing' as const, reason: 'nothing here' }) }
    expect(await threadsOf(crash(), without)).toMatchObject({ notes: ['threads-not-listed'], threads: [{ id: 0, name: null }] })
    expect(await threadsOf(crash(), firmware({ version: 2 }))).toMatchObject({ notes: ['threads-not-listed'], threads: [{ id: 0 }] })
    expect(await threadsOf(crash({ asSection: false }), without)).toMatchObject({ notes: [], threads: [{ id: 0 }] })
  })

  test('offsets of 64 bits are read as such', async () => {
    const { symbols } = await firmware({ bits: 64, machine: 183 }).find({ debugFile: null, debugId: null, codeId: null }) as { symbols: { threadInfo?: unknown } }
    expect(symbols.threadInfo).toEqual({ kernel: KERNEL, width: 8, currentThread: 12, threads: 20, nextThread: 60, stackPointer: 40, name: 70, exceptionReturn: 103 })
  })

  test('threads at addresses that no number holds still make a report that is taken', async () => {
    const symbols = firmware({ bits: 64, machine: 183 })
    const kernel = Buffer.alloc(LAYOUT.kernel, 0xff)
    const bytes = Buffer.concat([Buffer.from('ZE'), u16(2), u16(6), Buffer.from([6, 0]), u32(0), Buffer.from('A'), u16(1), u16(176), Buffer.alloc(176), Buffer.from('T'), u16(1), u16(kernel.length), kernel])
    const { dump } = await analyseNative(bytes, TYPE, symbols)
    expect(dump!.threads.map(({ id }) => id)).toEqual([Number.MAX_SAFE_INTEGER])
  })

  test('whatever the memory holds, the list ends', async () => {
    const symbols = firmware()
    const whole = crash()
    await fc.assert(fc.asyncProperty(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 40 }), async (changes) => {
      const bytes = Buffer.from(whole)
      for (const [at, value] of changes) if (at > 96) bytes[at] = value
      const { dump } = await analyseNative(bytes, TYPE, symbols)
      expect(dump === null || dump.threads.length <= 258).toBe(true)
    }), { numRuns: 200 })
  })
})
