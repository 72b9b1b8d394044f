/**
 * From the bytes of a native dump to its frames and report: what the parsers' child process runs. Everything that the dump
 * can make expensive has a budget that belongs to the whole dump; what is left out is counted, never silently dropped.
 * Deterministic: the same bytes and symbols give the same answer. Time and memory are the parent's to watch.
 */
import type { AnalysisStatus, Report } from './contract.ts'
import type { Dump } from './formats/dump.ts'
import { parseMicrodump } from './formats/microdump.ts'
import { INCOMPLETE, MINIDUMP_BUDGET, type MinidumpBudget, parseMinidump } from './formats/minidump.ts'
import { sniff } from './formats/sniff.ts'
import { buildReport, emptyReport, type SymbolStatuses } from './report.ts'
import type { ModuleSymbols, SymbolSource, SymbolStatus } from './symbols/source.ts'
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

export async function analyseNative(bytes: Uint8Array, contentType: string, symbols: SymbolSource, budget: NativeBudget = NATIVE_BUDGET): Promise<NativeAnalysis> {
  const format = sniff(bytes, contentType)
  if (format === 'empty') return refused(format, 'dump-empty', 'dump: no bytes')
  if (format !== 'minidump' && format !== 'microdump') return refused(format, 'format-unknown', `dump: no native format that is read here (looks like ${format})`)
  const parsed = format === 'minidump' ? parseMinidump(bytes, budget.minidump) : parseMicrodump(bytes)
  if (!('dump' in parsed)) return refused(format, parsed.slug, parsed.reason)
  const { dump } = parsed
  const modules = askOncePerModule(dump, symbols)
  const stacks = await unwindAll(dump, modules.symbolsOf, budget.unwind)
  const { status, statusReason } = judge(dump, stacks)
  return { dump, stacks, report: buildReport(dump, stacks, modules.statuses), status, statusReason }
}

function refused(format: string, status: AnalysisStatus, statusReason: string): NativeAnalysis {
  return { dump: null, stacks: [], report: emptyReport(format, status), status, statusReason }
}

function askOncePerModule(dump: Dump, source: SymbolSource): { symbolsOf: SymbolsOf; statuses: SymbolStatuses } {
  const asked = new Map<number, Promise<ModuleSymbols | null>>()
  const statuses = new Map<number, { status: SymbolStatus; reason: string | null }>()

  async function ask(index: number): Promise<ModuleSymbols | null> {
    const module = dump.modules[index]!
    const found = await source.find({ debugFile: module.debugFile, debugId: module.debugId, codeId: module.codeId })
    statuses.set(index, { status: found.status, reason: found.status === 'found' ? null : found.reason })
    return found.status === 'found' ? found.symbols : null
  }

  function symbolsOf(index: number): Promise<ModuleSymbols | null> {
    const known = asked.get(index) ?? ask(index)
    asked.set(index, known)
    return known
  }

  return { symbolsOf, statuses }
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
