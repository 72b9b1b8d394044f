/**
 * The text that ESP-IDF's panic handler prints (components/esp_system/panic.c and port/arch), as it comes from a serial log:
 *
 *   Guru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled.   or   abort() was called at PC ...
 *   PC      : 0x400d1234  PS      : 0x00060f30  A0      : 0x800d2345  ...       ; MEPC, RA, SP ... on RISC-V
 *   Backtrace: 0x400d1231:0x3ffb1f00 0x400d2342:0x3ffb1f20 |<-CORRUPTED          ; Xtensa: instruction and stack pointer
 *   Stack memory:                                                              ; RISC-V: words to unwind
 *   3fc8ea70: 0x3fc8ea9c 0x3fc8ead2 ...
 *   ELF file SHA256: 1b43c5e74
 *
 * A log may hold several; the last one is the crash that it was sent for.
 */
import type { Dump, DumpThread, Exception, Note } from './dump.ts'
import { RISCV_REGISTERS } from './elf-core-registers.ts'
import { chipOfCpu, firmwareOf, stackAt } from './esp-chip.ts'
import { namedException } from './mcu-cause.ts'
import { createMemory, type MemoryPiece } from './memory.ts'
import type { ParseFailure } from './minidump.ts'

export const ESP_PANIC = /Guru Meditation Error: |^abort\(\) was called at PC 0x[0-9a-f]{8} on core \d|^Backtrace: ?0x[0-9a-f]{8}:0x[0-9a-f]{8}/m

/** A panic is a screen of text; what stands before it is the program's own log. */
const WINDOW = 64 * 1024
const MOST_FRAMES = 128
const MOST_WORDS = 16_384

export function parseEspPanic(bytes: Uint8Array): { dump: Dump } | ParseFailure {
  const log = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1').replaceAll('\r', '')
  const text = log.slice(startOf(log)).slice(0, WINDOW)
  const registers = readRegisters(text)
  const cpu = registers.has('mepc') || registers.has('mcause') ? 'riscv32' : 'xtensa'
  const given = readBacktrace(text)
  const pieces = cpu === 'riscv32' ? readStack(text) : []
  if (registers.size === 0 && given.length === 0) return { slug: 'dump-malformed', reason: 'esp-panic: neither registers nor a backtrace' }
  const memory = createMemory(pieces)
  const own = cpu === 'xtensa' ? xtensaRegisters(registers) : riscvRegisters(registers)
  const notes: Note[] = /\|<-CORRUPTED/.test(text) ? [{ slug: 'backtrace-corrupted', text: 'esp-panic: the device could not walk its stack to the end (CORRUPTED)' }] : []
  if (given.length > 0 && own.has('pc')) given[0] = own.get('pc')!
  const thread: DumpThread = {
    id: 0, name: /\btask (\S{1,16}) has been detected/.exec(text)?.[1] ?? null, registers: own.size > 0 ? own : given.length > 0 ? new Map([['pc', given[0]!]]) : null,
    stack: stackAt(memory, own.get('sp')), frames: null, ...(given.length > 0 ? { given } : {}),
  }
  const { exception, message } = readReason(text, cpu, registers)
  const elfSha256 = /ELF file SHA256: *([0-9a-f]{8,64})\b/.exec(text)?.[1] ?? null
  const modules = firmwareOf(chipOfCpu(cpu), elfSha256)
  return {
    dump: {
      format: 'esp-panic', os: 'esp-idf', osVersion: null, cpu, exception, crashingThread: 0, threads: [thread],
      modules, mainModule: modules.findIndex(({ name }) => name === 'firmware'), unloadedModules: [], memory, regions: [],
      annotations: { ...(elfSha256 === null ? {} : { elf_sha256: elfSha256 }), ...causes(registers) },
      abortMessage: message, pid: null, createdAt: null, notes,
    },
  }
}

/** The last line that begins a panic; a message may stand in the line before it. */
function startOf(log: string): number {
  const starts = [...log.matchAll(/^.*(?:Guru Meditation Error: |abort\(\) was called at PC|assert failed: |Stack smashing protect failure|CORRUPT HEAP|A stack overflow in task).*$/gm)].map(({ index }) => index)
  const last = starts.at(-1) ?? 0
  // What was said within the lines before belongs to the same panic.
  return starts.find((start) => last - start < 512) ?? last
}

/** `PC      : 0x400d1234`; the names are the processor's own. */
function readRegisters(text: string): Map<string, bigint> {
  const registers = new Map<string, bigint>()
  for (const [, name, value] of text.matchAll(/\b([A-Z][A-Z0-9/]{0,9}) *: *0x([0-9a-f]{8})\b/g)) {
    const key = name!.toLowerCase()
    if (!registers.has(key) && registers.size < 128) registers.set(key, BigInt(`0x${value}`))
  }
  return registers
}

function readBacktrace(text: string): bigint[] {
  const [, list] = /^Backtrace: ?(.*)$/m.exec(text) ?? []
  return [...(list ?? '').matchAll(/0x([0-9a-f]{8}):0x[0-9a-f]{8}/g)].slice(0, MOST_FRAMES).map(([, pc]) => BigInt(`0x${pc}`))
}

function readStack(text: string): MemoryPiece[] {
  const pieces: MemoryPiece[] = []
  let words = 0
  for (const [, address, line] of text.matchAll(/^([0-9a-f]{8}):((?: 0x[0-9a-f]{8})+)\s*$/gm)) {
    const values = line!.trim().split(' ').map((word) => Number.parseInt(word, 16))
    if ((words += values.length) > MOST_WORDS) break
    const bytes = Buffer.alloc(4 * values.length)
    for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, 4 * index)
    const base = BigInt(`0x${address}`)
    const last = pieces.at(-1)
    if (last && last.base + BigInt(last.bytes.length) === base) last.bytes = Buffer.concat([last.bytes, bytes])
    else pieces.push({ base, bytes })
  }
  return pieces
}

const xtensaRegisters = (all: ReadonlyMap<string, bigint>): Map<string, bigint> =>
  new Map(['pc', 'ps', ...Array.from({ length: 16 }, (_, index) => `a${index}`)].flatMap((name) => (all.has(name) ? [[name, all.get(name)!] as const] : [])))

/** The handler calls the program counter MEPC and s0 `S0/FP`. */
const riscvRegisters = (all: ReadonlyMap<string, bigint>): Map<string, bigint> =>
  new Map(RISCV_REGISTERS.flatMap((name) => {
    const value = all.get(name === 'pc' ? 'mepc' : name === 's0' ? 's0/fp' : name)
    return value === undefined ? [] : [[name, value] as const]
  }))

const CAUSES = ['exccause', 'excvaddr', 'mcause', 'mtval', 'mstatus']
const causes = (registers: ReadonlyMap<string, bigint>): Record<string, string> =>
  Object.fromEntries(CAUSES.flatMap((name) => (registers.has(name) ? [[name, `0x${registers.get(name)!.toString(16).padStart(8, '0')}`]] : [])))

const MESSAGE = /^.*?(abort\(\) was called at PC .*|assert failed: .*|Stack smashing protect failure.*|CORRUPT HEAP.*|\*\*\*ERROR\*\*\* A stack overflow in task .*)$/m

function readReason(text: string, cpu: 'xtensa' | 'riscv32', registers: ReadonlyMap<string, bigint>): { exception: Exception; message: string | null } {
  const message = MESSAGE.exec(text)?.[1]?.slice(0, 512) ?? null
  const [, reason] = /Guru Meditation Error: Core +\d+ panic'ed \(([^)\n]{1,80})\)/.exec(text) ?? []
  if (message !== null && (reason === undefined || !/^(?:Load|Store|Instr)/.test(reason))) return { exception: { type: 'abort', code: 0, subcode: null, address: null, access: 'unknown' }, message }
  return { exception: namedException(reason ?? 'panic', cpu, registers.get(cpu === 'xtensa' ? 'excvaddr' : 'mtval') ?? null), message }
}
