/**
 * Reports of the sanitizers: AddressSanitizer, HWAddressSanitizer, MemorySanitizer, ThreadSanitizer, LeakSanitizer,
 * UndefinedBehaviorSanitizer and GWP-ASan.
 *
 *   log     = (noise | report)*
 *   report  = header line*                          a header starts the next report
 *   header  = '==' pid '==' ('ERROR' | 'WARNING') ': ' tool 'Sanitizer: ' text
 *           | 'WARNING: ThreadSanitizer: ' text | 'FATAL: ThreadSanitizer: ' text
 *           | file ':' line [':' column] ': runtime error: ' text
 *           | '*** GWP-ASan detected a memory error ***'
 *   line    = frame | note
 *
 * The frames after a note form one stack and the note says whose it is ("freed by thread T0 here:"). One log may hold
 * several reports; the first that ends the program is the crash, the others are counted in the notes. A report of
 * UndefinedBehaviorSanitizer goes before the abort, trap or illegal instruction that it causes itself.
 *
 * Source: compiler-rt's asan_errors.cpp, asan_descriptions.cpp, hwasan_report.cpp, ubsan_diag.cpp, tsan_report.cpp,
 * msan_report.cpp, gwp_asan/optional/segv_handler_posix.cpp. Linear in the bytes: each line is looked at once.
 */
import type { Access, Dump, DumpThread, Module, Note, TextFrame } from './dump.ts'
import { createMemory } from './memory.ts'
import { parseFrameLine } from './text/frame-line.ts'
import { linesOf, TEXT_BUDGET, type TextBudget } from './text/lines.ts'
import { GWP_TYPES, HEADER_TYPES, KIND_OF_TYPE, UBSAN_CHECKS, type SanitizerKind, type SanitizerTool } from './text/sanitizer-kinds.ts'

/** What a report says beside its stacks. */
export interface SanitizerFacts {
  tool: SanitizerTool
  /** As in SUMMARY: `heap-buffer-overflow`, `SEGV`, `bad-cast`. */
  type: string
  kind: SanitizerKind
  access: Access
  accessSize: number | null
  address: bigint | null
  pc: bigint | null
  sp: bigint | null
  /** `0x.. is located 4 bytes after 120-byte region`: where the address lies, in the report's words. */
  region: string | null
  hints: string[]
  summary: string | null
  /** The text of an assertion or check that was printed before the program ended. */
  assertion: string | null
}

export type SanitizerResult = { dump: Dump; facts: SanitizerFacts } | { slug: 'report-missing' | 'dump-empty'; reason: string }

interface Stack { role: 'crash' | 'free' | 'alloc' | 'other'; label: string; frames: TextFrame[]; omitted: number }
interface Draft { facts: SanitizerFacts; stacks: Stack[]; start: number; pid: number | null }

export function parseSanitizer(bytes: Uint8Array, budget: TextBudget = TEXT_BUDGET): SanitizerResult {
  if (bytes.length === 0) return { slug: 'dump-empty', reason: 'sanitizer log: no bytes' }
  const { lines, notes } = linesOf(bytes, budget)
  const modules = new Map<string, Module>()
  const drafts = readReports(lines, budget, modules)
  const chosen = chooseReport(drafts)
  if (!chosen) return { slug: 'report-missing', reason: `sanitizer log: no report in ${lines.length} lines` }
  if (drafts.length > 1) notes.push({ slug: 'several-reports', text: `log holds ${drafts.length} reports; this is number ${drafts.indexOf(chosen) + 1}, the first that ended the program` })
  chosen.facts.assertion = assertionBefore(lines, chosen.start)
  return { dump: dumpOf(chosen, [...modules.values()], notes), facts: chosen.facts }
}

/** Does this text look like a sanitizer's? Used to tell the text formats apart. */
export const looksLikeSanitizer = (text: string): boolean =>
  /Sanitizer: |: runtime error: |GWP-ASan detected a memory error/.test(text)

function readReports(lines: string[], budget: TextBudget, modules: Map<string, Module>): Draft[] {
  const drafts: Draft[] = []
  let current: Draft | null = null
  let stack: Stack | null = null
  let label: string | null = null
  let frames = 0
  for (const [number, line] of lines.entries()) {
    const header = readHeader(line)
    if (header) {
      current = { facts: header.facts, stacks: [], start: number, pid: header.pid }
      if (drafts.length < 1_000) drafts.push(current)
      stack = null
      label = null
      continue
    }
    if (!current) continue
    const parsed = parseFrameLine(line)
    if (!parsed) {
      readNote(line, current.facts)
      const marker = stackLabel(line)
      if (marker !== null) { label = marker; stack = null }
      continue
    }
    if (!stack || parsed.index < stack.frames.length + stack.omitted) {
      stack = { role: roleOf(label, current.stacks.length), label: label ?? '', frames: [], omitted: 0 }
      label = null
      if (current.stacks.length < 16) current.stacks.push(stack)
    }
    if (stack.frames.length < budget.frames && frames < budget.frames * 16) {
      markInlined(stack.frames, parsed.frame)
      stack.frames.push(parsed.frame)
      frames++
      rememberModule(parsed.frame, parsed.buildId, modules)
    } else stack.omitted++
  }
  return drafts
}

/** First the report that ended the program; a UBSan report before the signal that it raised itself; else simply the first. */
function chooseReport(drafts: Draft[]): Draft | null {
  const fatal = drafts.find(({ facts }) => ['asan', 'hwasan', 'msan', 'gwp-asan'].includes(facts.tool) || (facts.tool === 'ubsan' && SIGNAL_TYPES.has(facts.type)))
  // What leaked directly keeps what leaked through it alive.
  if (!fatal) return drafts.find(({ facts }) => facts.tool === 'lsan' && facts.hints.some((hint) => hint.startsWith('Direct'))) ?? drafts[0] ?? null
  if (!['ABRT', 'TRAP', 'ILL'].includes(fatal.facts.type)) return fatal
  return drafts.slice(0, drafts.indexOf(fatal)).findLast(({ facts }) => facts.tool === 'ubsan') ?? fatal
}
const SIGNAL_TYPES = new Set(['SEGV', 'BUS', 'FPE', 'ILL', 'ABRT', 'TRAP', 'stack-overflow'])

const TOOL_NAMES: Readonly<Record<string, SanitizerTool>> = {
  AddressSanitizer: 'asan', HWAddressSanitizer: 'hwasan', LeakSanitizer: 'lsan', MemorySanitizer: 'msan',
  ThreadSanitizer: 'tsan', UndefinedBehaviorSanitizer: 'ubsan',
}

function readHeader(line: string): { facts: SanitizerFacts; pid: number | null } | null {
  if (line.includes('GWP-ASan detected a memory error')) return { facts: factsOf('gwp-asan', 'gwp-asan', 'heap-corruption', ''), pid: null }
  const report = /(?:==(\d{1,10})==\s?)?(?:ERROR|WARNING|FATAL): (\w{1,24}Sanitizer): /.exec(line)
  const tool = report ? TOOL_NAMES[report[2]!] : undefined
  if (report && tool) {
    const text = line.slice(report.index + report[0].length)
    const type = headerType(text)
    const kind = KIND_OF_TYPE[type]
    // "WARNING: AddressSanitizer: failed to ..." and the like talk about the sanitizer itself.
    if (kind === undefined && (report[0].includes('WARNING') || !/^[a-z][a-z-]{2,60}\b/.test(text))) return null
    return { facts: factsOf(tool, type, kind ?? 'unknown', text), pid: report[1] ? Number(report[1]) : null }
  }
  const at = line.indexOf(': runtime error: ')
  if (at < 0 || !/:\d{1,9}(?::\d{1,9})?$/.test(line.slice(0, at))) return null
  const text = line.slice(at + ': runtime error: '.length)
  const check = UBSAN_CHECKS.find(({ contains }) => text.includes(contains))!
  const facts = factsOf('ubsan', check.type, check.kind, text)
  facts.access = check.access ?? wordAccess(text)
  facts.summary = text.slice(0, 200)
  return { facts, pid: null }
}

function headerType(text: string): string {
  const known = HEADER_TYPES.find(([starts]) => text.startsWith(starts))
  return known ? known[1] : /^[\w-]{1,60}/.exec(text)?.[0] ?? 'unknown'
}

const factsOf = (tool: SanitizerTool, type: string, kind: SanitizerKind, text: string): SanitizerFacts => ({
  tool, type, kind, access: kind === 'double-free' || kind === 'invalid-free' ? 'free' : 'unknown', accessSize: null,
  address: hexAfter(text, 'address ') ?? hexAfter(text, ' on ') ?? hexAfter(text, 'malloc()-ed: '),
  pc: hexAfter(text, 'pc '), sp: hexAfter(text, 'sp '), region: null, hints: [], summary: null, assertion: null,
})

/** Lines between the stacks that say what was accessed, and where it lies. */
function readNote(line: string, facts: SanitizerFacts): void {
  const access = /^\s{0,8}(?:\[[^\]]{0,20}\] )?(READ|WRITE|Read|Write|Atomic read|Atomic write) of size (\d{1,12}) at (0x[0-9a-f]{1,16})/.exec(line)
  if (access && facts.accessSize === null) {
    facts.access = access[1]!.toLowerCase().includes('write') ? 'write' : 'read'
    facts.accessSize = Number(access[2])
    facts.address ??= BigInt(access[3]!)
    return
  }
  const gwp = facts.tool === 'gwp-asan' && facts.type === 'gwp-asan' ? GWP_TYPES.find(([starts]) => line.trimStart().startsWith(starts)) : undefined
  if (gwp) {
    facts.type = gwp[1]
    facts.kind = gwp[2]
    facts.address = hexAfter(line, ' at ')
    facts.region = between(line, '(', ')')
    if (facts.kind === 'double-free' || facts.kind === 'invalid-free') facts.access = 'free'
    return
  }
  if (line.includes('The signal is caused by a ')) {
    if (line.includes(' READ ')) facts.access = 'read'
    else if (line.includes(' WRITE ')) facts.access = 'write'
  } else if (line.includes('SUMMARY: ')) facts.summary ??= line.slice(line.indexOf('SUMMARY: ') + 9)
  else if (line.includes('Hint: ')) { if (facts.hints.length < 8) facts.hints.push(line.slice(line.indexOf('Hint: ') + 6)) }
  else if (facts.tool === 'hwasan' && line.includes('Cause: ')) {
    const cause = line.slice(line.indexOf('Cause: ') + 7).trim()
    const kind = cause === 'use-after-free' ? 'use-after-free' : KIND_OF_TYPE[cause]
    if (kind !== undefined && kind !== 'segv') { facts.kind = kind; facts.type = cause }
  } else if (facts.tool === 'tsan' && line.includes('Location is ')) facts.region ??= line.trim().slice(0, 300)
  else if (facts.region === null && (line.includes(' is located ') || line.includes(' allocated heap chunk'))) facts.region = line.trim().slice(0, 300)
  else if (facts.tool === 'lsan' && facts.hints.length < 8 && /^(?:Direct|Indirect) leak of /.test(line)) facts.hints.push(line.slice(0, 120))
}

/** A line that announces a stack, else null. Other lines between frames are noise and end nothing. */
const stackLabel = (line: string): string | null =>
  /(?:here|by thread T\w{1,12}|allocated from|stack trace|created at|created by|by main thread|stored to memory at|mutexes?: .{0,80}\)):?\s*:?$/.test(line) || / leak of \d/.test(line)
    || /^\s{0,4}(?:Previous |Atomic )?(?:read|write|Read|Write|READ|WRITE) of size /.test(line) || /created by .{1,60} at:?$/.test(line) ? line.trim().slice(0, 120) : null

function roleOf(label: string | null, before: number): Stack['role'] {
  const text = label?.toLowerCase() ?? ''
  if (before === 0) return 'crash'
  if (text.includes('freed') || text.includes('deallocated')) return 'free'
  if (text.includes('allocated') || text.includes('allocation')) return 'alloc'
  return 'other'
}

/** Calls inlined into one are printed as frames of one address; a function that comes twice at one address is recursion. */
function markInlined(frames: TextFrame[], next: TextFrame): void {
  const last = frames.at(-1)
  if (last === undefined || next.address === null || last.address !== next.address) return
  for (let i = frames.length - 1; i >= 0 && frames[i]!.address === next.address && (i === frames.length - 1 || frames[i]!.inline); i--) {
    if (frames[i]!.function === next.function) return
  }
  last.inline = true
}

function rememberModule(frame: TextFrame, buildId: string | null, modules: Map<string, Module>): void {
  if (frame.module === null || modules.size >= 2_000) return
  const known = modules.get(frame.module)
  if (known) { known.codeId ??= buildId; return }
  const base = frame.address !== null && frame.moduleOffset !== null ? frame.address - BigInt(frame.moduleOffset) : 0n
  modules.set(frame.module, { base: base < 0n ? 0n : base, size: 0, name: frame.module, codeId: buildId, debugId: null, debugFile: null, version: null })
}

/** Programs check themselves and then abort: what they printed last before the report names the check. */
function assertionBefore(lines: string[], start: number): string | null {
  for (let i = start - 1; i >= Math.max(0, start - 200); i--) {
    const line = lines[i]!
    // V8 prints the place on this line and what failed on the next.
    if (line.startsWith('# Fatal error in ')) return lines[i + 1]?.replace(/^[#\s]{0,8}/, '').slice(0, 300) || null
    for (const [mark, end] of ASSERTIONS) {
      const at = line.indexOf(mark)
      if (at >= 0) return (end === '' ? line.slice(at + mark.length) : line.slice(at + mark.length).split(end, 1)[0]!).trim().slice(0, 300) || null
    }
  }
  return null
}
const ASSERTIONS: readonly (readonly [mark: string, end: string])[] = [
  ['Check failed: ', ''], ['Debug check failed: ', ''], ['CHECK failed: ', ''], ['Assertion `', "' failed"], ['Assertion failed: ', ''],
  ['ASSERTION FAILED: ', ''], ['NOTREACHED hit. ', ''], ['panic: ', ''], ['panicked at ', ''],
]

function dumpOf({ facts, stacks, pid }: Draft, modules: Module[], notes: Note[]): Dump {
  for (const stack of stacks) if (stack.omitted > 0) notes.push({ slug: 'frames-omitted', text: `stack "${stack.label || stack.role}": ${stack.omitted} frames left out` })
  modules.sort((a, b) => (a.base < b.base ? -1 : a.base > b.base ? 1 : 0))
  const threads = stacks.map((stack, id): DumpThread => ({
    id, name: stack.role === 'crash' && id === 0 ? null : stack.label || stack.role, registers: null, stack: null, frames: stack.frames,
  }))
  return {
    format: 'sanitizer', os: 'unknown', osVersion: null, cpu: 'unknown',
    exception: { type: facts.type, code: 0, subcode: null, address: facts.address, access: facts.access },
    crashingThread: threads.length > 0 ? 0 : null, threads, modules, mainModule: null, unloadedModules: [], memory: createMemory([]), regions: [],
    annotations: {}, abortMessage: facts.assertion ?? (facts.tool === 'ubsan' ? facts.summary : null), pid, createdAt: null, notes,
  }
}

const wordAccess = (text: string): Access => (text.startsWith('load of') ? 'read' : text.startsWith('store to') ? 'write' : 'unknown')

function hexAfter(text: string, mark: string): bigint | null {
  for (let at = text.indexOf(mark); at >= 0; at = text.indexOf(mark, at + 1)) {
    const digits = /^(?:0x)?([0-9a-fA-F]{1,16})\b/.exec(text.slice(at + mark.length, at + mark.length + 20))
    if (digits && (digits[0].startsWith('0x') || digits[1]!.length >= 8)) return BigInt(`0x${digits[1]}`)
  }
  return null
}

function between(text: string, open: string, close: string): string | null {
  const start = text.indexOf(open)
  const end = text.indexOf(close, start + 1)
  return start < 0 || end < 0 ? null : text.slice(start + 1, end)
}
