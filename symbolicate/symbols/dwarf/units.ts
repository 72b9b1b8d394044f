/**
 * .debug_info: its units, their entries, and what an attribute's form means (DWARF 5, sections 7.5.1 and 7.5.5).
 *
 *   unit  = length version:u16 (v5: type:u8 address-size:u8 abbrevs:offset | before: abbrevs:offset address-size:u8) ... *entry
 *   entry = code:uleb attributes, then its children up to an entry with code 0
 *
 * Entries are visited in their order and never kept: of an entry only the places of the attributes that somebody reads are
 * remembered (Die), and decoded when they are asked for.
 */
import { InputError } from '../../reader.ts'
import type { Space } from '../elf/space.ts'
import { createAbbrevs, skipForm, type Abbrev, type Sizes } from './abbrev.ts'
import { FORM, SLOT, SLOTS, UNIT } from './constants.ts'
import { Cursor } from './cursor.ts'
import { lastStartingBy } from '../sorted.ts'

/** The sections of one file, null where it has none. For split DWARF the names end in .dwo and `addr` is the program's. */
export interface DwarfSections {
  info: Uint8Array
  abbrev: Uint8Array
  line: Cursor | null
  str: Cursor | null
  lineStr: Cursor | null
  strOffsets: Cursor | null
  addr: Cursor | null
  ranges: Cursor | null
  rnglists: Cursor | null
}

export interface DebugInfo {
  sections: DwarfSections
  space: Space
  units: Unit[]
  /** What .gnu_debugaltlink names: strings and entries that several files share (dwz); null when it is not at hand. */
  alt: DebugInfo | null
  unitAt(offset: number): Unit | null
}

export interface Unit extends Sizes {
  info: DebugInfo
  kind: number
  start: number
  end: number
  /** Where its first entry is. */
  entries: number
  abbrevs: ReadonlyMap<number, Abbrev>
  strOffsetsBase: number
  addrBase: number
  rnglistsBase: number
  rangesBase: number
  /** Offset of the unit's own base address; null when that is 0, as in a unit of several ranges. */
  base: number | null
  language: number
  stmtList: number | null
  compDir: string
  /** What a skeleton and its split unit have in common. */
  dwoId: string | null
  /** This is a skeleton: its entries are in this file. */
  dwoName: string | null
}

const MOST_UNITS = 1_000_000

export function openDebugInfo(sections: DwarfSections, space: Space, alt: DebugInfo | null): DebugInfo {
  const units: Unit[] = []
  const info: DebugInfo = { sections, space, units, alt, unitAt }
  const abbrevsAt = createAbbrevs(sections.abbrev)
  const cursor = new Cursor(sections.info, '.debug_info')
  while (cursor.at < cursor.end && units.length < MOST_UNITS) {
    const unit = readUnit(info, cursor, abbrevsAt)
    if (unit !== null) units.push(unit)
  }

  function unitAt(offset: number): Unit | null {
    const unit = lastStartingBy(units, offset)
    return unit !== undefined && offset >= unit.entries && offset < unit.end ? unit : null
  }

  return info
}

/** Leaves the cursor behind the unit; null for one of a version or kind that is not read. */
function readUnit(info: DebugInfo, cursor: Cursor, abbrevsAt: ReturnType<typeof createAbbrevs>): Unit | null {
  const start = cursor.at
  const { length, offsetSize } = cursor.initialLength()
  const end = cursor.at + length
  if (end > cursor.end) cursor.malformed(`unit of ${length} bytes`)
  const version = cursor.u16()
  if (version < 2 || version > 5) return cursor.seek(end), null
  const kind = version >= 5 ? cursor.u8() : UNIT.compile
  const early = version >= 5 ? cursor.u8() : 0
  const abbrevOffset = cursor.unsigned(offsetSize)
  const addressSize = version >= 5 ? early : cursor.u8()
  const dwoId = kind === UNIT.skeleton || kind === UNIT.splitCompile ? hex64(cursor) : null
  if (kind === UNIT.type || kind === UNIT.splitType || (addressSize !== 4 && addressSize !== 8)) return cursor.seek(end), null
  const sizes: Sizes = { version, addressSize, offsetSize }
  const header = offsetSize === 8 ? 16 : 8
  const unit: Unit = {
    info, kind, start, end, entries: cursor.at, ...sizes, abbrevs: abbrevsAt(abbrevOffset, sizes),
    // Where a split unit starts to count when it names no base: behind the header of the section (DWARF 5, 7.26 to 7.28).
    strOffsetsBase: version >= 5 ? header : 0, addrBase: version >= 5 ? header : 0, rnglistsBase: offsetSize === 8 ? 20 : 12, rangesBase: 0,
    base: null, language: 0, stmtList: null, compDir: '', dwoId, dwoName: null,
  }
  readRoot(unit)
  cursor.seek(end)
  return unit
}

function readRoot(unit: Unit): void {
  const cursor = new Cursor(unit.info.sections.info, '.debug_info', unit.entries, unit.end)
  const die = new Die(unit)
  if (!die.read(cursor)) return
  unit.strOffsetsBase = die.unsigned(SLOT.strOffsetsBase) ?? unit.strOffsetsBase
  unit.addrBase = die.unsigned(SLOT.addrBase) ?? unit.addrBase
  unit.rnglistsBase = die.unsigned(SLOT.rnglistsBase) ?? unit.rnglistsBase
  unit.rangesBase = die.unsigned(SLOT.rangesBase) ?? 0
  unit.language = die.unsigned(SLOT.language) ?? 0
  unit.stmtList = die.unsigned(SLOT.stmtList)
  unit.compDir = die.text(SLOT.compDir) ?? ''
  unit.base = die.base()
  unit.dwoId ??= die.hex64(SLOT.dwoId)
  // A split unit names its own file too, in version 4.
  unit.dwoName = unit.kind === UNIT.splitCompile || unit.dwoId === null ? null : die.text(SLOT.dwoName)
}

function hex64(cursor: Cursor): string {
  const low = cursor.u32().toString(16).padStart(8, '0')
  return `${cursor.u32().toString(16).padStart(8, '0')}${low}`
}

/** Where the attributes of one entry lie; used again for the next. */
export class Die {
  readonly unit: Unit
  abbrev: Abbrev | null = null
  private readonly places = new Float64Array(SLOTS)
  private readonly forms = new Uint16Array(SLOTS)
  private readonly constants = new Float64Array(SLOTS)
  private readonly cursor: Cursor

  constructor(unit: Unit) {
    this.unit = unit
    this.cursor = new Cursor(unit.info.sections.info, '.debug_info', unit.entries, unit.end)
  }

  /** The entry at the cursor, which is left behind it; false at the end of a list of children. */
  read(cursor: Cursor): boolean {
    const code = cursor.uleb()
    if (code === 0) return false
    const abbrev = this.unit.abbrevs.get(code) ?? cursor.malformed(`entry of unknown code ${code}`)
    this.readAttributes(cursor, abbrev)
    return true
  }

  readAttributes(cursor: Cursor, abbrev: Abbrev): void {
    this.abbrev = abbrev
    this.forms.fill(0)
    for (const { slot, form, constant } of abbrev.attributes) {
      if (slot >= 0) {
        this.places[slot] = cursor.at
        this.forms[slot] = form
        this.constants[slot] = constant
      }
      skipForm(cursor, form, this.unit)
    }
  }

  has(slot: number): boolean {
    return this.forms[slot] !== 0
  }

  /** A number or a section offset; null when absent, or of a form that is none. */
  unsigned(slot: number): number | null {
    const [form, cursor] = this.open(slot)
    switch (form) {
      case FORM.data1: case FORM.flag: return cursor.u8()
      case FORM.data2: return cursor.u16()
      case FORM.data4: return cursor.u32()
      case FORM.data8: return cursor.u64()
      case FORM.udata: case FORM.rnglistx: return cursor.uleb()
      case FORM.sdata: return cursor.sleb()
      case FORM.secOffset: return cursor.unsigned(this.unit.offsetSize)
      case FORM.implicitConst: return this.constants[slot]!
      default: return null
    }
  }

  isIndexed(slot: number): boolean {
    return this.forms[slot] === FORM.rnglistx
  }

  hex64(slot: number): string | null {
    const [form, cursor] = this.open(slot)
    return form === FORM.data8 ? hex64(cursor) : null
  }

  text(slot: number): string | null {
    const [form, cursor] = this.open(slot)
    return form === 0 ? null : readText(cursor, form, this.unit)
  }

  /** The entry that this one refers to: offset in .debug_info, in the shared file when `alt`. */
  reference(slot: number): { offset: number; alt: boolean } | null {
    const { unit } = this
    const [form, cursor] = this.open(slot)
    switch (form) {
      case FORM.ref1: return { offset: unit.start + cursor.u8(), alt: false }
      case FORM.ref2: return { offset: unit.start + cursor.u16(), alt: false }
      case FORM.ref4: return { offset: unit.start + cursor.u32(), alt: false }
      case FORM.ref8: return { offset: unit.start + cursor.u64(), alt: false }
      case FORM.refUdata: return { offset: unit.start + cursor.uleb(), alt: false }
      case FORM.refAddr: return { offset: cursor.unsigned(unit.version <= 2 ? unit.addressSize : unit.offsetSize), alt: false }
      case FORM.gnuRefAlt: return { offset: cursor.unsigned(unit.offsetSize), alt: true }
      case FORM.refSup4: return { offset: cursor.u32(), alt: true }
      case FORM.refSup8: return { offset: cursor.u64(), alt: true }
      default: return null
    }
  }

  /** Offset of an address from the module's base; NaN for that of a dropped function, null when there is none. */
  address(slot: number): number | null {
    const [form, cursor] = this.open(slot)
    switch (form) {
      case FORM.addr: return readAddress(cursor, this.unit)
      case FORM.addrx: case FORM.gnuAddrIndex: return addressAt(this.unit, cursor.uleb())
      case FORM.addrx1: return addressAt(this.unit, cursor.u8())
      case FORM.addrx2: return addressAt(this.unit, cursor.u16())
      case FORM.addrx3: return addressAt(this.unit, cursor.u24())
      case FORM.addrx4: return addressAt(this.unit, cursor.u32())
      default: return null
    }
  }

  /** A unit's low_pc as the base of its ranges. 0 says that they are addresses, not that they were dropped. */
  base(): number | null {
    const base = this.address(SLOT.lowPc)
    return base === null || Number.isNaN(base) ? null : base
  }

  private open(slot: number): [number, Cursor] {
    const form = this.forms[slot]!
    if (form === 0) return [0, this.cursor]
    this.cursor.seek(this.places[slot]!)
    return [form === FORM.indirect ? this.cursor.uleb() : form, this.cursor]
  }
}

export function readAddress(cursor: Cursor, { addressSize, info }: Unit): number {
  const low = cursor.u32()
  return info.space.offset(low, addressSize === 8 ? cursor.u32() : 0)
}

/** The address with this number in .debug_addr; null when the section is missing (split DWARF without its program). */
export function addressAt(unit: Unit, index: number): number | null {
  const { addr } = unit.info.sections
  return addr === null ? null : readAddress(addr.seek(unit.addrBase + index * unit.addressSize), unit)
}

/** Throws for a form that is no string; null when the string is in a file that is not at hand. */
export function readText(cursor: Cursor, form: number, unit: Unit): string | null {
  const { str, lineStr } = unit.info.sections
  switch (form) {
    case FORM.string: return cursor.text()
    case FORM.strp: return textAt(str, cursor.unsigned(unit.offsetSize))
    case FORM.lineStrp: return textAt(lineStr, cursor.unsigned(unit.offsetSize))
    case FORM.gnuStrpAlt: case FORM.strpSup: return textAt(unit.info.alt?.sections.str ?? null, cursor.unsigned(unit.offsetSize))
    case FORM.strx: case FORM.gnuStrIndex: return indexedText(unit, cursor.uleb())
    case FORM.strx1: return indexedText(unit, cursor.u8())
    case FORM.strx2: return indexedText(unit, cursor.u16())
    case FORM.strx3: return indexedText(unit, cursor.u24())
    case FORM.strx4: return indexedText(unit, cursor.u32())
    default: throw new InputError('dump-malformed', `.debug_info: form 0x${form.toString(16)} where a string belongs`)
  }
}

function indexedText(unit: Unit, index: number): string | null {
  const { strOffsets, str } = unit.info.sections
  if (strOffsets === null) return null
  return textAt(str, strOffsets.seek(unit.strOffsetsBase + index * unit.offsetSize).unsigned(unit.offsetSize))
}

const textAt = (section: Cursor | null, offset: number): string | null => section && section.textAt(offset)
