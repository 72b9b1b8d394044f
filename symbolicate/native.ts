/**
 * From the bytes of a native dump to its frames and report: what the parsers' child process runs. Everything that the dump
 * can make expensive has a budget that belongs to the whole dump; what is left out is counted, never silently dropped.
 * Deterministic: the same bytes and symbols give the same answer. Time and memory are the parent's to watch.
 */
import type { AnalysisStatus, Report } from './contract.ts'
import type { Claims } from '../ingest/contract.ts'
import type { Dump, Module } from './formats/dump.ts'
import { parseElfCore } from './formats/elf-core.ts'
import { debugIdOf } from './formats/elf-core-modules.ts'
import { parseEspCoredump } from './formats/esp-coredump.ts'
import { parseEspPanic } from './formats/esp-panic.ts'
import { ramRange } from './formats/firmware.ts'
import { backedBy } from './formats/memory.ts'
import { parseMicrodump } from './formats/microdump.ts'
import { INCOMPLETE, MINIDUMP_BUDGET, type MinidumpBudget, parseMinidump, type ParseFailure } from './formats/minidump.ts'
import { type Format, sniff } from './formats/sniff.ts'
import { parseZephyrCoredump } from './formats/zephyr-coredump.ts'
import { withZephyrThreads } from './formats/zephyr-threads.ts'
import { buildReport, emptyReport, type SymbolStatuses } from './report.ts'
import type { ModuleIdentity, ModuleSymbols, SymbolSource, SymbolStatus } from './symbols/source.ts'
import { archOf } from './unwind/arch/choice.ts'
import { type Stack, UNWIND_BUDGET, type UnwindBudget } from './unwind/frame.ts'
import { createUnwinder, type SymbolsOf } from './unwind/unwind.ts'

export interface NativeBudget {
  minidump: MinidumpBudget
  /** For all threads together; each thread may keep `kept` frames. */
  unwind: UnwindBudget
}
export const NATIVE_BUDGET: NativeBudget = { minidump: MINIDUMP_BUDGET, unwind: UNWIND_BUDGET }

export interface NativeAnalysis {
  /** null when no parser could read it. */
  dump: Dump | null
  /** One per thread of the dump. */
  stacks: Stack[]
  report: Report
  status: AnalysisStatus
  statusReason: string
}

const PARSERS: Partial<Record<Format, (bytes: Uint8Array, budget: MinidumpBudget) => { dump: Dump } | ParseFailure>> = {
  minidump: parseMinidump, microdump: (bytes) => parseMicrodump(bytes), 'elf-core': parseElfCore, 'zephyr-coredump': parseZephyrCoredump, 'esp-coredump': parseEspCoredump, 'esp-panic': parseEspPanic,
}

export async function analyseNative(
  bytes: Uint8Array, contentType: string, symbols: SymbolSource, budget: NativeBudget = NATIVE_BUDGET, claims: Pick<Claims, 'buildId'> = {},
): Promise<NativeAnalysis> {
  const format = sniff(bytes, contentType)
  if (format === 'empty') return refused(format, 'dump-empty', 'dump: no bytes')
  const parse = PARSERS[format]
  if (parse === undefined) return refused(format, 'format-unknown', `dump: no native format that is read here (looks like ${format})`)
  const parsed = parse(bytes, budget.minidump)
  if (!('dump' in parsed)) return refused(format, parsed.slug, parsed.reason)
  const located = await withCodeInRam(identified(parsed.dump, claims), symbols)
  const modules = askOncePerModule(located, symbols)
  const listed = await withThreads(located, modules.symbolsOf)
  const stacks = await unwindAll(listed, modules.symbolsOf, budget.unwind)
  const dump = await withFaultingCode(listed, modules.symbolsOf)
  const { status, statusReason } = judge(dump, stacks)
  return { dump, stacks, report: buildReport(dump, stacks, modules.statuses), status, statusReason }
}

function refused(format: string, status: AnalysisStatus, statusReason: string): NativeAnalysis {
  return { dump: null, stacks: [], report: emptyReport(format, status), status, statusReason }
}

/** A program that its dump does not identify is the build that the device signed for. */
function identified(dump: Dump, { buildId }: Pick<Claims, 'buildId'>): Dump {
  const main = dump.mainModule === null ? undefined : dump.modules[dump.mainModule]
  if (buildId === undefined || main === undefined || main.codeId !== null || main.elfSha256 != null || main.debugId !== null) return dump
  const claimed = ({ codeId, debugId, ...module }: Module): Module => ({ ...module, codeId: buildId, debugId: debugIdOf(buildId) })
  const notes = [...dump.notes, { slug: 'build-claimed', text: `the dump names no build; the device claims ${buildId}` }]
  return { ...dump, notes, modules: dump.modules.map((module) => (module.name === main.name ? claimed(module) : module)) }
}

/** A function that was copied to RAM is code there, and nothing else in RAM is: the firmware's symbols tell. */
async function withCodeInRam(dump: Dump, source: SymbolSource): Promise<Dump> {
  const main = dump.mainModule === null ? undefined : dump.modules[dump.mainModule]
  const pc = dump.crashingThread === null ? undefined : dump.threads[dump.crashingThread]!.registers?.get('pc')
  const ram = ramRange(dump.cpu, dump.os)
  if (!main?.linked || ram === null || pc === undefined || pc < ram.base || pc >= ram.base + BigInt(ram.size)) return dump
  const module = { ...main, ...ram }
  const found = await source.find(identityOf(module))
  const hit = found.status === 'found' ? atLinkedAddresses(found.symbols, Number(ram.base)).lookup(Number(pc - ram.base)) : null
  return hit === null || hit.approximate ? dump : { ...dump, modules: [...dump.modules, module] }
}

async function withThreads(dump: Dump, symbolsOf: SymbolsOf): Promise<Dump> {
  if (dump.format !== 'zephyr-coredump' || dump.mainModule === null) return dump
  const symbols = await symbolsOf(dump.mainModule)
  return withZephyrThreads(dump, dump.kernel ?? null, symbols?.threadInfo ?? null)
}

/** Longer than any instruction. */
const INSTRUCTION = 16

/** Cores of Linux and dumps of microcontrollers hold data only: the instruction that failed is in the program's file. */
async function withFaultingCode(dump: Dump, symbolsOf: SymbolsOf): Promise<Dump> {
  const arch = archOf(dump.cpu, dump.os)
  const pc = arch === null || dump.crashingThread === null ? undefined : dump.threads[dump.crashingThread]?.registers?.get(arch.names[arch.ip]!)
  if (pc === undefined || dump.memory.u8(pc) !== null) return dump
  const index = dump.modules.findIndex(({ base, size }) => pc >= base && pc < base + BigInt(size))
  const symbols = index < 0 ? null : await symbolsOf(index)
  const bytes = symbols?.code?.(Number(pc - dump.modules[index]!.base), INSTRUCTION)
  return bytes ? { ...dump, memory: backedBy(dump.memory, { base: pc, bytes }) } : dump
}

const identityOf = ({ debugFile, debugId, codeId, elfSha256, linked }: Module): ModuleIdentity => ({ debugFile, debugId, codeId, elfSha256: elfSha256 ?? null, linked: linked ?? false })

function askOncePerModule(dump: Dump, source: SymbolSource): { symbolsOf: SymbolsOf; statuses: SymbolStatuses } {
  const asked = new Map<number, Promise<ModuleSymbols | null>>()
  const statuses = new Map<number, { status: SymbolStatus; reason: string | null }>()

  async function ask(index: number): Promise<ModuleSymbols | null> {
    const module = dump.modules[index]!
    const found = await source.find(identityOf(module))
    statuses.set(index, { status: found.status, reason: found.status === 'found' ? null : found.reason })
    if (found.status !== 'found') return null
    return module.linked ? atLinkedAddresses(found.symbols, Number(module.base)) : found.symbols
  }

  function symbolsOf(index: number): Promise<ModuleSymbols | null> {
    const known = asked.get(index) ?? ask(index)
    asked.set(index, known)
    return known
  }

  return { symbolsOf, statuses }
}

/** What a firmware's dump gives as its base is where this processor's code may begin, not where this build does. */
function atLinkedAddresses(symbols: ModuleSymbols, base: number): ModuleSymbols {
  const shift = base - (symbols.linkBase ?? base)
  if (shift === 0) return symbols
  return {
    lookup(offset) {
      const hit = offset + shift < 0 ? null : symbols.lookup(offset + shift)
      return hit && { ...hit, functionOffset: hit.functionOffset - shift }
    },
    cfi: (offset) => (offset + shift < 0 ? null : symbols.cfi(offset + shift)),
    code: (offset, length) => (offset + shift < 0 ? null : (symbols.code?.(offset + shift, length) ?? null)),
    ...(symbols.threadInfo === undefined ? {} : { threadInfo: symbols.threadInfo }),
  }
}

/** The crashing thread first, while the budget is fresh. */
async function unwindAll(dump: Dump, symbolsOf: SymbolsOf, budget: UnwindBudget): Promise<Stack[]> {
  const unwind = createUnwinder(dump, symbolsOf, budget)
  const stacks = new Array<Stack>(dump.threads.length)
  const order = dump.threads.map((_, index) => index).sort((a, b) => Number(b === dump.crashingThread) - Number(a === dump.crashingThread) || a - b)
  for (const index of order) stacks[index] = await unwind(dump.threads[index]!)
  return stacks
}

function judge(dump: Dump, stacks: readonly Stack[]): { status: AnalysisStatus; statusReason: string } {
  const missing = dump.notes.find((note) => INCOMPLETE.has(note.slug))
  if (missing) return { status: 'partial', statusReason: missing.text }
  const short = stacks.filter((stack) => stack.end === 'budget').length
  if (short > 0) return { status: 'partial', statusReason: `${short} of ${stacks.length} threads were not walked to their end: the dump's budget was used up` }
  return { status: 'ok', statusReason: '' }
}
