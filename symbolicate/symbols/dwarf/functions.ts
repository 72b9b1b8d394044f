/**
 * The functions of .debug_info and the calls that were inlined into them (DWARF 5, sections 3.3.1 and 3.3.8): one row for
 * each stretch of code of a function, with the inlined calls that lie in it, by depth. Lines come with the unit that they
 * belong to, because an inlined call names its place by the number of a file in that unit's line table.
 */
import type { Strings } from '../strings.ts'
import { Growing } from '../growing.ts'
import { NONE, SECTIONS } from '../tables.ts'
import { skipForm } from './abbrev.ts'
import { MANGLED_LANGUAGES, SLOT, TAG } from './constants.ts'
import { Cursor } from './cursor.ts'
import { createLineRows, readLines, type LineRows } from './line.ts'
import { createNames, type FunctionName } from './names.ts'
import { codeRanges, MOST_RANGES, type RangeBudget } from './ranges.ts'
import { Die, type DebugInfo, type Unit } from './units.ts'

/** Deeper nesting than compilers make is a bomb; look-ups show no more either. */
const DEEPEST_INLINE = 128
const MOST_FUNCTIONS = 8_000_000
const MOST_INLINES = 20_000_000

/** `functions` and `inlines` as the prepared tables have them, without their lines and not sorted yet. */
export interface Collected { functions: Growing; inlines: Growing; lines: LineRows; ranges: RangeBudget }
export const createCollected = (): Collected => ({
  functions: new Growing(SECTIONS.functions), inlines: new Growing(SECTIONS.inlines), lines: createLineRows(), ranges: { left: MOST_RANGES },
})

/** Children of these hold no code: their sibling is the next entry. (An abstract function may hold one with code: a lambda's.) */
const LEAVES: ReadonlySet<number> = new Set([TAG.enumerationType, TAG.subroutineType, TAG.arrayType, TAG.callSite, TAG.gnuCallSite])

/** `better` may know a mangled name for a function whose entry has a plain one only; `split` opens what a skeleton stands for. */
export function collectFunctions(info: DebugInfo, strings: Strings, into: Collected, better: (start: number) => string | null, split: (skeleton: Unit) => DebugInfo | null): void {
  const nameOf = createNames()
  const files = new Map<number, number[]>()
  for (const unit of info.units) {
    let known = unit.stmtList === null ? [] : files.get(unit.stmtList)
    if (known === undefined) files.set(unit.stmtList!, known = readLines(unit, unit.stmtList!, (text) => strings.add(text), into.lines))
    const units = unit.dwoName === null ? [unit] : (split(unit)?.units ?? [])
    for (const one of units) new Walk(one, known, strings, into, unit.dwoName === null ? nameOf : createNames(), better).run()
  }
}

/** What an entry with children opens, until they end. */
interface Scope { depth: number; func: OpenFunction | null; inline: number }
interface OpenFunction { name: number; ranges: number[]; calls: Call[] }
interface Call { range: number; depth: number; start: number; size: number; name: number; file: number; line: number }

class Walk {
  private readonly unit: Unit
  private readonly files: readonly number[]
  private readonly strings: Strings
  private readonly into: Collected
  private readonly nameOf: (die: Die) => FunctionName | null
  private readonly better: (start: number) => string | null
  private readonly die: Die
  private readonly scopes: Scope[] = []

  constructor(unit: Unit, files: readonly number[], strings: Strings, into: Collected, nameOf: (die: Die) => FunctionName | null, better: (start: number) => string | null) {
    this.unit = unit
    this.files = files
    this.strings = strings
    this.into = into
    this.nameOf = nameOf
    this.better = better
    this.die = new Die(unit)
  }

  run(): void {
    const { unit, die, scopes } = this
    const cursor = new Cursor(unit.info.sections.info, '.debug_info', unit.entries, unit.end)
    let depth = 0
    while (cursor.at < unit.end) {
      const code = cursor.uleb()
      if (code === 0) {
        depth--
        while (scopes.length > 0 && scopes.at(-1)!.depth >= depth) this.close()
        if (depth <= 0) break
        continue
      }
      const abbrev = unit.abbrevs.get(code) ?? cursor.malformed(`entry of unknown code ${code}`)
      if (abbrev.tag === TAG.subprogram || abbrev.tag === TAG.inlinedSubroutine) {
        die.readAttributes(cursor, abbrev)
        const scope = abbrev.tag === TAG.subprogram ? this.openFunction(depth) : this.openCall(depth)
        if (abbrev.children) scopes.push(scope)
        else if (abbrev.tag === TAG.subprogram) this.flush(scope.func)
      } else if (LEAVES.has(abbrev.tag) && abbrev.children) {
        die.readAttributes(cursor, abbrev)
        if (this.skipToSibling(cursor)) continue
      } else if (abbrev.size >= 0) {
        cursor.skip(abbrev.size)
      } else {
        for (const { form } of abbrev.attributes) skipForm(cursor, form, unit)
      }
      if (abbrev.children) depth++
    }
    while (scopes.length > 0) this.close()
  }

  private skipToSibling(cursor: Cursor): boolean {
    const sibling = this.die.reference(SLOT.sibling)
    if (sibling === null || sibling.offset <= cursor.at || sibling.offset > this.unit.end) return false
    cursor.seek(sibling.offset)
    return true
  }

  private openFunction(depth: number): Scope {
    const ranges = codeRanges(this.die, this.into.ranges)
    if (ranges.length === 0) return { depth, func: null, inline: 0 }
    return { depth, func: { name: this.functionName(ranges[0]!), ranges: sorted(ranges), calls: [] }, inline: 0 }
  }

  private functionName(start: number): number {
    const name = this.nameOf(this.die)
    const better = name?.mangled !== true && (name === null || MANGLED_LANGUAGES.has(this.unit.language)) ? this.better(start) : null
    return this.strings.add(better ?? name?.text ?? '<unknown>')
  }

  private openCall(depth: number): Scope {
    const { die, scopes, into } = this
    const outer = scopes.at(-1)
    const func = outer?.func ?? null
    const inline = outer?.inline ?? 0
    if (func === null || inline >= DEEPEST_INLINE) return { depth, func, inline }
    const ranges = codeRanges(die, into.ranges)
    if (ranges.length > 0) {
      const name = this.strings.add(this.nameOf(die)?.text ?? '<unknown inline>')
      const file = this.files[die.unsigned(SLOT.callFile) ?? -1] ?? NONE
      const line = Math.min(die.unsigned(SLOT.callLine) ?? 0, NONE - 1)
      for (let at = 0; at < ranges.length; at += 2) {
        const start = ranges[at]!
        const range = rangeOf(func.ranges, start)
        if (range >= 0) func.calls.push({ range, depth: inline, start, size: Math.min(ranges[at + 1]!, func.ranges[range + 1]!) - start, name, file, line })
      }
    }
    return { depth, func, inline: inline + 1 }
  }

  private close(): void {
    const scope = this.scopes.pop()!
    if (scope.inline === 0) this.flush(scope.func)
  }

  private flush(func: OpenFunction | null): void {
    if (func === null) return
    const { functions, inlines } = this.into
    func.calls.sort((a, b) => a.range - b.range || a.depth - b.depth || a.start - b.start)
    let at = 0
    for (let range = 0; range < func.ranges.length; range += 2) {
      const first = inlines.count
      for (; at < func.calls.length && func.calls[at]!.range === range; at++) {
        const { depth, start, size, name, file, line } = func.calls[at]!
        inlines.push(depth, start, size, name, file, line)
      }
      functions.push(func.ranges[range]!, func.ranges[range + 1]! - func.ranges[range]!, func.name, 0, 0, first, inlines.count)
    }
    if (functions.count > MOST_FUNCTIONS || inlines.count > MOST_INLINES) new Cursor(new Uint8Array(), '.debug_info').malformed('more functions than any program has')
  }
}

/** The hot part of a function is listed before the cold, wherever they lie. */
function sorted(ranges: number[]): number[] {
  if (ranges.length === 2) return ranges
  const pairs = Array.from({ length: ranges.length / 2 }, (_, index) => [ranges[2 * index]!, ranges[2 * index + 1]!] as const)
  return pairs.sort((a, b) => a[0] - b[0]).flat()
}

/** Index of the stretch that holds `start`, or -1. */
function rangeOf(ranges: readonly number[], start: number): number {
  let low = 0
  let high = ranges.length / 2
  while (low < high) {
    const middle = (low + high) >>> 1
    if (ranges[2 * middle]! <= start) low = middle + 1
    else high = middle
  }
  return low > 0 && start < ranges[2 * low - 1]! ? 2 * low - 2 : -1
}
