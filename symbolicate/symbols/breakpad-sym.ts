/**
 * Breakpad symbol files, the text that dump_syms writes:
 *
 *   MODULE os arch id name
 *   INFO ...
 *   FILE number name
 *   INLINE_ORIGIN number name
 *   FUNC [m] address size parameters name           then its own
 *     INLINE depth call-line [call-file] origin (address size)+
 *     address size line file
 *   PUBLIC [m] address parameters name
 *   STACK CFI INIT address size rules               then its
 *     STACK CFI address rules
 *   STACK WIN type rva size prologue epilogue parameters saved locals most has-program (program | saves-ebp)
 *     type 4 is frame data, 0 is FPO; others are left out
 *
 * Numbers are hexadecimal except lines, files, origins and depths. Addresses are offsets in the module; a module is below
 * 4 GiB, so they are u32, and a record beyond that is skipped. The text is read twice: once to count records by kind,
 * once to fill tables of exactly that size, so a 100 MB file needs little more memory than itself. A line that doesn't
 * parse is skipped and counted; only a file without MODULE is refused.
 */
import { preparedOf, type PreparedSymbols } from './prepared.ts'
import { Strings } from './strings.ts'
import { dropOverlaps, NONE, SECTIONS, sortRows, type Tables, uniquePublics } from './tables.ts'

export interface BreakpadSymbols extends PreparedSymbols {
  /** Lines that did not parse. */
  skipped: number
}

export type SymFailure = { slug: 'symbols-empty' | 'symbols-corrupt' | 'symbols-too-large'; reason: string }

export interface SymBudget { bytes: number; records: number }
export const SYM_BUDGET: SymBudget = { bytes: 1024 * 1024 * 1024, records: 40_000_000 }

const LONGEST_NAME = 16 * 1024
const NEWLINE = 10
const SPACE = 32

export function parseBreakpadSym(bytes: Uint8Array, budget: SymBudget = SYM_BUDGET): BreakpadSymbols | SymFailure {
  if (bytes.length === 0) return { slug: 'symbols-empty', reason: 'symbol file: no bytes' }
  if (bytes.length > budget.bytes) return { slug: 'symbols-too-large', reason: `symbol file: ${bytes.length} bytes, at most ${budget.bytes} are read` }
  const counts = countRecords(bytes)
  const records = Object.values(counts).reduce((sum, count) => sum + count, 0)
  if (records > budget.records) return { slug: 'symbols-too-large', reason: `symbol file: ${records} records, at most ${budget.records} are read` }
  const filled = fillTables(bytes, counts)
  if (filled === null) return { slug: 'symbols-corrupt', reason: 'symbol file: the first line is no MODULE record' }
  return { ...preparedOf(filled.tables), skipped: filled.skipped }
}

type Kind = 'MODULE' | 'FILE' | 'INLINE_ORIGIN' | 'FUNC' | 'INLINE' | 'LINE' | 'PUBLIC' | 'INIT' | 'DELTA' | 'WIN' | 'OTHER'
type Counts = Record<Kind, number>

function countRecords(bytes: Uint8Array): Counts {
  const counts: Counts = { MODULE: 0, FILE: 0, INLINE_ORIGIN: 0, FUNC: 0, INLINE: 0, LINE: 0, PUBLIC: 0, INIT: 0, DELTA: 0, WIN: 0, OTHER: 0 }
  for (let at = 0; at < bytes.length; ) {
    const end = lineEnd(bytes, at)
    const kind = kindOf(bytes, at, end)
    // One row per range of an INLINE: at most one for each two words.
    counts[kind] += kind === 'INLINE' ? words(bytes, at, end) >>> 1 : 1
    at = end + 1
  }
  return counts
}

function fillTables(bytes: Uint8Array, counts: Counts): { tables: Tables; skipped: number } | null {
  const line = new Line(bytes)
  const strings = new Strings()
  const rows = {
    functions: new Rows(counts.FUNC, SECTIONS.functions), lines: new Rows(counts.LINE, SECTIONS.lines), inlines: new Rows(counts.INLINE, SECTIONS.inlines),
    publics: new Rows(counts.PUBLIC, SECTIONS.publics), cfi: new Rows(counts.INIT, SECTIONS.cfi), deltas: new Rows(counts.DELTA, SECTIONS.deltas), programs: new Rows(counts.WIN, SECTIONS.programs), fpo: new Rows(counts.WIN, SECTIONS.fpo),
  }
  const files = new Map<number, number>()
  const origins = new Map<number, number>()
  let identity: number[] | null = null
  let skipped = 0
  // Lines belong to the FUNC before them, deltas to the INIT before them; after a broken one they belong to nothing.
  let inFunction = false
  let inInit = false

  const read = (kind: Kind): boolean => {
    switch (kind) {
      case 'MODULE': {
        const [os, arch, id] = [line.word(), line.word(), line.word()]
        const name = line.rest()
        if (identity || !os || !arch || !id || !name) return identity !== null
        identity = [os, arch, id.toUpperCase(), name].map((part) => strings.add(part))
        return true
      }
      case 'FILE':
      case 'INLINE_ORIGIN': {
        const number = line.decimal()
        // Older dump_syms wrote the file's number between an origin's number and its name; names start with no digit there.
        if (number < 0) return false
        ;(kind === 'FILE' ? files : origins).set(number, strings.add(line.rest()))
        return true
      }
      case 'FUNC': {
        line.flag()
        const [start, size, parameters] = [line.hex(), line.hex(), line.hex()]
        inFunction = start >= 0 && size >= 0 && parameters >= 0
        if (!inFunction) return false
        rows.functions.push(start, size, strings.add(line.rest()), rows.lines.count, rows.lines.count, rows.inlines.count, rows.inlines.count)
        return true
      }
      case 'INLINE': {
        // With a file number the words are even in number, without one (older files) odd.
        const withFile = line.wordsLeft() % 2 === 0
        const [depth, callLine, callFile, origin] = [line.decimal(), line.decimal(), withFile ? line.decimal() : NONE, line.decimal()]
        if (!inFunction || depth < 0 || callLine < 0 || callFile < 0 || origin < 0) return false
        for (let pairs = line.wordsLeft() >>> 1; pairs > 0; pairs--) {
          const [start, size] = [line.hex(), line.hex()]
          if (start < 0 || size < 0) return false
          rows.inlines.push(depth, start, size, origin, callFile, callLine)
        }
        rows.functions.patch(6, rows.inlines.count)
        return true
      }
      case 'LINE': {
        const [start, size, number, file] = [line.hex(), line.hex(), line.decimal(), line.decimal()]
        if (!inFunction || start < 0 || size < 0 || number < 0 || file < 0) return false
        rows.lines.push(start, size, file, number)
        rows.functions.patch(4, rows.lines.count)
        return true
      }
      case 'PUBLIC': {
        line.flag()
        const [start, parameters] = [line.hex(), line.hex()]
        if (start < 0 || parameters < 0) return false
        inFunction = false
        rows.publics.push(start, strings.add(line.rest()))
        return true
      }
      case 'INIT': {
        const [start, size] = [line.hex(), line.hex()]
        inInit = start >= 0 && size >= 0
        if (!inInit) return false
        rows.cfi.push(start, size, strings.add(line.rest()), rows.deltas.count, rows.deltas.count)
        return true
      }
      case 'DELTA': {
        const start = line.hex()
        if (!inInit || start < 0) return false
        rows.deltas.push(start, strings.add(line.rest()))
        rows.cfi.patch(4, rows.deltas.count)
        return true
      }
      case 'WIN': {
        const type = line.word()
        const [start, size, , , parameters, saved, locals, , hasProgram] = Array.from({ length: 9 }, () => line.hex())
        if (start! < 0 || size! < 0 || parameters! < 0 || saved! < 0 || locals! < 0 || hasProgram! < 0) return false
        if (type === '4' && hasProgram === 1) rows.programs.push(start!, size!, parameters!, saved!, locals!, strings.add(line.rest()), 0)
        if (type === '0' && hasProgram === 0) rows.fpo.push(start!, size!, parameters!, saved!, locals!, NONE, line.rest() === '1' ? 1 : 0)
        return true
      }
      case 'OTHER':
        return true
    }
  }

  for (let at = 0; at < bytes.length; ) {
    const end = lineEnd(bytes, at)
    const kind = kindOf(bytes, at, end)
    line.open(at + SKIP[kind], end)
    if (!read(kind)) skipped++
    if (identity === null) return null
    at = end + 1
  }
  const { functions, lines, inlines, publics, cfi, deltas, programs, fpo } = Object.fromEntries(Object.entries(rows).map(([name, table]) => [name, table.done()])) as Record<keyof typeof rows, Uint32Array>
  nameColumn(lines, SECTIONS.lines, 2, files, strings)
  nameColumn(inlines, SECTIONS.inlines, 4, files, strings)
  nameColumn(inlines, SECTIONS.inlines, 3, origins, strings)
  const tables: Tables = {
    identity: Uint32Array.from([...identity!, NONE, NONE]), ...arrange({ functions, lines, inlines, publics, cfi, deltas, programs, fpo }, strings), ...WITHOUT_CODE, ...strings.done(),
  }
  return { tables, skipped }
}

/** These files hold no bytes of the program. */
const WITHOUT_CODE = { codeRanges: new Uint32Array(), code: new Uint32Array(), threadInfo: new Uint32Array() } as const

type Unsorted = Omit<Tables, 'identity' | 'strings' | 'text' | keyof typeof WITHOUT_CODE>

/** Sorts every table for binary search; of records that overlap the first stays, as in the peers. */
function arrange(tables: Unsorted, strings: Strings): Unsorted {
  const { functions, lines, inlines, publics, cfi, deltas, programs, fpo } = tables
  for (let at = 0; at < functions.length; at += SECTIONS.functions) {
    sortRows(lines, SECTIONS.lines, [0], functions[at + 3]!, functions[at + 4]!)
    functions[at + 4] = functions[at + 3]! + dropOverlaps(lines, SECTIONS.lines, functions[at + 3]!, functions[at + 4]!)
    sortRows(inlines, SECTIONS.inlines, [0, 1], functions[at + 5]!, functions[at + 6]!)
  }
  for (let at = 0; at < cfi.length; at += SECTIONS.cfi) sortRows(deltas, SECTIONS.deltas, [0], cfi[at + 3]!, cfi[at + 4]!)
  const ranges = (table: Uint32Array, stride: number): Uint32Array => {
    sortRows(table, stride, [0, 1])
    return table.slice(0, dropOverlaps(table, stride) * stride)
  }
  return {
    functions: ranges(functions, SECTIONS.functions), lines, inlines, publics: uniquePublics(publics, strings),
    cfi: ranges(cfi, SECTIONS.cfi), deltas, programs: ranges(programs, SECTIONS.programs), fpo: ranges(fpo, SECTIONS.fpo),
  }
}

/** FILE and INLINE_ORIGIN records may come after their use, so their numbers become strings at the end. */
function nameColumn(table: Uint32Array, stride: number, column: number, names: Map<number, number>, strings: Strings): void {
  const unknown = column === 3 ? strings.add('<unknown inline>') : NONE
  for (let at = column; at < table.length; at += stride) table[at] = names.get(table[at]!) ?? unknown
}

// ---- The text

const KEYWORDS: [Kind, string][] = [
  ['FUNC', 'FUNC '], ['INLINE', 'INLINE '], ['PUBLIC', 'PUBLIC '], ['INIT', 'STACK CFI INIT '], ['DELTA', 'STACK CFI '], ['WIN', 'STACK WIN '],
  ['INLINE_ORIGIN', 'INLINE_ORIGIN '], ['FILE', 'FILE '], ['MODULE', 'MODULE '], ['OTHER', 'INFO '],
]
const SKIP = { LINE: 0, ...Object.fromEntries(KEYWORDS.map(([kind, word]) => [kind, word.length])) } as Record<Kind, number>
const BY_FIRST = Array.from({ length: 256 }, (_, byte) => KEYWORDS.map(([kind, word]): [Kind, Uint8Array] => [kind, Buffer.from(word, 'latin1')]).filter(([, key]) => key[0] === byte))

/** Line records start with a lower-case hex digit (or an upper-case one followed by no keyword). */
function kindOf(bytes: Uint8Array, at: number, end: number): Kind {
  if (at === end) return 'OTHER'
  for (const [kind, key] of BY_FIRST[bytes[at]!]!) if (startsWith(bytes, at, end, key)) return kind
  return hexDigit(bytes[at]!) >= 0 ? 'LINE' : 'OTHER'
}

function startsWith(bytes: Uint8Array, at: number, end: number, key: Uint8Array): boolean {
  if (at + key.length > end) return false
  for (let index = 0; index < key.length; index++) if (bytes[at + index] !== key[index]) return false
  return true
}

function lineEnd(bytes: Uint8Array, at: number): number {
  // Lines are short: calling indexOf costs more than it saves.
  let end = at
  while (end < bytes.length && bytes[end] !== NEWLINE) end++
  return end
}

function words(bytes: Uint8Array, at: number, end: number): number {
  let count = 0
  for (let index = at; index < end; index++) if (bytes[index] !== SPACE && (index === at || bytes[index - 1] === SPACE)) count++
  return count
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48
  if (byte >= 97 && byte <= 102) return byte - 87
  return byte >= 65 && byte <= 70 ? byte - 55 : -1
}

/** One line's words, one after the other; numbers that don't parse or don't fit u32 are -1. */
class Line {
  private readonly bytes: Uint8Array
  private readonly buffer: Buffer
  private at = 0
  private end = 0

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  open(at: number, end: number): void {
    this.at = at
    this.end = end > at && this.bytes[end - 1] === 13 ? end - 1 : end
  }

  /** `m`: several names share this address. */
  flag(): void {
    this.blanks()
    if (this.bytes[this.at] === 0x6d && this.bytes[this.at + 1] === SPACE) this.at += 2
  }

  hex(): number {
    return this.number(16)
  }

  decimal(): number {
    return this.number(10)
  }

  word(): string {
    this.blanks()
    const from = this.at
    while (this.at < this.end && this.bytes[this.at] !== SPACE) this.at++
    return this.buffer.toString('latin1', from, Math.min(this.at, from + LONGEST_NAME))
  }

  rest(): string {
    this.blanks()
    return this.buffer.toString('latin1', this.at, Math.min(this.end, this.at + LONGEST_NAME))
  }

  wordsLeft(): number {
    return words(this.bytes, this.at, this.end)
  }

  private blanks(): void {
    while (this.at < this.end && this.bytes[this.at] === SPACE) this.at++
  }

  private number(radix: 10 | 16): number {
    this.blanks()
    const from = this.at
    let value = 0
    for (; this.at < this.end && this.bytes[this.at] !== SPACE; this.at++) {
      const digit = hexDigit(this.bytes[this.at]!)
      if (digit < 0 || digit >= radix) return -1
      value = value * radix + digit
      if (value > NONE - 1) return -1
    }
    return this.at === from ? -1 : value
  }
}

/** Rows of a size that was counted before. */
class Rows {
  private readonly table: Uint32Array
  private readonly stride: number
  count = 0

  constructor(rows: number, stride: number) {
    this.table = new Uint32Array(rows * stride)
    this.stride = stride
  }

  push(...values: number[]): void {
    // TypedArray.set takes five times as long for a handful of values.
    const at = this.count++ * this.stride
    for (let column = 0; column < values.length; column++) this.table[at + column] = values[column]!
  }

  /** Sets one column of the last row. */
  patch(column: number, value: number): void {
    this.table[(this.count - 1) * this.stride + column] = value
  }

  done(): Uint32Array {
    return this.table.subarray(0, this.count * this.stride)
  }
}
