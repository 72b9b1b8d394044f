/**
 * Split DWARF (DWARF 5, section 7.3, and GNU's for version 4): a program holds skeletons and lines, its functions are in .dwo
 * files or, gathered, in a .dwp. A skeleton and its unit know each other by an id.
 *
 *   .debug_cu_index = version:u32 columns:u32 units:u32 slots:u32
 *                     slots of id:u64, slots of row:u32 (from 1, 0: empty), columns of section:u32,
 *                     rows of offset:u32 by column, rows of size:u32 by column
 */
import type { ElfImage } from '../elf/elf.ts'
import { Cursor } from './cursor.ts'
import { openDebugInfo, type DebugInfo, type DwarfSections, type Unit } from './units.ts'

/** What the index calls the sections: info, abbrev, string offsets, range lists. */
const COLUMN = { info: 1, abbrev: 3, strOffsets: 6, rnglists: 8 } as const
const MOST_UNITS = 100_000
const MOST_COLUMNS = 16

export const isSplit = (image: ElfImage): boolean => image.find('.debug_info.dwo') !== null

/** Ids of the split units of a .dwo or .dwp, with what opens them in the place of their skeleton. */
export function splitUnits(image: ElfImage, found: Map<string, (skeleton: Unit) => DebugInfo>): void {
  const whole = (name: string): Uint8Array | null => image.read(`.debug_${name}.dwo`)
  const sections = { info: whole('info'), abbrev: whole('abbrev'), strOffsets: whole('str_offsets'), rnglists: whole('rnglists') }
  const str = whole('str')
  const index = image.read('.debug_cu_index')
  if (index !== null) {
    for (const { id, part } of rows(new Cursor(index, '.debug_cu_index'))) found.set(id, opener({
      info: part(sections.info, COLUMN.info), abbrev: part(sections.abbrev, COLUMN.abbrev), strOffsets: part(sections.strOffsets, COLUMN.strOffsets), rnglists: part(sections.rnglists, COLUMN.rnglists),
    }, str))
    return
  }
  const open = opener(sections, str)
  // Which units are in it is only told by itself.
  for (const { dwoId } of openDebugInfo(dwarfSections(sections, str, null), image.space, null).units) if (dwoId !== null) found.set(dwoId, open)
}

type Parts = Record<'info' | 'abbrev' | 'strOffsets' | 'rnglists', Uint8Array | null>

function* rows(cursor: Cursor): Generator<{ id: string; part(section: Uint8Array | null, column: number): Uint8Array | null }> {
  cursor.u32()
  const [columns, units, slots] = [cursor.u32(), cursor.u32(), cursor.u32()]
  if (columns > MOST_COLUMNS || units > MOST_UNITS || slots > 4 * MOST_UNITS) cursor.malformed(`${units} units of ${columns} sections in ${slots} slots`)
  const ids = cursor.at
  const rowNumbers = ids + 8 * slots
  const names = rowNumbers + 4 * slots
  const offsets = names + 4 * columns
  const sizes = offsets + 4 * columns * units
  const columnOf = new Map(Array.from({ length: columns }, (_, column) => [cursor.seek(names + 4 * column).u32(), column] as const))
  for (let slot = 0; slot < slots; slot++) {
    const row = cursor.seek(rowNumbers + 4 * slot).u32()
    if (row === 0 || row > units) continue
    const low = cursor.seek(ids + 8 * slot).u32().toString(16).padStart(8, '0')
    const id = `${cursor.u32().toString(16).padStart(8, '0')}${low}`
    yield {
      id,
      part(section, name) {
        const column = columnOf.get(name)
        if (section === null || column === undefined) return null
        const at = 4 * ((row - 1) * columns + column)
        const [from, size] = [cursor.seek(offsets + at).u32(), cursor.seek(sizes + at).u32()]
        return section.subarray(from, from + size)
      },
    }
  }
}

/** Addresses, and in version 4 ranges, are in the program; so are the lines. */
const opener = (parts: Parts, str: Uint8Array | null) => (skeleton: Unit): DebugInfo => {
  const info = openDebugInfo(dwarfSections(parts, str, skeleton), skeleton.info.space, null)
  for (const unit of info.units) Object.assign(unit, { addrBase: skeleton.addrBase, rangesBase: skeleton.rangesBase, base: skeleton.base, compDir: skeleton.compDir })
  return info
}

function dwarfSections({ info, abbrev, strOffsets, rnglists }: Parts, str: Uint8Array | null, skeleton: Unit | null): DwarfSections {
  const cursor = (bytes: Uint8Array | null, name: string): Cursor | null => bytes && new Cursor(bytes, name)
  const program = skeleton?.info.sections
  return {
    info: info ?? new Uint8Array(), abbrev: abbrev ?? new Uint8Array(), line: null, str: cursor(str, '.debug_str.dwo'), lineStr: null,
    strOffsets: cursor(strOffsets, '.debug_str_offsets.dwo'), addr: program?.addr ?? null, ranges: program?.ranges ?? null, rnglists: cursor(rnglists, '.debug_rnglists.dwo'),
  }
}
