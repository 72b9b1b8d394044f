/** Draws .debug_info, .debug_abbrev and .debug_line of one unit, versions 4 and 5. */
import { measured, text, u16, u32, u64, u8, uleb, type DrawnSection } from './elf-builder.ts'

export interface DrawnFunction { name?: string; low: number; size: number; calls?: DrawnCall[]; origin?: 'self' }
/** An inlined call of the abstract function with this index. */
export interface DrawnCall { of: number; low: number; size: number; line: number; calls?: DrawnCall[] }
export interface DrawnUnit { version: 4 | 5; abstract?: string[]; functions: DrawnFunction[]; rows: { at: number; file: number; line: number }[][]; files: string[] }

const ABBREVS = Buffer.concat([
  // compile_unit: name, comp_dir, stmt_list, language
  uleb(1), uleb(0x11), u8(1), ...[[0x03, 0x08], [0x1b, 0x08], [0x10, 0x17], [0x13, 0x0b], [0, 0]].flat().map(uleb),
  // subprogram: name, low_pc, high_pc
  uleb(2), uleb(0x2e), u8(1), ...[[0x03, 0x08], [0x11, 0x01], [0x12, 0x06], [0, 0]].flat().map(uleb),
  // abstract subprogram: name, inline
  uleb(3), uleb(0x2e), u8(0), ...[[0x03, 0x08], [0x20, 0x0b], [0, 0]].flat().map(uleb),
  // inlined_subroutine: abstract_origin, low_pc, high_pc, call_file, call_line
  uleb(4), uleb(0x1d), u8(1), ...[[0x31, 0x13], [0x11, 0x01], [0x12, 0x06], [0x58, 0x0b], [0x59, 0x0f], [0, 0]].flat().map(uleb),
  // subprogram: abstract_origin, low_pc, high_pc
  uleb(5), uleb(0x2e), u8(1), ...[[0x31, 0x13], [0x11, 0x01], [0x12, 0x06], [0, 0]].flat().map(uleb),
  uleb(0),
])

export function drawDwarf({ version, abstract = [], functions, rows, files }: DrawnUnit): DrawnSection[] {
  const headerSize = version === 5 ? 12 : 11
  const root = Buffer.concat([uleb(1), text('main.c'), text('/src'), u32(0), u8(0x0c)])
  const origins: number[] = []
  let at = headerSize + root.length
  const parts: Buffer[] = []
  const add = (part: Buffer): void => { parts.push(part); at += part.length }
  for (const name of abstract) {
    origins.push(at)
    add(Buffer.concat([uleb(3), text(name), u8(1)]))
  }
  const drawCall = ({ of, low, size, line, calls = [] }: DrawnCall): Buffer =>
    Buffer.concat([uleb(4), u32(origins[of]!), u64(low), u32(size), u8(1), uleb(line), ...calls.map(drawCall), u8(0)])
  for (const { name = '', low, size, calls = [], origin } of functions) {
    const head = origin === 'self' ? Buffer.concat([uleb(5), u32(at)]) : Buffer.concat([uleb(2), text(name)])
    add(Buffer.concat([head, u64(low), u32(size), ...calls.map(drawCall), u8(0)]))
  }
  const head = version === 5 ? Buffer.concat([u16(5), u8(1, 8), u32(0)]) : Buffer.concat([u16(4), u32(0), u8(8)])
  return [
    { name: '.debug_info', bytes: measured(head, root, ...parts, u8(0)) },
    { name: '.debug_abbrev', bytes: ABBREVS },
    { name: '.debug_line', bytes: drawLines(version, rows, files) },
  ]
}

/** Rows by advance_pc, advance_line, set_file and copy; each list is a sequence that ends 4 bytes behind its last row. */
function drawLines(version: 4 | 5, sequences: DrawnUnit['rows'], files: string[]): Buffer {
  const program = sequences.map((rows) => {
    let [address, line, file] = [rows[0]!.at, 1, 1]
    const steps = rows.map((row) => {
      const step = Buffer.concat([u8(2), uleb(row.at - address), u8(3), sleb(row.line - line), ...(row.file === file ? [] : [u8(4), uleb(row.file)]), u8(1)])
      ;[address, line, file] = [row.at, row.line, row.file]
      return step
    })
    return Buffer.concat([u8(0, 9, 2), u64(rows[0]!.at), ...steps, u8(2, 4), u8(0, 1, 1)])
  })
  const lengths = u8(0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1)
  const tables = version === 5
    ? Buffer.concat([u8(1), uleb(1), uleb(0x08), uleb(1), text('/src'), u8(2), uleb(1), uleb(0x08), uleb(5), uleb(0x1e), uleb(files.length), ...files.map((file) => Buffer.concat([text(file), Buffer.alloc(16, 7)]))])
    : Buffer.concat([u8(0), ...files.map((file) => Buffer.concat([text(file), u8(0, 0, 0)])), u8(0)])
  const behind = Buffer.concat([u8(1, 1, 1, -5, 14, 13), lengths, tables])
  const head = version === 5 ? Buffer.concat([u16(5), u8(8, 0)]) : u16(4)
  return measured(head, u32(behind.length), behind, ...program)
}

function sleb(value: number): Buffer {
  const out: number[] = []
  for (;;) {
    const byte = value & 0x7f
    value >>= 7
    const done = (value === 0 && (byte & 0x40) === 0) || (value === -1 && (byte & 0x40) !== 0)
    out.push(done ? byte : byte | 0x80)
    if (done) return Buffer.from(out)
  }
}
