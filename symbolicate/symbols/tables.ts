/**
 * The prepared form of a module's symbols: one buffer of sorted tables that is written once and then read by many
 * workers without parsing the symbol file again. It holds no pointers, only u32 columns and string numbers, so opening it is
 * checking a header and laying views over the bytes.
 *
 *   header: magic u32, version u32, bytes u32, CRC-32 of all behind the header u32, then one u32 per section: its length in words
 *   sections in the order of SECTIONS; the strings' bytes come last, padded to 4
 *
 * Words are little-endian, as on every machine that Node runs on today; `open` refuses anything else by its magic.
 */
import { crc32 } from 'node:zlib'
import type { Strings } from './strings.ts'

/** Section -> words per row. */
export const SECTIONS = {
  /** os, arch, debug id, name: string numbers; the address it was linked at, low and high word, or NONE twice */
  identity: 6,
  /** where each string starts in the bytes; one more row for the end */
  strings: 1,
  /** start, size, name, first line, end of lines, first inline, end of inlines */
  functions: 7,
  /** start, size, file, line number */
  lines: 4,
  /** depth, start, size, function, call site's file, call site's line */
  inlines: 6,
  /** start, name */
  publics: 2,
  /** start, size, rules, first delta, end of deltas */
  cfi: 5,
  /** start, rules */
  deltas: 2,
  /** STACK WIN 4 (frame data): start, size, parameters, saved registers, locals, program, 0 */
  programs: 7,
  /** STACK WIN 0 (FPO): start, size, parameters, saved registers, locals, none, whether ebp is saved */
  fpo: 7,
  /** start, bytes, first word of `code` */
  codeRanges: 3,
  /** the program's instructions, each range padded to a word (elf/code.ts) */
  code: 1,
  /** Zephyr's: see elf/thread-info.ts */
  threadInfo: 1,
} as const
export type Section = keyof typeof SECTIONS
const ORDER = Object.keys(SECTIONS) as Section[]

export const NONE = 0xffff_ffff

export type Tables = Record<Section, Uint32Array> & { text: Uint8Array }

const MAGIC = 0x3153594f
const VERSION = 4
const HEADER_WORDS = 4 + ORDER.length

export function writeTables(tables: Tables): Uint8Array {
  const words = ORDER.reduce((sum, name) => sum + tables[name].length, HEADER_WORDS)
  const out = new Uint8Array(words * 4 + ((tables.text.length + 3) & ~3))
  const view = new Uint32Array(out.buffer)
  view.set([MAGIC, VERSION, out.length, 0, ...ORDER.map((name) => tables[name].length)])
  let at = HEADER_WORDS
  for (const name of ORDER) {
    view.set(tables[name], at)
    at += tables[name].length
  }
  out.set(tables.text, at * 4)
  view[3] = crc32(out.subarray(HEADER_WORDS * 4))
  return out
}

/** null when the bytes are not what `writeTables` wrote: another version, cut off, or changed on disk. */
export function openTables(bytes: Uint8Array): Tables | null {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes)
  if (aligned.length < HEADER_WORDS * 4 || aligned.length % 4 !== 0) return null
  const view = new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4)
  if (view[0] !== MAGIC || view[1] !== VERSION || view[2] !== aligned.length || view[3] !== crc32(aligned.subarray(HEADER_WORDS * 4))) return null
  const tables: Partial<Tables> = {}
  let at = HEADER_WORDS
  for (const [index, name] of ORDER.entries()) {
    const length = view[4 + index]!
    if (at + length > view.length || length % SECTIONS[name] !== 0) return null
    tables[name] = view.subarray(at, at + length)
    at += length
  }
  tables.text = aligned.subarray(at * 4)
  const complete = tables as Tables
  return complete.identity.length === SECTIONS.identity && (complete.strings.at(-1) ?? 0) <= complete.text.length ? complete : null
}

/** The last row whose first column is at most `key`, or -1. Rows are sorted by their first column. */
export function lastRow(table: Uint32Array, stride: number, key: number, from = 0, to = table.length / stride): number {
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >>> 1
    if (table[middle * stride]! <= key) low = middle + 1
    else high = middle
  }
  return low - 1 < from ? -1 : low - 1
}

/** Sorts rows [from, to) by `columns`, and leaves them alone when they are sorted already (nearly always). */
export function sortRows(table: Uint32Array, stride: number, columns: readonly number[], from = 0, to = table.length / stride): void {
  const compare = (a: number, b: number): number => {
    for (const column of columns) {
      const difference = table[a * stride + column]! - table[b * stride + column]!
      if (difference !== 0) return difference
    }
    return 0
  }
  let sorted = true
  for (let row = from + 1; row < to && sorted; row++) sorted = compare(row - 1, row) <= 0
  if (sorted) return
  const order = Uint32Array.from({ length: to - from }, (_, index) => from + index).sort((a, b) => compare(a, b) || a - b)
  const rows = new Uint32Array((to - from) * stride)
  order.forEach((row, index) => rows.set(table.subarray(row * stride, (row + 1) * stride), index * stride))
  table.set(rows, from * stride)
}

/** Keeps the first of rows that overlap (`start` and `size` are columns 0 and 1); returns how many rows of [from, to) stay, packed to the front. */
export function dropOverlaps(table: Uint32Array, stride: number, from = 0, to = table.length / stride): number {
  let kept = from
  let end = -1
  for (let row = from; row < to; row++) {
    const start = table[row * stride]!
    const size = table[row * stride + 1]!
    if (size === 0 || start < end) continue
    if (kept !== row) table.copyWithin(kept * stride, row * stride, (row + 1) * stride)
    kept++
    end = start + size
  }
  return kept - from
}

/** Several names for one address: the last by name, as rust-minidump picks it, so that the answer doesn't depend on the file's order. */
export function uniquePublics(publics: Uint32Array, strings: Strings): Uint32Array {
  sortRows(publics, SECTIONS.publics, [0])
  let kept = 0
  for (let row = 0; row < publics.length; row += 2) {
    const same = kept > 0 && publics[kept - 2] === publics[row]
    if (same && strings.get(publics[row + 1]!) <= strings.get(publics[kept - 1]!)) continue
    if (same) kept -= 2
    publics[kept] = publics[row]!
    publics[kept + 1] = publics[row + 1]!
    kept += 2
  }
  return publics.slice(0, kept)
}
