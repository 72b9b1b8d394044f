/**
 * Pointers of exception tables (LSB, "DWARF Exception Header Encoding"): the low four bits say their size and sign, the next
 * three what they are relative to.
 */
import type { Space } from '../elf/space.ts'
import type { Cursor } from './cursor.ts'

export interface PointerContext {
  space: Space
  encoding: number
  size: 4 | 8
  /** Offset of the section from the module's base: what positions in it are relative to. */
  place: number
  /** A size: relative to nothing. */
  isLength?: true
}

const RELATIVE = { absolute: 0x00, here: 0x10 } as const

/** Offset from the module's base; NaN for one that is relative to something else, or that was dropped. */
export function readPointer(cursor: Cursor, { space, encoding, size, place, isLength }: PointerContext): number {
  const at = cursor.at
  const format = encoding & 0x0f
  if (encoding === 0xff) return NaN
  const isAbsolute = !isLength && (encoding & 0x70) === RELATIVE.absolute
  if (isAbsolute && (format === 0 || format === 4 || format === 3)) {
    const bytes = format === 0 ? size : format === 4 ? 8 : 4
    const low = cursor.u32()
    return space.offset(low, bytes === 8 ? cursor.u32() : 0)
  }
  const value = readNumber(cursor, format, size)
  if (isLength) return value
  // Through memory (0x80), or relative to the text, the data or the function.
  if ((encoding & 0x80) !== 0) return NaN
  if (isAbsolute) return space.offsetOf(BigInt.asUintN(64, BigInt(Math.trunc(value))))
  return (encoding & 0x70) === RELATIVE.here ? place + at + value : NaN
}

function readNumber(cursor: Cursor, format: number, size: 4 | 8): number {
  switch (format) {
    case 0x00: return cursor.unsigned(size)
    case 0x01: return cursor.uleb()
    case 0x02: return cursor.u16()
    case 0x03: return cursor.u32()
    case 0x04: return cursor.u64()
    case 0x09: return cursor.sleb()
    case 0x0a: return cursor.i16()
    case 0x0b: return cursor.i32()
    case 0x0c: return cursor.i64()
    default: return cursor.malformed(`pointer of format ${format}`)
  }
}
