/**
 * Zephyr's coredump (zephyr/debug/coredump.h), binary or as `#CD:` lines of hex inside of a log; also what a device without
 * Zephyr should send, because it is registers and RAM and nothing else. Integers are little-endian.
 *
 *   dump    = 'ZE' version u16, target u16, bits of a pointer as a power of two u8, flags u8, reason u32, section*
 *   section = 'A' version u16, size u16, registers             ; by target, see REGISTERS
 *           | 'M' version u16, start, end (pointers), end - start bytes
 *           | 'T' version u16, size u16, Zephyr's kernel structure   ; see zephyr-threads.ts
 *   log     = any lines; of those between `#CD:BEGIN#` and `#CD:END#` what stands behind `#CD:`
 *
 * A Cortex-M's fault status comes from a memory section that holds its System Control Block (0xe000ed00), or from the log.
 * Half a dump is a result; one without registers is refused.
 */
import { InputError, Reader } from '../reader.ts'
import { describeRegisters, FAULT_REGISTERS, type FaultRegister, type FaultRegisters, faultException, frameSize, usesProcessStack } from './cortex-m-fault.ts'
import { type LogFacts, readFaultLog } from './cortex-m-log.ts'
import type { Cpu, Dump, DumpThread, Exception, Memory, Note, Os } from './dump.ts'
import { readRegisters } from './elf-core-registers.ts'
import { codeRange, firmware } from './firmware.ts'
import { riscvException, xtensaException } from './mcu-cause.ts'
import { createMemory, type MemoryPiece } from './memory.ts'
import { MINIDUMP_BUDGET, type MinidumpBudget, type ParseFailure } from './minidump.ts'

export const ZEPHYR_LINE = '#CD:'

type Target = 'x86' | 'x86-64' | 'cortex-m' | 'riscv' | 'xtensa' | 'arm64'
const TARGETS: Readonly<Record<number, Target>> = { 1: 'x86', 2: 'x86-64', 3: 'cortex-m', 4: 'riscv', 5: 'xtensa', 6: 'arm64' }

const numbered = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, index) => `${prefix}${index}`)

/** In the order of the file; `-` is skipped. Older versions of a block end earlier. */
const REGISTERS: Readonly<Record<Target, readonly string[]>> = {
  x86: ['vector', 'code', 'eax', 'ecx', 'edx', 'ebx', 'esp', 'ebp', 'esi', 'edi', 'eip', 'eflags'],
  'x86-64': ['vector', 'code', 'rax', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'r8', 'r9', 'r10', 'r11', 'rip', '-', '-', '-', 'rbp', 'rbx', 'r12', 'r13', 'r14', 'r15'],
  'cortex-m': ['r0', 'r1', 'r2', 'r3', 'r12', 'lr', 'pc', 'cpsr', 'sp', 'r4', 'r5', 'r6', 'r7', 'r8', 'r9', 'r10', 'fp'],
  riscv: ['ra', 'tp', 't0', 't1', 't2', ...numbered('a', 8), 't3', 't4', 't5', 't6', 'pc', 'sp'],
  xtensa: ['pc', 'exccause', 'excvaddr', 'sar', 'ps', 'scompare1', ...numbered('a', 16), 'lbeg', 'lend', 'lcount'],
  arm64: [...numbered('x', 19), 'lr', 'sp', 'pc'],
}
/** RV32E has half of the argument registers, and no saved temporaries. */
const RV32E = ['ra', 'tp', 't0', 't1', 't2', ...numbered('a', 6), 'pc', 'sp'] as const

/** enum k_fatal_error_reason; an architecture's own reasons start at 16. */
const REASONS: Readonly<Record<number, string>> = {
  0: 'K_ERR_CPU_EXCEPTION', 1: 'K_ERR_SPURIOUS_IRQ', 2: 'K_ERR_STACK_CHK_FAIL', 3: 'K_ERR_KERNEL_OOPS', 4: 'K_ERR_KERNEL_PANIC',
}

interface Read { target: Target; cpu: Cpu; width: 4 | 8; reason: number; registers: Map<string, bigint> | null; pieces: MemoryPiece[]; kernel: Uint8Array | null; notes: Note[] }

export function parseZephyrCoredump(bytes: Uint8Array, budget: MinidumpBudget = MINIDUMP_BUDGET): { dump: Dump } | ParseFailure {
  if (bytes.length > budget.bytes) return { slug: 'budget-exceeded', reason: `zephyr-coredump: ${bytes.length} bytes, at most ${budget.bytes} are read` }
  try {
    const isBinary = bytes[0] === 0x5a && bytes[1] === 0x45
    const log = isBinary ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
    const { dump, notes } = log === null ? { dump: bytes, notes: [] } : fromLog(log)
    const read = readSections(new Reader(dump), budget, notes)
    if (read.registers !== null) return { dump: dumpOf(read, log === null ? { registers: {}, buildId: null } : readFaultLog(log), log) }
    return { slug: notes.some(({ slug }) => slug === 'stream-truncated') ? 'dump-truncated' : 'dump-malformed', reason: notes[0]?.text ?? 'zephyr-coredump: no registers' }
  } catch (error) {
    if (error instanceof InputError) return { slug: error.slug, reason: `zephyr-coredump: ${error.message}` }
    throw error
  }
}

const note = (notes: Note[], slug: string, reason: string): void => {
  if (notes.length < 64) notes.push({ slug, text: `zephyr-coredump: ${reason}` })
}

/** The last dump of a log is the crash that it was sent for. */
function fromLog(log: string): { dump: Uint8Array; notes: Note[] } {
  const notes: Note[] = []
  const begin = log.lastIndexOf(`${ZEPHYR_LINE}BEGIN#`)
  if (begin < 0) throw new InputError('dump-truncated', 'the log has no #CD:BEGIN#')
  const from = begin + ZEPHYR_LINE.length + 'BEGIN#'.length
  const end = log.indexOf(`${ZEPHYR_LINE}END#`, from)
  if (end < 0) note(notes, 'stream-truncated', 'the log ends before #CD:END#')
  const parts: Buffer[] = []
  for (const [, line] of log.slice(from, end < 0 ? undefined : end).matchAll(/#CD:(.*)/g)) {
    const hex = /^[0-9a-fA-F]*/.exec(line!)![0]
    if (hex === '' && line!.startsWith('ERROR')) note(notes, 'stream-truncated', `the device could not write all of it: ${line!.slice(0, 64).trim()}`)
    if (hex.length % 2 === 1) note(notes, 'stream-malformed', 'a line of hex was cut; what follows may be shifted')
    parts.push(Buffer.from(hex.slice(0, hex.length - (hex.length % 2)), 'hex'))
  }
  return { dump: Buffer.concat(parts), notes }
}

function readSections(file: Reader, budget: MinidumpBudget, notes: Note[]): Read {
  if (file.length < 12) throw new InputError('dump-truncated', `header: ${file.length} of 12 bytes`)
  if (file.u8() !== 0x5a || file.u8() !== 0x45) throw new InputError('dump-malformed', 'it does not begin with ZE')
  const version = file.u16()
  if (version === 0 || version > 2) throw new InputError('dump-malformed', `version ${version} of the format`)
  const code = file.u16()
  const target = TARGETS[code]
  if (target === undefined) throw new InputError('dump-malformed', `target ${code}`)
  const bits = file.u8()
  if (bits !== 5 && bits !== 6) throw new InputError('dump-malformed', `pointers of 2^${bits} bits`)
  const width = bits === 6 ? 8 : 4
  const reason = file.skip(1).u32()
  const read: Read = { target, cpu: cpuOf(target, width), width, reason, registers: null, pieces: [], kernel: null, notes }
  try {
    while (file.left > 0) if (!readSection(file, read, budget)) break
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    note(notes, error.slug === 'dump-truncated' ? 'stream-truncated' : 'stream-malformed', error.message)
  }
  return read
}

function cpuOf(target: Target, width: 4 | 8): Cpu {
  if (target === 'cortex-m') return 'arm'
  return target === 'riscv' ? (width === 8 ? 'riscv64' : 'riscv32') : target
}

function readSection(file: Reader, read: Read, budget: MinidumpBudget): boolean {
  const at = file.at
  const id = String.fromCharCode(file.u8())
  file.skip(2)
  switch (id) {
    case 'A': {
      const size = file.u16()
      const block = file.part(file.at, size, 'registers')
      file.skip(size)
      read.registers ??= readBlock(block, read)
      return true
    }
    case 'M': {
      const [start, end] = read.width === 8 ? [file.u64(), file.u64()] : [BigInt(file.u32()), BigInt(file.u32())]
      const size = end < start ? -1 : Number(end - start)
      if (size < 0) throw new InputError('dump-malformed', `memory from 0x${start.toString(16)} to 0x${end.toString(16)}`)
      const held = Math.min(size, file.left)
      if (read.pieces.length < budget.ranges && held > 0) read.pieces.push({ base: start, bytes: file.slice(file.at, held, 'memory') })
      if (held < size) note(read.notes, 'memory-truncated', `memory 0x${start.toString(16)}+${size} ends past the dump (${size - held} bytes missing)`)
      file.skip(held)
      return true
    }
    case 'T': {
      const size = file.u16()
      read.kernel ??= file.slice(file.at, size, 'thread metadata')
      file.skip(size)
      return true
    }
    default:
      // Flash and UART leave erased or idle bytes behind the last section.
      if (!file.bytes.subarray(at).every((byte) => byte === 0xff || byte === 0)) note(read.notes, 'stream-malformed', `section '${id.replace(/[^ -~]/, '?')}' at ${at} is unknown, and what follows it can not be read`)
      return false
  }
}

function readBlock(block: Reader, { target, width }: Read): Map<string, bigint> {
  // Xtensa names its chip (u8), the block's version (u16) and, from version 2 on, the toolchain (u8).
  if (target === 'xtensa') block.seek(block.skip(1).u16() >= 2 ? 4 : 3)
  const wide = target === 'x86-64' || target === 'arm64' || (target === 'riscv' && width === 8) ? 8 : 4
  const words = Math.floor(block.left / wide)
  const layout = target === 'riscv' && words < REGISTERS.riscv.length ? RV32E : xtensaLayout(target, words)
  const least = { x86: 11, 'x86-64': 13, 'cortex-m': 9, riscv: RV32E.length, xtensa: 21, arm64: 22 }[target]
  if (words < least) throw new InputError('dump-truncated', `registers: ${words} of at least ${least}`)
  return readRegisters(block, layout.slice(0, words), wide)
}

/** A chip without compare-and-swap has no SCOMPARE1, one without loops no loop registers. */
function xtensaLayout(target: Target, words: number): readonly string[] {
  const layout = REGISTERS[target]
  return target === 'xtensa' && (words === 21 || words === 24) ? layout.filter((name) => name !== 'scompare1') : layout
}

function dumpOf(read: Read, log: LogFacts, text: string | null): Dump {
  const { target, cpu, registers, pieces, notes, reason } = read
  const memory = createMemory(pieces)
  const os: Os = 'zephyr'
  const faults: FaultRegisters = target === 'cortex-m' ? { ...fromMemory(memory), ...log.registers } : {}
  const values = new Map(registers)
  if (target === 'cortex-m') {
    if (!withoutFrame(values, faults, notes)) aboveFrame(values, memory, faults, notes)
    for (const name of ['msp', 'psp'] as const) if (faults[name] !== undefined) values.set(name, BigInt(faults[name]))
  }
  const sp = values.get('sp') ?? values.get('a1') ?? values.get('esp') ?? values.get('rsp')
  const stack = memory.ranges().find(({ base, size }) => sp !== undefined && sp >= base && sp < base + BigInt(size)) ?? null
  const thread: DumpThread = { id: 0, name: null, registers: generalRegisters(values), stack, frames: null }
  const named = REASONS[reason] ?? `reason ${reason}`
  return {
    format: 'zephyr-coredump',
    os,
    osVersion: null,
    cpu,
    exception: exceptionOf(read, values, faults, text) ?? { type: named, code: reason, subcode: null, address: null, access: 'unknown' },
    crashingThread: 0,
    threads: [thread],
    modules: [firmware('firmware', codeRange(cpu, os), { buildId: log.buildId })],
    mainModule: 0,
    unloadedModules: [],
    memory,
    regions: [],
    annotations: { reason: named, ...describeRegisters(faults) },
    abortMessage: null,
    pid: null,
    createdAt: null,
    ...(read.kernel === null ? {} : { kernel: read.kernel }),
    notes,
  }
}

function fromMemory(memory: Memory): FaultRegisters {
  const found: FaultRegisters = {}
  for (const [name, { address }] of Object.entries(FAULT_REGISTERS)) {
    const value = address === null ? null : memory.u32(address)
    if (value !== null) found[name as FaultRegister] = value
  }
  return found
}

const FRAME = ['r0', 'r1', 'r2', 'r3', 'r12', 'lr', 'pc', 'cpsr'] as const
/** In the saved status register: the frame was aligned by one more word; Thumb state, which is the only one. */
const ALIGNED = 0x200n
const THUMB = 0x100_0000n
/** STKOF, STKERR, MSTKERR: the frame was not pushed, or not all of it. */
const NOT_PUSHED = (1 << 20) | (1 << 12) | (1 << 4)

/**
 * On a full stack the processor pushes no frame: the stack pointer stays at its limit, and what a handler takes for registers
 * is what lay there before. Then only the registers that the processor does not push are known, and the stack is searched.
 */
function withoutFrame(registers: Map<string, bigint>, faults: FaultRegisters, notes: Note[]): boolean {
  if (((faults.cfsr ?? 0) & NOT_PUSHED) === 0) return false
  const process = faults.exc_return !== undefined && usesProcessStack(faults.exc_return)
  const [pointer, limit] = process ? [faults.psp, faults.psplim] : [faults.msp, faults.msplim]
  const atLimit = pointer !== undefined && limit !== undefined && pointer <= limit
  if (!atLimit && (registers.get('cpsr')! & THUMB) !== 0n) return false
  const sp = pointer === undefined ? registers.get('sp')! - 32n : BigInt(pointer)
  for (const name of FRAME) registers.delete(name)
  registers.set('sp', sp < 0n ? 0n : sp)
  note(notes, 'frame-not-pushed', 'the stack was full: the processor pushed no registers, so the program counter is not known and callers are searched for')
  return true
}

/** Some handlers report the stack pointer as it was before the exception, Zephyr where the processor left its frame. */
function aboveFrame(registers: Map<string, bigint>, memory: Memory, faults: FaultRegisters, notes: Note[]): void {
  const sp = registers.get('sp')!
  if (!FRAME.every((name, index) => memory.u32(sp + BigInt(4 * index)) === Number(registers.get(name)))) return
  const size = faults.exc_return === undefined ? 32 : frameSize(faults.exc_return)
  registers.set('sp', sp + BigInt(size) + (registers.get('cpsr')! & ALIGNED ? 4n : 0n))
  note(notes, 'frame-skipped', `the stack pointer was at the exception frame, ${size} bytes below where the code had it`)
}

const NOT_GENERAL: ReadonlySet<string> = new Set(['vector', 'code', 'exccause', 'excvaddr', 'sar', 'scompare1', 'lbeg', 'lend', 'lcount'])
const generalRegisters = (registers: Map<string, bigint>): Map<string, bigint> => new Map([...registers].filter(([name]) => !NOT_GENERAL.has(name)))

function exceptionOf({ target }: Read, registers: Map<string, bigint>, faults: FaultRegisters, log: string | null): Exception | null {
  switch (target) {
    case 'cortex-m':
      return faultException(faults, registers.get('pc') ?? null)
    case 'xtensa':
      return xtensaException(Number(registers.get('exccause') ?? 0n), registers.get('excvaddr') ?? null)
    case 'riscv': {
      const [, cause] = /\bmcause:\s*(\d{1,3})\b/.exec(log ?? '') ?? []
      const [, value] = /\bmtval:\s*(?:0x)?([0-9a-f]{1,16})\b/i.exec(log ?? '') ?? []
      return cause === undefined ? null : riscvException(Number(cause), value === undefined ? null : BigInt(`0x${value}`))
    }
    case 'x86':
    case 'x86-64':
      return { type: `exception ${registers.get('vector') ?? 0n}`, code: Number(registers.get('vector') ?? 0n), subcode: Number((registers.get('code') ?? 0n) & 0xffffffffn), address: null, access: 'unknown' }
    case 'arm64':
      return null
  }
}
