/**
 * What the rules ask about a crash, worked out once: which signal, which address and how it is known, where it and the
 * program counter lie, what the instruction did, which functions stand on the stack. What the dump doesn't say is null.
 */
import type { Claims } from '../../ingest/contract.ts'
import type { AddressClass, Report } from '../contract.ts'
import type { Access, Dump, MemoryRegion, Module } from '../formats/dump.ts'
import type { SanitizerFacts } from '../formats/sanitizer.ts'
import { LISTS } from '../signature/lists.ts'
import { normaliseName } from '../signature/normalise.ts'
import { faultingInstruction, type Instruction } from './instruction.ts'

export interface Situation {
  dump: Dump
  report: Report
  claims: Claims
  sanitizer: SanitizerFacts | null
  /** `SIGSEGV`, `EXC_BAD_ACCESS`, `EXCEPTION_ACCESS_VIOLATION_READ`; empty without an exception. */
  signal: string
  /** `SEGV_MAPERR`, `FPE_INTDIV`, `KERN_INVALID_ADDRESS`. */
  code: string
  /** A memory access failed. */
  memoryFault: boolean
  /** Of the failed access; null where the signal carries none, or a pid in its place. */
  address: bigint | null
  addressFrom: 'dump' | 'instruction' | null
  access: Access
  accessFrom: 'dump' | 'instruction' | null
  pc: bigint | null
  sp: bigint | null
  /** Registers of the crashing thread, its general ones. */
  registers: [name: string, value: bigint][]
  instruction: Instruction | null
  pcModule: Module | null
  pcRegion: MemoryRegion | null
  pcOutsideModules: boolean
  addressClass: AddressClass
  /** Normalised names of the crashing thread's top frames: exact, or close to a public name. */
  functions: string[]
  /** Module of each of `functions`. */
  functionModules: (string | null)[]
  /** Everything the program said before it ended, in one text. */
  message: string
}

export interface SituationInput { dump: Dump; report: Report; claims: Claims; sanitizer?: SanitizerFacts | null }

export const NEAR_NULL = 0x1000n
/** CASR's bound: a member of a large structure behind a null pointer. */
export const SMALL_OFFSET = 0x1_0000n

export function situationOf({ dump, report, claims, sanitizer = null }: SituationInput): Situation {
  const exception = dump.exception
  const [signal = '', code = ''] = (exception?.type ?? '').split(' / ')
  const thread = dump.crashingThread === null ? undefined : dump.threads[dump.crashingThread]
  const registers = thread?.registers ?? null
  const pc = sanitizer?.pc ?? register(registers, ['rip', 'pc', 'eip', 'r15'], report)
  const sp = sanitizer?.sp ?? register(registers, ['rsp', 'sp', 'esp', 'r13'], report)
  const memoryFault = MEMORY_FAULTS.test(signal) || sanitizer?.kind === 'segv'
  const instruction = faultingInstruction(dump, registers, pc)
  const operand = memoryFault && instruction !== null && !['call', 'jump', 'return'].includes(instruction.does) ? instruction.address : null
  const told = toldAddress(signal, code, exception?.address ?? null, memoryFault, operand !== null && isNonCanonical(dump, operand))
  const computed = told === null ? operand : null
  const address = sanitizer ? sanitizer.address : told ?? computed
  // Windows says "read" for every address that is not canonical.
  const stated = sanitizer?.access ?? (told === null && computed !== null ? 'unknown' : exception?.access ?? 'unknown')
  const decoded = memoryFault && stated === 'unknown' && instruction !== null && !(address !== null && address === pc) ? instruction.access : 'unknown'
  const pcModule = pc === null ? null : moduleAt(dump, pc)
  const pcRegion = pc === null ? null : regionAt(dump, pc)
  const top = topFunctions(report)
  return {
    dump, report, claims, sanitizer, signal, code, memoryFault, address,
    addressFrom: address === null ? null : told !== null || sanitizer ? 'dump' : 'instruction',
    access: stated !== 'unknown' ? stated : decoded,
    accessFrom: stated !== 'unknown' ? 'dump' : decoded !== 'unknown' ? 'instruction' : null,
    pc, sp, registers: generalRegisters(registers), instruction, pcModule, pcRegion,
    pcOutsideModules: pc !== null && dump.modules.some(({ size }) => size > 0) && pcModule === null && !/^\[?(?:vdso|linux-gate)/.test(pcRegion?.name ?? ''),
    addressClass: classOf(dump, address, sp, thread?.stack ?? null),
    functions: top.map(({ name }) => name), functionModules: top.map(({ module }) => module),
    message: [dump.abortMessage, report.crash_info.assertion].filter((text) => text !== null && text !== '').join('\n').slice(0, 4_096),
  }
}

const MEMORY_FAULTS = new RegExp(`^(?:${[
  'SIGSEGV', 'SIGBUS', 'EXC_BAD_ACCESS', 'EXCEPTION_ACCESS_VIOLATION', 'EXCEPTION_IN_PAGE_ERROR', 'EXCEPTION_GUARD_PAGE',
  // Cortex-M, Xtensa, RISC-V: formats/cortex-m-fault.ts, formats/mcu-cause.ts.
  'MemManage', 'BusFault', 'LoadProhibited', 'StoreProhibited', 'InstrFetchProhibited', 'InstructionFetchError', 'LoadStore(?!Alignment)', 'InstTLB', 'InstFetch', 'InstrP',
  '(?:Instruction|Load|Store) (?:access|page) fault',
].join('|')})`)

/** No memory failed, but the processor met something that is no code for it. */
export const NO_INSTRUCTION = /^SIG(?:ILL|TRAP)|^EXC_BAD_INSTRUCTION|^EXCEPTION_ILLEGAL|^UsageFault|^HardFault|^Illegal ?Instruction/i

/**
 * x86-64 says 0 for an address that is not canonical (SI_KERNEL, which older clients don't record); a signal that a
 * process sent carries its pid there.
 */
function toldAddress(signal: string, code: string, address: bigint | null, memoryFault: boolean, operandNonCanonical: boolean): bigint | null {
  if (address === null || !memoryFault || /^SI_/.test(code)) return null
  if (address === 0n && code === '' && operandNonCanonical) return null
  // Windows says all ones for what is not canonical.
  if (signal.startsWith('EXCEPTION_ACCESS_VIOLATION') && address === 0xffff_ffff_ffff_ffffn) return null
  return address
}

function classOf(dump: Dump, address: bigint | null, sp: bigint | null, stack: { base: bigint; size: number } | null): AddressClass {
  if (address === null) return 'unknown'
  if (address === 0n) return 'null'
  if (address < NEAR_NULL) return 'near-null'
  if (address < SMALL_OFFSET) return 'small-offset'
  if (isNonCanonical(dump, address)) return 'non-canonical'
  if (stack !== null && address >= stack.base && address < stack.base + BigInt(stack.size)) return 'stack'
  const region = regionAt(dump, address)
  if (region !== null) {
    if (/^\[(?:stack|anon:stack_and_tls)/.test(region.name ?? '') || (sp !== null && inside(region, sp))) return 'stack'
    if (/^\[(?:heap|anon:(?:libc_malloc|scudo|GWP-ASan))/.test(region.name ?? '')) return 'heap'
    if (region.execute) return 'code'
    return region.read || region.write ? 'data' : 'unmapped'
  }
  if (moduleAt(dump, address) !== null) return dump.regions.length > 0 ? 'unmapped' : 'data'
  return dump.regions.length > 0 ? 'unmapped' : 'unknown'
}

/** x86-64: bits 63..47 are equal. arm64: bits 55..48 are, the top byte may be a tag. */
export function isNonCanonical({ cpu }: Pick<Dump, 'cpu'>, address: bigint): boolean {
  if (cpu === 'x86-64') {
    const top = address >> 47n
    return top !== 0n && top !== 0x1ffffn
  }
  if (cpu !== 'arm64') return false
  const top = (address >> 48n) & 0xffn
  return top !== 0n && top !== 0xffn
}

export const regionAt = (dump: Dump, address: bigint): MemoryRegion | null => dump.regions.find((region) => inside(region, address)) ?? null
export const moduleAt = (dump: Dump, address: bigint): Module | null => dump.modules.find(({ base, size }) => address >= base && address < base + BigInt(size)) ?? null
const inside = (region: MemoryRegion, address: bigint): boolean => address >= region.base && address < region.base + region.size

function register(registers: Map<string, bigint> | null, names: string[], report: Report): bigint | null {
  for (const name of names) {
    const value = registers?.get(name)
    if (value !== undefined) return value
  }
  // A text format's frame 0 is the program counter; it has no stack pointer.
  const first = names.includes('pc') && report.format !== 'js-stack' ? report.crashing_thread?.frames[0] : undefined
  return first?.trust === 'context' && /^0x[0-9a-f]{1,16}$/.test(first.offset) ? BigInt(first.offset) : null
}

/** Instruction and stack pointer, flags and segments hold no data of the program's. */
const NOT_GENERAL = /^(?:rip|eip|pc|r15|rsp|esp|sp|r13|eflags|rflags|cpsr|fpscr|fpcr|fpsr|[c-gs]s)$/

const generalRegisters = (registers: Map<string, bigint> | null): [string, bigint][] =>
  registers === null ? [] : [...registers].filter(([name]) => !(registers.has('rip') ? /^(?:rip|rsp|eflags|rflags|[c-gs]s)$/ : NOT_GENERAL).test(name))

/** A public name is taken for the function itself only close to it: C libraries name one function in three. */
const NEAR_PUBLIC = 0x200

function topFunctions(report: Report): { name: string; module: string | null }[] {
  const names: { name: string; module: string | null }[] = []
  for (const frame of report.crashing_thread?.frames.slice(0, 24) ?? []) {
    // A scanned frame may be an old return address: it counts only as one more step of the abort above it.
    if (frame.trust === 'scan' && LISTS.wrappers(normaliseName(frame.function ?? '')) === null) break
    for (const inline of frame.inlines ?? []) names.push({ name: normaliseName(inline.function), module: frame.module })
    const near = !frame.approximate || Number(frame.function_offset ?? '0x7fffffff') < NEAR_PUBLIC
    names.push({ name: frame.function !== null && near ? normaliseName(frame.function) : '', module: frame.module })
  }
  return names.slice(0, 64)
}
