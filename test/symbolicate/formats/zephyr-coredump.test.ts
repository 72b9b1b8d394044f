import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { analyse } from '../../../symbolicate/analyse.ts'
import { sniff } from '../../../symbolicate/formats/sniff.ts'
import { parseZephyrCoredump } from '../../../symbolicate/formats/zephyr-coredump.ts'
import { elfSymbols } from '../../peers/elf-symbols.ts'

const corpus = join(import.meta.dirname, '../../corpus/mcu')
const log = (name: string): Buffer => readFileSync(join(corpus, `v8m-${name}.log`))

const u16 = (value: number): number[] => [value & 255, value >>> 8]
const u32 = (value: number): number[] => [...u16(value & 0xffff), ...u16(value >>> 16)]
const u64 = (value: bigint): number[] => [...u32(Number(value & 0xffffffffn)), ...u32(Number(value >> 32n))]
const header = (target: number, bits: number, reason = 0): number[] => [0x5a, 0x45, ...u16(2), ...u16(target), bits, 0, ...u32(reason)]
const block = (version: number, bytes: number[]): number[] => [0x41, ...u16(version), ...u16(bytes.length), ...bytes]
const memory = (from: number, bytes: number[]): number[] => [0x4d, ...u16(1), ...u32(from), ...u32(from + bytes.length), ...bytes]
const dumpOf = (bytes: Uint8Array | number[]) => {
  const parsed = parseZephyrCoredump(Uint8Array.from(bytes))
  if (!('dump' in parsed)) throw new Error(parsed.reason)
  return parsed.dump
}
const registersOf = (bytes: number[]): Record<string, bigint> => Object.fromEntries(dumpOf(bytes).threads[0]!.registers!)

// r0 to r3, r12, lr, pc, xpsr, sp, r4 to r11.
const FRAME = [0x11, 0x12, 0x13, 0x14, 0x15, 0x409, 0x500, 0x0100_0000]
const M3 = [...FRAME, 0x2000_0040, ...Array.from({ length: 8 }, (_, index) => 0x40 + index)]

describe('binary dumps', () => {
  test('a Cortex-M: registers, memory, and its fault status from the System Control Block', () => {
    const bytes = [...header(3, 5), ...block(2, M3.flatMap(u32)), ...memory(0x2000_0000, Array.from({ length: 128 }, () => 0)), ...memory(0xe000_ed28, [...u32(0x0200), ...u32(0x4000_0000), ...u32(0), ...u32(0), ...u32(0xf000_0000)])]
    expect(dumpOf(bytes)).toMatchObject({
      format: 'zephyr-coredump', os: 'zephyr', cpu: 'arm', crashingThread: 0, notes: [],
      exception: { type: 'BusFault / PRECISERR', address: null }, modules: [{ base: 0n, size: 0x2000_0000, linked: true, codeId: null }],
      threads: [{ stack: { base: 0x2000_0000n, size: 128 } }],
      annotations: { reason: 'K_ERR_CPU_EXCEPTION', hfsr: '0x40000000 (FORCED: another fault had no handler that could run)', bfar: '0xf0000000 (not valid: left over from earlier)' },
    })
    expect(registersOf(bytes)).toMatchObject({ r0: 0x11n, r3: 0x14n, r12: 0x15n, lr: 0x409n, pc: 0x500n, sp: 0x2000_0040n, r4: 0x40n, r10: 0x46n, fp: 0x47n })
    expect(registersOf([...header(3, 5), ...block(1, M3.slice(0, 9).flatMap(u32))])).not.toHaveProperty('r4')
  })

  test('RISC-V, RV32E, Xtensa, x86 and ARM64 have their registers where Zephyr puts them', () => {
    const count = (n: number): number[] => Array.from({ length: n }, (_, index) => 0x100 + index)
    expect(registersOf([...header(4, 5), ...block(1, count(19).flatMap(u32))])).toMatchObject({ ra: 0x100n, t2: 0x104n, a0: 0x105n, a7: 0x10cn, t3: 0x10dn, pc: 0x111n, sp: 0x112n })
    expect(registersOf([...header(4, 5), ...block(1, count(13).flatMap(u32))])).toMatchObject({ ra: 0x100n, a5: 0x10an, pc: 0x10bn, sp: 0x10cn })
    expect(dumpOf([...header(4, 6), ...block(2, count(19).flatMap((value) => u64(BigInt(value) << 32n)))])).toMatchObject({ cpu: 'riscv64' })
    const xtensa = [...header(5, 5), ...block(1, [2, ...u16(2), 0, ...[0x400d_1234, 28, 0x44, 0, 0x60, 0, ...count(16), 0, 0, 0].flatMap(u32)])]
    expect(registersOf(xtensa)).toMatchObject({ pc: 0x400d_1234n, a0: 0x100n, a15: 0x10fn })
    expect(dumpOf(xtensa).exception).toMatchObject({ type: 'LoadProhibited', access: 'read', address: 0x44n })
    expect(registersOf([...header(1, 5), ...block(1, [14, 2, ...count(11)].flatMap(u32))])).toMatchObject({ eax: 0x100n, esp: 0x104n, ebp: 0x105n, eip: 0x108n })
    expect(registersOf([...header(2, 6), ...block(1, Array.from({ length: 22 }, (_, index) => BigInt(index)).flatMap(u64))])).toMatchObject({ rax: 2n, rsp: 7n, rip: 12n, rbp: 16n, r15: 21n })
    expect(registersOf([...header(6, 6), ...block(1, Array.from({ length: 22 }, (_, index) => BigInt(index)).flatMap(u64))])).toMatchObject({ x0: 0n, x18: 18n, lr: 19n, sp: 20n, pc: 21n })
  })

  test('a stack pointer that is at the exception frame is put above it', () => {
    const at = (status: number): number[] => {
      const frame = [...FRAME.slice(0, 7), status]
      return [...header(3, 5), ...block(2, [...frame, 0x2000_0000, ...M3.slice(9)].flatMap(u32)), ...memory(0x2000_0000, [...frame.flatMap(u32), ...Array.from({ length: 64 }, () => 0)])]
    }
    expect(registersOf(at(0x0100_0000)).sp).toBe(0x2000_0020n)
    expect(registersOf(at(0x0100_0200)).sp).toBe(0x2000_0024n)
    expect(dumpOf(at(0x0100_0000)).notes).toMatchObject([{ slug: 'frame-skipped' }])
  })

  test('what is cut off, unknown or backwards is a note or a refusal', () => {
    const whole = [...header(3, 5), ...block(2, M3.flatMap(u32)), ...memory(0x2000_0000, Array.from({ length: 64 }, () => 7))]
    expect(dumpOf(whole.slice(0, -10))).toMatchObject({ notes: [{ slug: 'memory-truncated', text: 'zephyr-coredump: memory 0x20000000+64 ends past the dump (10 bytes missing)' }] })
    expect(dumpOf([...whole, ...Array.from({ length: 32 }, () => 0xff)]).notes).toEqual([])
    expect(dumpOf([...whole, 0x58, 1, 2, 3]).notes).toMatchObject([{ slug: 'stream-malformed', text: expect.stringContaining('section \'X\'') }])
    expect(dumpOf([...header(3, 5), ...block(2, M3.flatMap(u32)), 0x4d, ...u16(1), ...u32(8), ...u32(4)]).notes).toMatchObject([{ slug: 'stream-malformed' }])
    const refused = (bytes: number[]) => parseZephyrCoredump(Uint8Array.from(bytes))
    expect(refused(whole.slice(0, 8))).toMatchObject({ slug: 'dump-truncated' })
    expect(refused(whole.slice(0, 40))).toMatchObject({ slug: 'dump-truncated' })
    expect(refused(header(9, 5))).toMatchObject({ slug: 'dump-malformed', reason: 'zephyr-coredump: target 9' })
    expect(refused(header(3, 7))).toMatchObject({ slug: 'dump-malformed' })
    expect(refused(header(3, 5))).toMatchObject({ slug: 'dump-malformed', reason: 'zephyr-coredump: no registers' })
    expect(refused([...header(3, 5), ...block(2, [1, 2, 3])])).toMatchObject({ slug: 'dump-truncated' })
  })
})

describe('logs', () => {
  test('other lines come in between, noise goes before, and the last dump counts', () => {
    const text = log('float-frame').toString('latin1')
    expect(sniff(Buffer.concat([Buffer.from([0, 255, 0, 1]), Buffer.from(text)]), 'text/plain')).toBe('zephyr-coredump')
    const twice = dumpOf(Buffer.from(`${log('stack-limit').toString('latin1')}\n${text.replaceAll('\n', '\r\n')}`))
    expect(twice.exception).toMatchObject({ type: 'BusFault / PRECISERR', address: 0xf000_0004n })
    expect(twice.modules[0]!.codeId).toMatch(/^[0-9a-f]{40}$/)
    const cut = dumpOf(Buffer.from(text.slice(0, text.indexOf('#CD:END#') - 6)))
    expect(cut.notes.map(({ slug }) => slug)).toContain('stream-truncated')
    expect(parseZephyrCoredump(Buffer.from('E: #CD:BEGIN#\nE: #CD:zz\nE: #CD:END#'))).toMatchObject({ slug: 'dump-truncated' })
  })

  test('where the handler prints words and no status register, the words are read', () => {
    const dump = [...header(3, 5), ...block(2, M3.flatMap(u32))].map((byte) => byte.toString(16).padStart(2, '0')).join('')
    const read = (lines: string) => dumpOf(Buffer.from(`${lines}\n<err> coredump: #CD:BEGIN#\n<err> coredump: #CD:${dump}\n<err> coredump: #CD:END#\n`)).exception
    expect(read('<err> os: ***** BUS FAULT *****\n<err> os:   Precise data bus error\n<err> os:   BFAR Address: 0xa0000010')).toMatchObject({ type: 'BusFault / PRECISERR', address: 0xa000_0010n })
    expect(read('<err> os: ***** MPU FAULT *****\n<err> os:   Data Access Violation\n<err> os:   MMFAR Address: 0x4')).toMatchObject({ type: 'MemManage / DACCVIOL', address: 4n })
    expect(read('<err> os: ***** USAGE FAULT *****\n<err> os:   Stack overflow (context area not valid)')).toMatchObject({ type: 'UsageFault / STKOF' })
    expect(read('<err> os: ***** SECURE FAULT *****\n<err> os:   Invalid entry point')).toMatchObject({ type: 'SecureFault / INVEP' })
    expect(read('nothing of the kind')).toMatchObject({ type: 'K_ERR_CPU_EXCEPTION' })
  })
})

const MAPS = { find: async () => null }
const explain = (name: string) => analyse({ bytes: log(name), contentType: 'application/x-zephyr-coredump', claims: {}, annotations: {} }, { symbols: elfSymbols([join(corpus, 'v8m.elf')]), maps: MAPS })
const stackOf = async (name: string) => (await explain(name)).report.crashing_thread!.frames.map((frame) => `${frame.function ?? '??'}${frame.line === null ? '' : ` ${frame.line}`}`)

describe('a Cortex-M33 with TrustZone under QEMU', () => {
  test('a stack that reached its limit: no frame was pushed, the callers are found, the recursion is folded', async () => {
    expect(await explain('stack-limit')).toMatchObject({
      kind: 'stack-guard', evidence: { class: 2, severity: 'not-exploitable', for: [{ slug: 'stack-limit' }] }, report: { crash_info: { type: 'UsageFault / STKOF' }, notes: [{ slug: 'frame-not-pushed' }] },
    })
    const { report } = await explain('stack-limit')
    expect(report.crashing_thread!.frames).toMatchObject([{ function: 'deeper', trust: 'scan', repeats: expect.any(Number) }])
  })

  test('non-secure code that reads secure memory, and secure code that jumps out without saying so', async () => {
    expect(await explain('secure-access')).toMatchObject({ kind: 'secure-fault', evidence: { class: 3 }, report: { crash_info: { type: 'SecureFault / AUVIOL' }, annotations: { exc_return: expect.stringContaining('non-secure stack, taken to secure state') } } })
    expect(await explain('secure-transition')).toMatchObject({ kind: 'secure-fault', access: 'execute', evidence: { class: 4, severity: 'exploitable' }, report: { crash_info: { type: 'SecureFault / INVTRAN' } } })
    expect((await stackOf('secure-transition')).slice(1, 3)).toEqual([expect.stringMatching(/^task /), expect.stringMatching(/^run_task /)])
  })

  test('a frame with floating point is stepped over, on the process stack', async () => {
    expect((await stackOf('float-frame')).map((frame) => frame.split(' ')[0])).toEqual(['scale', 'convert', 'task', 'run_task', 'Reset_Handler'])
  })

  test('behind a handler stands what it interrupted, on the other stack', async () => {
    // task() ends in a jump to request(): nothing of it is on the stack.
    expect((await stackOf('in-handler')).map((frame) => frame.split(' ')[0])).toEqual(['read_sensor', 'poll_bus', 'SVC_Handler', 'request', 'run_task', 'Reset_Handler'])
  })
})

test('a program counter in RAM is wild, unless the firmware has a function there', async () => {
  const registers = M3.map((value, index) => (index === 6 ? 0x2000_0100 : index === 8 ? 0x2000_4000 : value))
  const bytes = Uint8Array.from([...header(3, 5), ...block(2, registers.flatMap(u32)), ...memory(0x2000_4000, Array.from({ length: 64 }, () => 0)), ...memory(0xe000_ed28, [...u32(0x8200), ...u32(0), ...u32(0), ...u32(0), ...u32(0xf000_0000)])])
  const firmwareWith = (name: string | null) => analyse({ bytes, contentType: '', claims: {}, annotations: {} }, {
    maps: MAPS,
    symbols: { find: async () => ({ status: 'found', symbols: { linkBase: 0, cfi: () => null, lookup: (offset) => (name === null || offset < 0x2000_0000 ? null : { function: name, functionOffset: 0x2000_00f0, file: 'flash.c', line: 9, inlines: [], approximate: false }) } }) },
  })
  expect(await firmwareWith(null)).toMatchObject({ kind: 'control-flow', evidence: { class: 4, pcOutsideModules: true } })
  const known = await firmwareWith('program_flash')
  expect(known).toMatchObject({ kind: 'wild-read', evidence: { class: 2, pcOutsideModules: false } })
  expect(known.report.crashing_thread!.frames[0]).toMatchObject({ function: 'program_flash', function_offset: '0x00000010', module: 'firmware' })
})

test('whatever changes in a dump or a log, parsing ends and answers with a dump or a slug', () => {
  const inputs = [Buffer.from([...header(3, 5), ...block(2, M3.flatMap(u32)), ...memory(0x2000_0000, [1, 2, 3, 4]), 0x54, ...u16(1), ...u16(4), 1, 2, 3, 4]), log('float-frame'), log('stack-limit')]
  fc.assert(fc.property(fc.constantFrom(...inputs), fc.array(fc.tuple(fc.nat(4000), fc.integer({ min: 0, max: 255 })), { maxLength: 24 }), fc.nat(4000), (input, changes, cut) => {
    const bytes = Buffer.from(input)
    for (const [at, value] of changes) bytes[at % bytes.length] = value
    const parsed = parseZephyrCoredump(bytes.subarray(0, bytes.length - (cut % 3 === 0 ? cut % bytes.length : 0)))
    if (!('dump' in parsed)) expect(['dump-truncated', 'dump-malformed']).toContain(parsed.slug)
  }), { numRuns: 1500 })
})
