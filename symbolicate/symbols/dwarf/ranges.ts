/**
 * Which code an entry covers: low_pc and high_pc, or a list of ranges (DWARF 5, sections 2.17 and 7.25; before version 5
 * .debug_ranges). What was dropped by the linker, lies outside of the code or is empty is left out.
 *
 *   .debug_ranges:   *(begin end), both addresses or offsets from the unit's base; (ones, base) sets the base; (0, 0) ends
 *   .debug_rnglists: *(kind:u8 operands), KIND below
 */
import { SLOT } from './constants.ts'
import type { Cursor } from './cursor.ts'
import { addressAt, readAddress, type Die, type Unit } from './units.ts'

const KIND = { end: 0, basex: 1, startxEndx: 2, startxLength: 3, offsetPair: 4, base: 5, startEnd: 6, startLength: 7 } as const

/** Over a whole file: any number of entries may point at one long list. */
export interface RangeBudget { left: number }
export const MOST_RANGES = 50_000_000

/** [start, end, start, end, ...], as offsets from the module's base. */
export function codeRanges(die: Die, budget: RangeBudget): number[] {
  const found: number[] = []
  const { unit } = die
  const { space } = unit.info
  const add = (start: number | null, end: number | null): void => {
    if (start === null || end === null || !(start >= 0 && end > start)) return
    const codeEnd = space.codeEnd(start)
    if (codeEnd > 0) found.push(start, Math.min(end, codeEnd))
  }
  const low = die.address(SLOT.lowPc)
  if (low !== null && die.has(SLOT.highPc)) {
    // A number is a length, an address is the end.
    const length = die.unsigned(SLOT.highPc)
    add(low, length === null ? die.address(SLOT.highPc) : low + length)
    return found
  }
  const list = die.unsigned(SLOT.ranges)
  if (list === null) return found
  if (unit.version < 5) readRanges(unit, list + unit.rangesBase, budget, add)
  else readRangeList(unit, die.isIndexed(SLOT.ranges) ? listAt(unit, list) : list, budget, add)
  return found
}

type Add = (start: number | null, end: number | null) => void

function readRanges(unit: Unit, offset: number, budget: RangeBudget, add: Add): void {
  const cursor = unit.info.sections.ranges?.seek(offset)
  if (!cursor) return
  const { space } = unit.info
  const wide = unit.addressSize === 8
  const ones = wide ? 0xffff_ffff : 0
  let base = unit.base
  while (spend(budget, cursor)) {
    const [beginLow, beginHigh] = [cursor.u32(), wide ? cursor.u32() : 0]
    const [endLow, endHigh] = [cursor.u32(), wide ? cursor.u32() : 0]
    if (beginLow === 0 && beginHigh === 0 && endLow === 0 && endHigh === 0) return
    if (beginLow === 0xffff_ffff && beginHigh === ones) {
      const set = space.offset(endLow, endHigh)
      base = Number.isNaN(set) ? null : set
    } else if (base === null) {
      add(space.offset(beginLow, beginHigh), space.offset(endLow, endHigh))
    } else {
      add(base + beginLow + beginHigh * 0x1_0000_0000, base + endLow + endHigh * 0x1_0000_0000)
    }
  }
}

function readRangeList(unit: Unit, offset: number | null, budget: RangeBudget, add: Add): void {
  if (offset === null) return
  const cursor = unit.info.sections.rnglists?.seek(offset)
  if (!cursor) return
  // Without a base the pairs are addresses.
  let base: number | null = unit.base ?? -Number(unit.info.space.base)
  while (spend(budget, cursor)) {
    switch (cursor.u8()) {
      case KIND.end: return
      case KIND.basex: base = addressAt(unit, cursor.uleb()); break
      case KIND.base: base = readAddress(cursor, unit); break
      case KIND.startxEndx: add(addressAt(unit, cursor.uleb()), addressAt(unit, cursor.uleb())); break
      case KIND.startxLength: addLength(addressAt(unit, cursor.uleb()), cursor.uleb()); break
      case KIND.startEnd: add(readAddress(cursor, unit), readAddress(cursor, unit)); break
      case KIND.startLength: addLength(readAddress(cursor, unit), cursor.uleb()); break
      case KIND.offsetPair: {
        const [begin, end] = [cursor.uleb(), cursor.uleb()]
        if (base !== null) add(base + begin, base + end)
        break
      }
      default: return cursor.malformed('kind of range')
    }
  }

  function addLength(start: number | null, length: number): void {
    add(start, start === null ? null : start + length)
  }
}

/** The list with this number: the table of their offsets begins at the unit's base. */
function listAt(unit: Unit, index: number): number | null {
  const { rnglists } = unit.info.sections
  return rnglists === null ? null : unit.rnglistsBase + rnglists.seek(unit.rnglistsBase + index * unit.offsetSize).unsigned(unit.offsetSize)
}

function spend(budget: RangeBudget, cursor: Cursor): boolean {
  if (--budget.left < 0) cursor.malformed('more ranges than any compiler writes')
  return true
}
