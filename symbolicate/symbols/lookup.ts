/**
 * Look-ups in prepared symbols: binary search on numbers, strings only for the answer.
 *
 * PUBLIC records have no length, so a name may be shown for code far behind it: in Debian's libc, whose .sym has only
 * exported names, abort()'s frames read `pthread_key_delete + 0x14c` where the code is __pthread_kill_implementation.
 * The unwind records tell the two apart, because each STACK CFI INIT (and STACK WIN) covers one function:
 *   - a record covers the address: the name is exact when it starts inside of that record, else approximate;
 *   - no record covers it: approximate when a record starts between the name and the address, or when the name is more
 *     than a page away.
 * Checked against the corpus: gsignal, abort, malloc, __assert_fail and __libc_start_main stay exact; pthread_key_delete,
 * __fsetlocking, timer_settime, __default_morecore and __xmknodat (really clone3) become approximate.
 */
import { threadInfoOf } from './elf/thread-info.ts'
import type { CfiRules, ModuleSymbols, SymbolHit, WindowsFrame } from './source.ts'
import { lastRow, NONE, SECTIONS, type Tables } from './tables.ts'

/** Deeper nesting than compilers make is a bomb. */
const DEEPEST_INLINE = 128
const FARTHEST_PUBLIC = 4096
const CACHED_RULES = 4096
const CACHED_SNAPSHOTS = 64
const SNAPSHOT = 64
/** More than any CPU has registers. */
const MOST_RULES = 64

const UTF8 = new TextDecoder()

export interface SymbolIdentity { os: string; arch: string; debugId: string; name: string }

export function identityOf(tables: Tables): SymbolIdentity {
  const [os, arch, debugId, name] = [0, 1, 2, 3].map((column) => text(tables, tables.identity[column]!))
  return { os: os!, arch: arch!, debugId: debugId!, name: name! }
}

export function createLookup(tables: Tables): ModuleSymbols {
  const { functions, lines, inlines, publics, cfi, deltas, programs, fpo, codeRanges, code } = tables
  const parsedRules = new Map<number, [string, string][]>()
  const snapshots = new Map<number, Map<string, string>[]>()

  function lookup(offset: number): SymbolHit | null {
    const row = lastRow(functions, SECTIONS.functions, offset)
    if (row >= 0) {
      const at = row * SECTIONS.functions
      if (offset - functions[at]! < functions[at + 1]!) return functionHit(at, offset)
    }
    return publicHit(offset, row < 0 ? -1 : functions[row * SECTIONS.functions]!)
  }

  /**
   * The symbol file names where each inlined function was called from; a frame wants where each function is. So the
   * places move one level out: the outer function is at the outermost call site, the innermost one at the line record.
   */
  function functionHit(at: number, offset: number): SymbolHit {
    const line = innermostLine(at, offset)
    const calls = inlineCalls(at, offset)
    const place = (depth: number): { file: string | null; line: number | null } => {
      const call = calls[depth]
      return call === undefined ? line : { file: optional(inlines[call + 4]!), line: inlines[call + 5]! || null }
    }
    const inlined = calls.map((call, depth) => ({ function: text(tables, inlines[call + 3]!), ...place(depth + 1) })).reverse()
    return { function: text(tables, functions[at + 2]!), functionOffset: functions[at]!, ...place(0), inlines: inlined, approximate: false }
  }

  function innermostLine(at: number, offset: number): { file: string | null; line: number | null } {
    const row = lastRow(lines, SECTIONS.lines, offset, functions[at + 3]!, functions[at + 4]!)
    const line = row * SECTIONS.lines
    if (row < 0 || offset - lines[line]! >= lines[line + 1]!) return { file: null, line: null }
    return { file: optional(lines[line + 2]!), line: lines[line + 3]! || null }
  }

  /** Rows of `inlines` that hold `offset`, outermost first: for each depth the last row that starts at or before it. */
  function inlineCalls(at: number, offset: number): number[] {
    const calls: number[] = []
    const end = functions[at + 6]!
    let from = functions[at + 5]!
    for (let depth = 0; depth < DEEPEST_INLINE; depth++) {
      let low = from
      let high = end
      while (low < high) {
        const middle = ((low + high) >>> 1) * SECTIONS.inlines
        const before = inlines[middle]! < depth || (inlines[middle]! === depth && inlines[middle + 1]! <= offset)
        if (before) low = middle / SECTIONS.inlines + 1
        else high = middle / SECTIONS.inlines
      }
      const row = (low - 1) * SECTIONS.inlines
      if (low - 1 < from || inlines[row]! !== depth || offset - inlines[row + 1]! >= inlines[row + 2]!) break
      calls.push(row)
      from = low
    }
    return calls
  }

  /** A PUBLIC can't reach past a FUNC: where one starts in between, nothing is known. */
  function publicHit(offset: number, nearestFunction: number): SymbolHit | null {
    const row = lastRow(publics, SECTIONS.publics, offset) * SECTIONS.publics
    if (row < 0 || publics[row]! <= nearestFunction) return null
    const start = publics[row]!
    return { function: text(tables, publics[row + 1]!), functionOffset: start, file: null, line: null, inlines: [], approximate: isApproximate(start, offset) }
  }

  function isApproximate(start: number, offset: number): boolean {
    for (const [table, stride] of [[cfi, SECTIONS.cfi], [programs, SECTIONS.programs], [fpo, SECTIONS.fpo]] as const) {
      const at = lastRow(table, stride, offset) * stride
      if (at < 0) continue
      if (table[at]! > start) return true
      if (offset - table[at]! < table[at + 1]!) return false
    }
    return offset - start > FARTHEST_PUBLIC
  }

  function rulesFor(offset: number): CfiRules | null {
    const at = lastRow(cfi, SECTIONS.cfi, offset) * SECTIONS.cfi
    if (at < 0 || offset - cfi[at]! >= cfi[at + 1]!) return null
    const first = cfi[at + 3]!
    const passed = Math.max(0, lastRow(deltas, SECTIONS.deltas, offset, first, cfi[at + 4]!) + 1 - first)
    const snapshot = passed < SNAPSHOT ? 0 : Math.floor(passed / SNAPSHOT)
    return applyDeltas(new Map(snapshot === 0 ? ruleSet(cfi[at + 2]!) : snapshotsOf(at)[snapshot]!), first + snapshot * SNAPSHOT, first + passed)
  }

  /** A function can have thousands of changes: its rules are kept complete at every SNAPSHOT of them, once somebody asks. */
  function snapshotsOf(at: number): Map<string, string>[] {
    const known = snapshots.get(at)
    if (known) return known
    if (snapshots.size >= CACHED_SNAPSHOTS) snapshots.clear()
    const list = [new Map(ruleSet(cfi[at + 2]!))]
    for (let row = cfi[at + 3]!; row + SNAPSHOT <= cfi[at + 4]!; row += SNAPSHOT) list.push(applyDeltas(new Map(list.at(-1)), row, row + SNAPSHOT))
    snapshots.set(at, list)
    return list
  }

  function applyDeltas(rules: Map<string, string>, from: number, to: number): Map<string, string> {
    for (let row = from; row < to; row++) {
      for (const [register, rule] of ruleSet(deltas[row * SECTIONS.deltas + 1]!)) if (rules.has(register) || rules.size < MOST_RULES) rules.set(register, rule)
    }
    return rules
  }

  function ruleSet(string: number): [string, string][] {
    const known = parsedRules.get(string)
    if (known) return known
    if (parsedRules.size >= CACHED_RULES) parsedRules.clear()
    const rules = splitRules(text(tables, string))
    parsedRules.set(string, rules)
    return rules
  }

  /** Frame data says more than FPO where both cover the address. */
  function windowsFrame(offset: number): WindowsFrame | null {
    for (const table of [programs, fpo]) {
      const at = lastRow(table, SECTIONS.fpo, offset) * SECTIONS.fpo
      if (at < 0 || offset - table[at]! >= table[at + 1]!) continue
      const [, , parameters, savedRegisters, locals, program, savesBasePointer] = table.subarray(at, at + SECTIONS.fpo)
      return { parameters: parameters!, savedRegisters: savedRegisters!, locals: locals!, program: optional(program!), savesBasePointer: savesBasePointer === 1 }
    }
    return null
  }

  function codeAt(offset: number, length: number): Uint8Array | null {
    const at = lastRow(codeRanges, SECTIONS.codeRanges, offset) * SECTIONS.codeRanges
    if (at < 0 || offset - codeRanges[at]! >= codeRanges[at + 1]!) return null
    const first = codeRanges[at + 2]! * 4 + offset - codeRanges[at]!
    const end = Math.min(first + Math.min(length, codeRanges[at + 1]! - (offset - codeRanges[at]!)), code.byteLength)
    return first < end ? new Uint8Array(code.buffer, code.byteOffset + first, end - first) : null
  }

  const optional = (string: number): string | null => (string === NONE ? null : text(tables, string))
  const [low, high] = tables.identity.subarray(4)
  const linked = low === NONE && high === NONE ? {} : { linkBase: low! + high! * 0x1_0000_0000 }

  const threadInfo = threadInfoOf(tables.threadInfo)

  return { ...linked, lookup, cfi: rulesFor, windowsFrame, code: codeAt, ...(threadInfo === null ? {} : { threadInfo }) }
}

/** `.cfa: $rsp 16 + .ra: .cfa -8 + ^` to [register, expression] pairs. */
function splitRules(line: string): [string, string][] {
  const rules: [string, string][] = []
  let register: string | null = null
  let expression: string[] = []
  for (const token of line.split(' ')) {
    if (token === '') continue
    if (!token.endsWith(':')) {
      expression.push(token)
      continue
    }
    if (register !== null) rules.push([register, expression.join(' ')])
    register = token.slice(0, -1)
    expression = []
  }
  if (register !== null) rules.push([register, expression.join(' ')])
  return rules.slice(0, MOST_RULES)
}

function text(tables: Tables, string: number): string {
  return UTF8.decode(tables.text.subarray(tables.strings[string], tables.strings[string + 1]))
}
