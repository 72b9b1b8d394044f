/**
 * The symbol table of an ELF file: names where there is no DWARF, and for assembly (System V gABI, chapter 4).
 *
 *   32 bit: name u32, value u32, size u32, info u8, other u8, section u16
 *   64 bit: name u32, info u8, other u8, section u16, value u64, size u64
 *
 * A function with a size is a function; one without, and a label in code, is only a name that begins there (a PUBLIC), unless
 * there are lines for it: assembly that forgot .size.
 * ARM: bit 0 of a function's address says Thumb and is none of its address; $a, $t and $d mark what lies between and name
 * nothing (ELF for the Arm Architecture, 5.5.5), as do $x on ARM64 and RISC-V.
 */
import { Cursor } from '../dwarf/cursor.ts'
import { SECTION, type ElfImage, type ElfSection } from './elf.ts'

/** Sorted by start, one per start: the name that most would know. `labels` are local names that are not said to be functions,
 * `thumb` 1 where a function's address had bit 0 set. */
export interface ElfSymbols { starts: Uint32Array; sizes: Uint32Array; names: string[]; labels: boolean[]; thumb: Uint8Array }

const TYPE = { none: 0, func: 2, gnuIfunc: 10 } as const
const BIND = { local: 0, global: 1, weak: 2 } as const
const ABSOLUTE = 0xfff1
const MOST_SYMBOLS = 4_000_000

interface Symbol { start: number; size: number; name: string; rank: number; label: boolean; thumb: number }

/** .symtab, and .dynsym where that was stripped. */
export function readSymbols(image: ElfImage): ElfSymbols {
  const found = readTable(image, SECTION.symtab)
  const symbols = found.length > 0 ? found : readTable(image, SECTION.dynsym)
  symbols.sort((a, b) => a.start - b.start || a.rank - b.rank || b.size - a.size || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  const kept = symbols.filter((symbol, index) => symbol.start !== symbols[index - 1]?.start)
  return {
    starts: Uint32Array.from(kept, ({ start }) => start), sizes: Uint32Array.from(kept, ({ size }) => size), names: kept.map(({ name }) => name), labels: kept.map(({ label }) => label),
    thumb: Uint8Array.from(kept, ({ thumb }) => thumb),
  }
}

function readTable(image: ElfImage, type: number): Symbol[] {
  const table = image.sections.find((section) => section.type === type) ?? null
  const entries = image.content(table)
  const texts = table && image.content(image.sections[table.link] ?? null)
  if (table === null || entries === null || texts === null) return []
  const wide = image.width === 8
  const size = wide ? 24 : 16
  const cursor = new Cursor(entries, `section ${table.name}`)
  const names = new Cursor(texts, 'symbol names')
  const symbols: Symbol[] = []
  const count = Math.min(Math.floor(entries.length / size), MOST_SYMBOLS)
  for (let index = 1; index < count; index++) {
    cursor.seek(index * size)
    const nameAt = cursor.u32()
    const symbol = wide ? wideSymbol(cursor) : narrowSymbol(cursor)
    const { info, section } = symbol
    const kind = info & 15
    if (kind !== TYPE.func && kind !== TYPE.gnuIfunc && kind !== TYPE.none) continue
    if (section === 0 || section === ABSOLUTE || nameAt === 0 || nameAt >= texts.length) continue
    const thumb = image.cpu === 'arm' && kind !== TYPE.none ? symbol.low & 1 : 0
    const low = symbol.low - thumb
    if (low === 0 && symbol.high === 0) {
      if (kind === TYPE.none) continue
      image.space.zeroIsCode = true
    }
    const start = image.space.offset(low, symbol.high)
    const end = start >= 0 ? image.space.codeEnd(start) : 0
    if (end === 0) continue
    const name = names.textAt(nameAt)
    if (name === '' || isMark(name)) continue
    const isFunction = kind !== TYPE.none
    symbols.push({ start, size: isFunction ? Math.min(symbol.size, end - start) : 0, name, rank: rankOf(isFunction && symbol.size > 0, info >> 4, name), label: !isFunction && info >> 4 === BIND.local, thumb })
  }
  return symbols
}

function narrowSymbol(cursor: Cursor): { low: number; high: number; size: number; info: number; section: number } {
  const [low, size, info] = [cursor.u32(), cursor.u32(), cursor.u8()]
  cursor.u8()
  return { low, high: 0, size, info, section: cursor.u16() }
}

function wideSymbol(cursor: Cursor): { low: number; high: number; size: number; info: number; section: number } {
  const info = cursor.u8()
  cursor.u8()
  const section = cursor.u16()
  return { low: cursor.u32(), high: cursor.u32(), size: cursor.u64(), info, section }
}

/** Mapping symbols, and labels that assemblers make. */
const isMark = (name: string): boolean => /^\$[atdx](?:\.|$)/.test(name) || name.startsWith('.L')

/** Of several names at one address the lowest: functions before labels, exported before local, without a leading underscore. */
function rankOf(isFunction: boolean, bind: number, name: string): number {
  const reach = bind === BIND.global ? 0 : bind === BIND.weak ? 1 : 2
  return (isFunction ? 0 : 100) + reach * 10 + Math.min(9, /^_*/.exec(name)![0].length)
}

export function symbolAt({ starts, names }: ElfSymbols, start: number): string | null {
  let low = 0
  let high = starts.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (starts[middle]! < start) low = middle + 1
    else high = middle
  }
  return starts[low] === start ? names[low]! : null
}

/** A section's offset from the module's base. */
export const sectionOffset = (image: ElfImage, { address }: ElfSection): number => Number(address - image.space.base)
