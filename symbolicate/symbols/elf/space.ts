import { lastStartingBy } from '../sorted.ts'

/**
 * The addresses that an ELF file was linked for, as offsets from its lowest segment: what a dump's module base is on the
 * machine. Tables hold offsets of 32 bits; addresses in the file have 64 and may be a kernel's (0xffffffff81000000), which no
 * double holds. So an address is read as two words and only its distance from the base becomes a number.
 *
 * Linkers drop unused functions (-ffunction-sections, --gc-sections) but keep their debug information, at an address that
 * marks it: 0 (GNU ld), all ones (LLD), or one below. On a microcontroller 0 can be code too: it is when a symbol is there.
 */
export interface Range { address: bigint; size: bigint }

export interface Space {
  width: 4 | 8
  base: bigint
  /** Told by the symbol table, see elf/symbols.ts. */
  zeroIsCode: boolean
  /** Distance from the base; NaN for what marks a dropped function. Not yet that it lies in code. */
  offset(low: number, high: number): number
  offsetOf(address: bigint): number
  /** The end of the code that holds `offset`; 0 when none does. */
  codeEnd(offset: number): number
}

const PAGE = 4096n
/** Offsets are u32, and 0xffffffff is NONE. */
const FARTHEST = 0xffff_fffe

/** `thumb`: bit 0 of an address says which instructions are there (ARM), and assembly's DWARF has it set. */
export function createSpace(width: 4 | 8, segments: readonly bigint[], code: readonly Range[], thumb: boolean): Space {
  const lowest = segments.reduce<bigint | null>((low, address) => (low === null || address < low ? address : low), null) ?? 0n
  const base = lowest - (lowest % PAGE)
  const baseLow = Number(base & 0xffff_ffffn)
  const baseHigh = Number(base >> 32n)
  const ranges = code.map(({ address, size }) => ({ start: Number(address - base), end: Number(address - base + size) }))
    .filter(({ start, end }) => start >= 0 && end <= FARTHEST && start < end)
    .sort((a, b) => a.start - b.start)
  const onesHigh = width === 8 ? 0xffff_ffff : 0

  const space: Space = {
    width,
    base,
    zeroIsCode: false,
    offset(low, high) {
      if (high === 0 && low === 0) return space.zeroIsCode ? -Number(base) : NaN
      if (high === onesHigh && low >= 0xffff_fffe) return NaN
      return (high - baseHigh) * 0x1_0000_0000 + (low - baseLow) - (thumb ? low & 1 : 0)
    },
    offsetOf: (address) => space.offset(Number(address & 0xffff_ffffn), Number((address >> 32n) & 0xffff_ffffn)),
    codeEnd(offset) {
      const range = lastStartingBy(ranges, offset)
      return range !== undefined && offset < range.end ? range.end : 0
    },
  }
  return space
}
