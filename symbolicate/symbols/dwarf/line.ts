/**
 * .debug_line: which source line each instruction belongs to (DWARF 5, section 6.2), versions 2 to 5.
 *
 *   program = length version:u16 [v5: address-size:u8 segment-size:u8] header-length
 *             minimum-length:u8 [v4: operations:u8] default-is-stmt:u8 line-base:i8 line-range:u8 opcode-base:u8 lengths
 *             v2 to v4: *directory 0 *(file directory:uleb time:uleb length:uleb) 0
 *             v5:       formats:u8 *(content:uleb form:uleb) count:uleb *directory, then the same for files
 *             *opcode
 *
 * A program is a machine that writes rows of a table; a row holds until the address of the next. Rows of one sequence ascend;
 * a sequence that begins at the address of a dropped function is left out. Of rows at one address the last counts.
 */
import { skipForm, type Sizes } from './abbrev.ts'
import { FORM } from './constants.ts'
import type { Cursor } from './cursor.ts'
import { readText, type Unit } from './units.ts'
import { Growing } from '../growing.ts'
import { NONE, SECTIONS } from '../tables.ts'

/** Rows as the prepared table has them; `sequences` are [start, first row, end of rows]. */
export interface LineRows { rows: Growing; sequences: Growing }
export const createLineRows = (): LineRows => ({ rows: new Growing(SECTIONS.lines), sequences: new Growing(3) })

const OPCODE = {
  extended: 0, copy: 1, advancePc: 2, advanceLine: 3, setFile: 4, setColumn: 5, negateStmt: 6, setBasicBlock: 7, constAddPc: 8, fixedAdvancePc: 9,
  setPrologueEnd: 10, setEpilogueBegin: 11, setIsa: 12,
} as const
const EXTENDED = { endSequence: 1, setAddress: 2, defineFile: 3 } as const
const CONTENT = { path: 1, directory: 2 } as const
const MOST_FILES = 1_000_000
const MOST_ROWS = 40_000_000

interface Header {
  version: number
  minimumLength: number
  operations: number
  lineBase: number
  lineRange: number
  lengths: number[]
  /** Numbers of strings by the file's number; version 5 counts from 0, before from 1. */
  files: number[]
}

/** Runs the program of a unit; returns its files, by number, as numbers of strings. */
export function readLines(unit: Unit, offset: number, addString: (text: string) => number, { rows, sequences }: LineRows): number[] {
  const cursor = unit.info.sections.line?.seek(offset)
  if (!cursor) return []
  const { length, offsetSize } = cursor.initialLength()
  const end = cursor.at + length
  if (end > cursor.end) cursor.malformed(`line program of ${length} bytes`)
  const header = readHeader(cursor, unit, offsetSize, end, addString)
  if (header === null) return []
  run(cursor, end, header, unit, { rows, sequences })
  return header.files
}

function readHeader(cursor: Cursor, unit: Unit, offsetSize: 4 | 8, end: number, addString: (text: string) => number): Header | null {
  const version = cursor.u16()
  if (version < 2 || version > 5) return null
  let addressSize = unit.addressSize
  if (version >= 5) {
    addressSize = cursor.u8()
    cursor.u8()
  }
  const headerLength = cursor.unsigned(offsetSize)
  const program = cursor.at + headerLength
  if (program > end) cursor.malformed(`header of ${headerLength} bytes`)
  const minimumLength = cursor.u8()
  const operations = version >= 4 ? cursor.u8() || 1 : 1
  cursor.u8()
  const lineBase = (cursor.u8() << 24) >> 24
  const lineRange = cursor.u8()
  if (lineRange === 0) cursor.malformed('line range of 0')
  const opcodeBase = cursor.u8()
  const lengths = Array.from({ length: Math.max(0, opcodeBase - 1) }, () => cursor.u8())
  const files = version >= 5 ? readFiles(cursor, unit, { version, addressSize, offsetSize }, addString) : readOldFiles(cursor, unit, addString)
  cursor.seek(program)
  return { version, minimumLength, operations, lineBase, lineRange, lengths, files }
}

function readOldFiles(cursor: Cursor, { compDir }: Unit, addString: (text: string) => number): number[] {
  const directories = [compDir]
  for (let name = cursor.text(); name !== ''; name = cursor.text()) directories.push(join(compDir, name))
  const files = [NONE]
  for (let name = cursor.text(); name !== ''; name = cursor.text()) {
    files.push(addString(join(directories[cursor.uleb()] ?? compDir, name)))
    cursor.skipLeb()
    cursor.skipLeb()
  }
  return files
}

function readFiles(cursor: Cursor, unit: Unit, sizes: Sizes, addString: (text: string) => number): number[] {
  const named = { ...unit, ...sizes }
  const directories = readEntries(cursor, named).map(({ path }) => join(unit.compDir, path))
  return readEntries(cursor, named).map(({ path, directory }) => addString(join(directories[directory] ?? unit.compDir, path)))
}

function readEntries(cursor: Cursor, unit: Unit): { path: string; directory: number }[] {
  const formats = Array.from({ length: cursor.u8() }, () => ({ content: cursor.uleb(), form: cursor.uleb() }))
  const count = cursor.uleb()
  if (count > MOST_FILES || count > cursor.end - cursor.at) cursor.malformed(`${count} files`)
  return Array.from({ length: count }, () => {
    const entry = { path: '', directory: 0 }
    for (const { content, form } of formats) {
      if (content === CONTENT.path) entry.path = readText(cursor, form, unit) ?? ''
      else if (content === CONTENT.directory) entry.directory = readIndex(cursor, form, unit)
      else skipForm(cursor, form, unit)
    }
    return entry
  })
}

function readIndex(cursor: Cursor, form: number, sizes: Sizes): number {
  if (form === FORM.udata) return cursor.uleb()
  if (form === FORM.data1) return cursor.u8()
  if (form === FORM.data2) return cursor.u16()
  skipForm(cursor, form, sizes)
  return 0
}

const join = (directory: string, name: string): string => (directory === '' || /^(?:[/\\]|[A-Za-z]:)/.test(name) ? name : name === '' ? directory : `${directory}/${name}`)

function run(cursor: Cursor, end: number, header: Header, unit: Unit, { rows, sequences }: LineRows): void {
  const { minimumLength, operations, lineBase, lineRange, lengths, files } = header
  const { space } = unit.info
  const opcodeBase = lengths.length + 1
  let address = NaN
  let operation = 0
  let file = 1
  let line = 1
  // The row that waits for the next address; NaN where the sequence is none of ours.
  let rowAddress = NaN
  let rowFile = NONE
  let rowLine = 0
  let first = rows.count
  let codeEnd = 0

  const advance = (count: number): void => {
    if (operations === 1) {
      address += minimumLength * count
    } else {
      address += minimumLength * Math.floor((operation + count) / operations)
      operation = (operation + count) % operations
    }
  }

  function emit(): void {
    if (address > rowAddress) close()
    if (address < rowAddress) finish()
    if (!(address >= rowAddress && address < codeEnd)) codeEnd = address >= 0 ? space.codeEnd(address) : 0
    rowAddress = address
    rowFile = files[file] ?? NONE
    rowLine = line >= 0 && line < NONE ? line : 0
  }

  /** The waiting row ends at `address`. */
  function close(): void {
    if (codeEnd === 0 || rowAddress >= codeEnd) return
    const size = Math.min(address, codeEnd) - rowAddress
    const last = rows.count - 1
    const follows = last >= first && rows.get(last, 0) + rows.get(last, 1) === rowAddress
    if (follows && rows.get(last, 2) === rowFile && rows.get(last, 3) === rowLine) rows.set(last, 1, rows.get(last, 1) + size)
    else if (rows.count >= MOST_ROWS) cursor.malformed(`more than ${MOST_ROWS} rows`)
    else rows.push(rowAddress, size, rowFile, rowLine)
  }

  function finish(): void {
    if (rows.count > first) sequences.push(rows.get(first, 0), first, rows.count)
    first = rows.count
  }

  while (cursor.at < end) {
    const opcode = cursor.u8()
    if (opcode >= opcodeBase) {
      const adjusted = opcode - opcodeBase
      advance(Math.floor(adjusted / lineRange))
      line += lineBase + (adjusted % lineRange)
      emit()
      continue
    }
    switch (opcode) {
      case OPCODE.extended: {
        const length = cursor.uleb()
        const next = cursor.at + length
        if (length === 0) break
        const extended = cursor.u8()
        if (extended === EXTENDED.endSequence) {
          if (address > rowAddress) close()
          finish()
          address = rowAddress = NaN
          operation = 0
          file = line = 1
        } else if (extended === EXTENDED.setAddress && (length === 5 || length === 9)) {
          const low = cursor.u32()
          address = space.offset(low, length === 9 ? cursor.u32() : 0)
          operation = 0
        } else if (extended === EXTENDED.defineFile) {
          return cursor.malformed('a file defined in the program')
        }
        cursor.seek(next)
        break
      }
      case OPCODE.copy: emit(); break
      case OPCODE.advancePc: advance(cursor.uleb()); break
      case OPCODE.advanceLine: line += cursor.sleb(); break
      case OPCODE.setFile: file = cursor.uleb(); break
      case OPCODE.setColumn: cursor.skipLeb(); break
      case OPCODE.constAddPc: advance(Math.floor((255 - opcodeBase) / lineRange)); break
      case OPCODE.fixedAdvancePc: address += cursor.u16(); operation = 0; break
      default: for (let operands = lengths[opcode - 1]!; operands > 0; operands--) cursor.skipLeb()
    }
  }
  finish()
}
