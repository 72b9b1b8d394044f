/**
 * The name of a function whose entry says it elsewhere: abstract_origin leads to the entry of all its inlined copies,
 * specification to its declaration, perhaps in another unit, perhaps in the file that dwz made for several programs.
 * References may form a circle: a chain ends after LONGEST_CHAIN steps.
 */
import { SLOT } from './constants.ts'
import { Cursor } from './cursor.ts'
import { Die, type DebugInfo, type Unit } from './units.ts'

/** `mangled`: a linkage name, which is unique, as against the name in the source. */
export interface FunctionName { text: string; mangled: boolean }

const LONGEST_CHAIN = 16
const MOST_REMEMBERED = 2_000_000

export function createNames(): (die: Die) => FunctionName | null {
  const remembered = new Map<DebugInfo, Map<number, FunctionName | null>>()
  let scratch: Die | null = null

  return function nameOf(die) {
    return own(die) ?? referred(die, 0) ?? plain(die)
  }

  /** A linkage name ends the search; a plain one only stands in when nobody further along the chain has one. */
  function own(die: Die): FunctionName | null {
    const linkage = die.text(SLOT.linkageName)
    return linkage ? { text: linkage, mangled: true } : null
  }

  function plain(die: Die): FunctionName | null {
    const name = die.text(SLOT.name)
    return name ? { text: name, mangled: false } : null
  }

  function referred(die: Die, steps: number): FunctionName | null {
    const reference = die.reference(SLOT.abstractOrigin) ?? die.reference(SLOT.specification)
    if (reference === null || steps >= LONGEST_CHAIN) return null
    const info = reference.alt ? die.unit.info.alt : die.unit.info
    return info && nameAt(info, reference.offset, steps + 1)
  }

  function nameAt(info: DebugInfo, offset: number, steps: number): FunctionName | null {
    let names = remembered.get(info)
    if (!names) remembered.set(info, names = new Map())
    const known = names.get(offset)
    if (known !== undefined) return known
    const unit = info.unitAt(offset)
    const name = unit && nameIn(unit, offset, steps)
    if (names.size >= MOST_REMEMBERED) names.clear()
    names.set(offset, name)
    return name
  }

  function nameIn(unit: Unit, offset: number, steps: number): FunctionName | null {
    const die = scratch?.unit === unit ? scratch : new Die(unit)
    scratch = null
    if (!die.read(new Cursor(unit.info.sections.info, '.debug_info', offset, unit.end))) return null
    const name = own(die) ?? referred(die, steps) ?? plain(die)
    scratch = die
    return name
  }
}
