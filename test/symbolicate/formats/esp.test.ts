import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { analyse } from '../../../symbolicate/analyse.ts'
import { parseEspCoredump } from '../../../symbolicate/formats/esp-coredump.ts'
import { parseEspPanic } from '../../../symbolicate/formats/esp-panic.ts'
import { sniff } from '../../../symbolicate/formats/sniff.ts'
import type { ModuleIdentity, SymbolSource } from '../../../symbolicate/symbols/source.ts'

const XTENSA = `I (312) app: up
Guru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled.

Core  0 register dump:
PC      : 0x400d1c44  PS      : 0x00060f30  A0      : 0x800d1c5a  A1      : 0x3ffb4f40
A2      : 0x00000000  A3      : 0x00000001  A4      : 0x3ffb4f60  A5      : 0x00000000
EXCCAUSE: 0x0000001c  EXCVADDR: 0x00000010  LBEG    : 0x4000c2e0  LEND    : 0x4000c2f6

Backtrace: 0x400d1c41:0x3ffb4f40 0x400d1c57:0x3ffb4f60 0x400e40a0:0x3ffb4f80 |<-CORRUPTED

ELF file SHA256: 1b43c5e74

Rebooting...
`
const RISCV = `Guru Meditation Error: Core  0 panic'ed (Store access fault). Exception was unhandled.

Core  0 register dump:
MEPC    : 0x42009350  RA      : 0x42009360  SP      : 0x3fc8ea70  GP      : 0x3fc8a600
TP      : 0x3fc87ee0  T0      : 0x37363534  T1      : 0x7271706f  T2      : 0x33323130
S0/FP   : 0x3fc8eaa0  S1      : 0x3fc8ead4  A0      : 0x3fc8ea9c  A1      : 0x3fc8ead2
MSTATUS : 0x00001881  MTVEC   : 0x40380001  MCAUSE  : 0x00000007  MTVAL   : 0x00000008

Stack memory:
3fc8ea70: 0x00000001 0x00000002 0x00000003 0x00000004 0x00000005 0x00000006 0x00000007 0x00000008
3fc8ea90: 0x00000009 0x0000000a 0x00000000 0x4200937a 0x0000000d 0x0000000e 0x0000000f 0x00000010

ELF file SHA256: 7d946a8e8
`
const dumpOf = (parsed: ReturnType<typeof parseEspPanic>) => {
  if (!('dump' in parsed)) throw new Error(parsed.reason)
  return parsed.dump
}
const panic = (text: string) => dumpOf(parseEspPanic(Buffer.from(text)))
const asked: ModuleIdentity[] = []
/** Every 256 bytes a function. */
const symbols: SymbolSource = {
  find: async (module) => {
    asked.push(module)
    if (!module.elfSha256) return { status: 'missing', reason: 'no such build' }
    return { status: 'found', symbols: { linkBase: 0x4000_0000, cfi: () => null, lookup: (offset) => ({ function: `f_${(offset >>> 8).toString(16)}`, functionOffset: offset & ~255, file: 'app.c', line: offset & 255, inlines: [], approximate: false }) } }
  },
}
const explain = (text: string) => analyse({ bytes: Buffer.from(text), contentType: 'text/plain', claims: {}, annotations: {} }, { symbols, maps: { find: async () => null } })

test('an Xtensa panic: the backtrace that the device printed is named, by the firmware that it names', async () => {
  expect(panic(XTENSA)).toMatchObject({
    format: 'esp-panic', os: 'esp-idf', cpu: 'xtensa', exception: { type: 'LoadProhibited', code: 28, access: 'read', address: 0x10n },
    annotations: { elf_sha256: '1b43c5e74', exccause: '0x0000001c', excvaddr: '0x00000010' }, notes: [{ slug: 'backtrace-corrupted' }],
  })
  const { report, kind, evidence } = await explain(`noise\r\n${XTENSA}`)
  expect(report.crashing_thread!.frames.map(({ trust, offset, function: name }) => [trust, offset, name])).toEqual([['context', '0x400d1c44', 'f_d1c'], ['given', '0x400d1c57', 'f_d1c'], ['given', '0x400e40a0', 'f_e40']])
  expect(report.crashing_thread!.frames[0]!.registers).toMatchObject({ a0: '0x800d1c5a', a3: '0x00000001' })
  expect([kind, evidence.class, evidence.addressClass]).toEqual(['null-dereference', 1, 'near-null'])
  expect(asked.at(-1)).toMatchObject({ elfSha256: '1b43c5e74' })
})

test('a RISC-V panic: the printed stack is unwound', async () => {
  const dump = panic(RISCV)
  expect(dump).toMatchObject({ cpu: 'riscv32', exception: { type: 'Store access fault', access: 'write', address: 8n }, annotations: { elf_sha256: '7d946a8e8', mcause: '0x00000007' } })
  expect(dump.memory.u32(0x3fc8_ea9cn)).toBe(0x4200937a)
  const { report, kind, access } = await explain(RISCV)
  expect(report.crashing_thread!.frames.slice(0, 2).map(({ offset }) => offset)).toEqual(['0x42009350', '0x42009378'])
  expect([kind, access]).toEqual(['null-dereference', 'write'])
})

test('what the program said before it stopped itself decides', async () => {
  const abort = (line: string) => explain(`${line}\n\n\nBacktrace: 0x400d1c41:0x3ffb4f40 0x400d1c57:0x3ffb4f60\n`)
  expect(await abort('abort() was called at PC 0x400d66b9 on core 0')).toMatchObject({ kind: 'abort', evidence: { class: 1 } })
  expect(await abort('assert failed: xQueueSemaphoreTake queue.c:1549 (pxQueue->uxItemSize == 0)\nabort() was called at PC 0x40085 on core 0')).toMatchObject({ kind: 'assertion' })
  expect(await abort('\nStack smashing protect failure!\n\nabort() was called at PC 0x400d66b9 on core 0')).toMatchObject({ kind: 'stack-guard', evidence: { class: 3 } })
  expect(await abort('***ERROR*** A stack overflow in task mqtt has been detected.')).toMatchObject({ kind: 'stack-guard', report: { crashing_thread: { thread_name: 'mqtt' } } })
  expect(await abort('CORRUPT HEAP: Bad head at 0x3ffb1f40. Expected 0xabba1234 got 0x41414141')).toMatchObject({ kind: 'heap-corruption' })
  expect(await explain('Guru Meditation Error: Core  1 panic\'ed (Interrupt wdt timeout on CPU1).\nPC : 0x400d1c44 A0 : 0x800d1c5a\nBacktrace: 0x400d1c41:0x3ffb4f40\n')).toMatchObject({ kind: 'hang' })
  expect(await explain('Guru Meditation Error: Core  0 panic\'ed (InstrFetchProhibited). Exception was unhandled.\nPC      : 0x41414140  PS      : 0x00060f30  A0      : 0x800d1c5a  EXCVADDR: 0x41414140\nBacktrace: 0x4141413d:0x3ffb4f40 0x400d1c57:0x3ffb4f60\n')).toMatchObject({ kind: 'control-flow', evidence: { class: 4, pattern: 'repeated' } })
})

test('the last panic of a log is the one that it was sent for, and text without one is refused', () => {
  expect(panic(`${XTENSA}\n${'boot\n'.repeat(200)}${RISCV}`).cpu).toBe('riscv32')
  expect(parseEspPanic(Buffer.from('Guru Meditation Error: ?'))).toMatchObject({ slug: 'dump-malformed' })
  expect(sniff(Buffer.from('Backtrace: 0x400d1c41:0x3ffb4f40'), 'text/plain')).toBe('esp-panic')
  expect(sniff(Buffer.from('Backtrace: main.c:12'), 'text/plain')).toBe('text')
})

const u32 = (...values: number[]): Buffer => Buffer.concat(values.map((value) => { const bytes = Buffer.alloc(4); bytes.writeUInt32LE(value >>> 0); return bytes }))

/** Format 0.3: one task that faulted, one that yielded, and a segment of memory. */
function image({ chip = 0, format = 3 } = {}): Buffer {
  const tcb = (name: string): Buffer => { const bytes = Buffer.alloc(80); bytes.write(name, 52); return bytes }
  const faulted = Buffer.concat([u32(1, 0x400d_1000, 0x6_0030, 0x800d_2003, 0x3ffb_0064, ...Array.from({ length: 14 }, (_, index) => index), 7, 29, 0x4141_4141, 0, 0, 0), Buffer.alloc(28)])
  const yielded = Buffer.concat([u32(0, 0x800d_3003, 0x6_0030, 0, 0x800d_4003, 0x3ffb_1040, 2, 3), Buffer.alloc(96)])
  const data = Buffer.concat([u32(0x3ffa_0000, 0x3ffb_0000, 0x3ffb_0000 + faulted.length), tcb('mqtt'), faulted, u32(0x3ffa_1000, 0x3ffb_1000, 0x3ffb_1000 + yielded.length), tcb('IDLE'), yielded, u32(0x3ffc_0000, 8), Buffer.from('segment!')])
  const header = u32(24 + data.length + 4, format | (chip << 16), 2, 80, 1, 300)
  const body = Buffer.concat([header, data])
  return Buffer.concat([body, u32(crc32(body))])
}
const coredump = (bytes: Uint8Array) => {
  const parsed = parseEspCoredump(bytes)
  if (!('dump' in parsed)) throw new Error(parsed.reason)
  return parsed.dump
}
const shown = (bytes: Uint8Array) => {
  const { memory, ...dump } = coredump(bytes)
  return { ...dump, memory: memory.ranges().map(({ base, size }) => [base, Buffer.from(memory.bytes(base, size)!).toString('hex')]) }
}

test('a binary coredump: tasks, names, registers of a fault and of a task that yielded, cause and memory', () => {
  const dump = coredump(image())
  expect(dump).toMatchObject({ format: 'esp-coredump', cpu: 'xtensa', crashingThread: 0, notes: [], exception: { type: 'StoreProhibited', access: 'write', address: 0x4141_4141n }, annotations: { chip: 'esp32' } })
  expect(dump.threads.map(({ id, name }) => [id, name])).toEqual([[0x3ffa_0000, 'mqtt'], [0x3ffa_1000, 'IDLE']])
  expect(Object.fromEntries(dump.threads[0]!.registers!)).toMatchObject({ pc: 0x400d_1000n, ps: 0x6_0030n, a0: 0x800d_2003n, a1: 0x3ffb_0064n, a15: 13n, sar: 7n })
  expect(Object.fromEntries(dump.threads[1]!.registers!)).toEqual({ pc: 0x400d_3003n, ps: 0x6_0030n, a0: 0x800d_4003n, a1: 0x3ffb_1040n, a2: 2n, a3: 3n })
  expect(dump.threads[0]!.stack).toEqual({ base: 0x3ffb_0000n, size: 128 })
  expect(Buffer.from(dump.memory.bytes(0x3ffc_0000n, 8)!).toString()).toBe('segment!')
})

test('the same as lines of a UART, between its marks and in the middle of a log', () => {
  const lines = [24, 36, 116].reduce<{ from: number; out: string[] }>(({ from, out }, to) => ({ from: to, out: [...out, image().subarray(from, to).toString('base64')] }), { from: 0, out: [] })
  const text = [...lines.out, image().subarray(lines.from).toString('base64')].join('\r\n')
  expect(sniff(Buffer.from(text), 'text/plain')).toBe('esp-coredump')
  expect(shown(Buffer.from(text))).toEqual(shown(image()))
  const log = Buffer.from(`I (1) boot\n================= CORE DUMP START =================\n${text}\nW (7) other: words here\n================= CORE DUMP END =================\nrst:0xc\n`)
  expect(sniff(log, 'text/plain')).toBe('esp-coredump')
  expect(shown(log)).toEqual(shown(image()))
  expect(sniff(Buffer.from('c29tZSB0ZXh0IHRoYXQgaXMgbm8gY29yZWR1bXAgYXQgYWxsLCBidXQgYmFzZTY0'), 'text/plain')).toBe('text')
})

test('a changed byte is noticed, a cut one is a part, an unknown chip is refused', () => {
  const changed = image()
  changed[60]! ^= 1
  expect(coredump(changed).notes).toMatchObject([{ slug: 'stream-malformed', text: expect.stringContaining('checksum') }])
  const cut = coredump(image().subarray(0, 280))
  expect(cut.threads).toHaveLength(1)
  expect(cut.notes.map(({ slug }) => slug)).toEqual(['stream-truncated', 'stream-truncated'])
  expect(parseEspCoredump(image({ chip: 99 }))).toMatchObject({ slug: 'dump-malformed' })
  expect(sniff(image({ chip: 99 }), '')).toBe('unknown')
  expect(parseEspCoredump(image().subarray(0, 30))).toMatchObject({ slug: 'dump-truncated' })
  const sha = Buffer.concat([image().subarray(0, -4)])
  sha.writeUInt32LE(sha.length + 32, 0)
  sha.writeUInt16LE(0x103, 4)
  expect(parseEspCoredump(Buffer.concat([sha, createHash('sha256').update(sha).digest()]))).toMatchObject({ slug: 'dump-malformed', reason: expect.stringContaining('not an ELF file') })
})

test('whatever changes, parsing ends and answers with a dump or a slug', () => {
  const mutate = fc.tuple(fc.array(fc.tuple(fc.nat(2000), fc.integer({ min: 0, max: 255 })), { maxLength: 24 }), fc.nat(2000))
  fc.assert(fc.property(fc.constantFrom(image(), Buffer.from(XTENSA), Buffer.from(RISCV)), mutate, (input, [changes, cut]) => {
    const bytes = Buffer.from(input)
    for (const [at, value] of changes) bytes[at % bytes.length] = value
    const part = bytes.subarray(0, bytes.length - (cut % 3 === 0 ? cut % bytes.length : 0))
    for (const parse of [parseEspCoredump, parseEspPanic]) {
      const parsed = parse(part)
      if (!('dump' in parsed)) expect(['dump-truncated', 'dump-malformed']).toContain(parsed.slug)
    }
  }), { numRuns: 1500 })
})
