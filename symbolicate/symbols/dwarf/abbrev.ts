/**
 * .debug_abbrev: what an entry's code says of its tag and attributes (DWARF 5, section 7.5.3).
 *
 *   table = *(code:uleb tag:uleb children:u8 *(attribute:uleb form:uleb [value:sleb when the form is implicit_const]) 0 0) 0
 *
 * An entry whose attributes all have a fixed size is passed over in one step: most of a file is types and variables.
 */
import { FORM, SLOT_OF } from './constants.ts'
import { Cursor } from './cursor.ts'

export interface Abbrev {
  tag: number
  children: boolean
  attributes: readonly AbbrevAttribute[]
  /** Bytes of all its attributes; -1 when that depends on the entry. */
  size: number
}
/** `slot` is -1 for an attribute that nobody here reads; `constant` is the value of an implicit_const. */
export interface AbbrevAttribute { slot: number; form: number; constant: number }

/** What the size of a form depends on. */
export interface Sizes { version: number; addressSize: number; offsetSize: 4 | 8 }

/** Over all tables of a file: many units may claim tables that overlap. */
const MOST_ATTRIBUTES = 8_000_000
const MOST_TABLES = 64

export function createAbbrevs(section: Uint8Array): (offset: number, sizes: Sizes) => ReadonlyMap<number, Abbrev> {
  const tables = new Map<string, ReadonlyMap<number, Abbrev>>()
  let attributes = 0

  return function tableAt(offset, sizes) {
    const key = `${offset} ${sizes.addressSize} ${sizes.offsetSize} ${sizes.version}`
    const known = tables.get(key)
    if (known) return known
    const table = new Map<number, Abbrev>()
    const cursor = new Cursor(section, '.debug_abbrev', offset)
    for (let code = cursor.uleb(); code !== 0; code = cursor.uleb()) {
      const abbrev = readAbbrev(cursor, sizes)
      attributes += 1 + abbrev.attributes.length
      if (attributes > MOST_ATTRIBUTES) cursor.malformed(`more than ${MOST_ATTRIBUTES} attributes`)
      table.set(code, abbrev)
    }
    if (tables.size >= MOST_TABLES) tables.clear()
    tables.set(key, table)
    return table
  }
}

function readAbbrev(cursor: Cursor, sizes: Sizes): Abbrev {
  const tag = cursor.uleb()
  const children = cursor.u8() !== 0
  const attributes: AbbrevAttribute[] = []
  let size = 0
  for (;;) {
    const [attribute, form] = [cursor.uleb(), cursor.uleb()]
    if (attribute === 0 && form === 0) return { tag, children, attributes, size }
    const constant = form === FORM.implicitConst ? cursor.sleb() : 0
    const bytes = fixedSize(form, sizes)
    size = size < 0 || bytes < 0 ? -1 : size + bytes
    attributes.push({ slot: SLOT_OF.get(attribute) ?? -1, form, constant })
  }
}

/** -1 for a form whose size is in the entry. */
export function fixedSize(form: number, { version, addressSize, offsetSize }: Sizes): number {
  switch (form) {
    case FORM.flagPresent: case FORM.implicitConst: return 0
    case FORM.data1: case FORM.ref1: case FORM.flag: case FORM.strx1: case FORM.addrx1: return 1
    case FORM.data2: case FORM.ref2: case FORM.strx2: case FORM.addrx2: return 2
    case FORM.strx3: case FORM.addrx3: return 3
    case FORM.data4: case FORM.ref4: case FORM.strx4: case FORM.addrx4: case FORM.refSup4: return 4
    case FORM.data8: case FORM.ref8: case FORM.refSig8: case FORM.refSup8: return 8
    case FORM.data16: return 16
    case FORM.addr: return addressSize
    case FORM.refAddr: return version <= 2 ? addressSize : offsetSize
    case FORM.secOffset: case FORM.strp: case FORM.lineStrp: case FORM.strpSup: case FORM.gnuRefAlt: case FORM.gnuStrpAlt: return offsetSize
    default: return -1
  }
}

/** Throws for a form that no version of DWARF knows. */
export function skipForm(cursor: Cursor, form: number, sizes: Sizes): void {
  const size = fixedSize(form, sizes)
  if (size >= 0) return cursor.skip(size)
  switch (form) {
    case FORM.string: return cursor.skipText()
    case FORM.block1: return cursor.skip(cursor.u8())
    case FORM.block2: return cursor.skip(cursor.u16())
    case FORM.block4: return cursor.skip(cursor.u32())
    case FORM.block: case FORM.exprloc: return cursor.skip(cursor.uleb())
    case FORM.sdata: case FORM.udata: case FORM.refUdata: case FORM.strx: case FORM.addrx: case FORM.loclistx: case FORM.rnglistx: case FORM.gnuAddrIndex: case FORM.gnuStrIndex: return cursor.skipLeb()
    case FORM.indirect: {
      const named = cursor.uleb()
      if (named === FORM.indirect || named === FORM.implicitConst) cursor.malformed('indirect form')
      return skipForm(cursor, named, sizes)
    }
    default: return cursor.malformed(`form 0x${form.toString(16)}`)
  }
}
