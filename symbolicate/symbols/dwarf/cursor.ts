/**
 * Reads DWARF's data forms (DWARF 5, section 7): fixed words, LEB128, offsets of 4 or 8 bytes, strings. Like reader.ts every
 * access is checked and throws InputError past the end; it is a class of its own because millions of entries go through it
 * and all numbers are plain. LEB128 past 2^53 loses its low bits: no offset, count or address delta in a file is that large.
 */
import { InputError } from '../../reader.ts'

/** Longer names are cut: no demangler reads them. */
const LONGEST_TEXT = 16 * 1024

export class Cursor {
  readonly bytes: Uint8Array
  readonly end: number
  at: number
  private readonly view: DataView
  private readonly buffer: Buffer
  private readonly what: string

  constructor(bytes: Uint8Array, what: string, at = 0, end = bytes.length) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.what = what
    this.at = at
    this.end = Math.min(end, bytes.length)
    if (!(at >= 0 && at <= this.end)) this.fail(0)
  }

  seek(at: number): this {
    if (!(at >= 0 && at <= this.end)) this.fail(at - this.at)
    this.at = at
    return this
  }

  skip(length: number): void {
    if (!(length >= 0 && this.at + length <= this.end)) this.fail(length)
    this.at += length
  }

  u8(): number {
    if (this.at >= this.end) this.fail(1)
    return this.bytes[this.at++]!
  }

  u16(): number {
    const at = this.take(2)
    return this.view.getUint16(at, true)
  }

  u24(): number {
    const at = this.take(3)
    return this.bytes[at]! | (this.bytes[at + 1]! << 8) | (this.bytes[at + 2]! << 16)
  }

  u32(): number {
    const at = this.take(4)
    return this.view.getUint32(at, true)
  }

  i16(): number {
    const at = this.take(2)
    return this.view.getInt16(at, true)
  }

  i32(): number {
    const at = this.take(4)
    return this.view.getInt32(at, true)
  }

  u64(): number {
    const at = this.take(8)
    return this.view.getUint32(at, true) + this.view.getUint32(at + 4, true) * 0x1_0000_0000
  }

  i64(): number {
    const at = this.take(8)
    return this.view.getUint32(at, true) + this.view.getInt32(at + 4, true) * 0x1_0000_0000
  }

  /** An unsigned number of 1, 2, 3, 4 or 8 bytes. */
  unsigned(size: number): number {
    switch (size) {
      case 1: return this.u8()
      case 2: return this.u16()
      case 3: return this.u24()
      case 4: return this.u32()
      case 8: return this.u64()
      default: return this.malformed(`number of ${size} bytes`)
    }
  }

  uleb(): number {
    let value = 0
    let scale = 1
    for (let index = 0; index < 10; index++) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
      scale *= 128
    }
    return this.malformed('LEB128 of more than 10 bytes')
  }

  sleb(): number {
    let value = 0
    let scale = 1
    for (let index = 0; index < 10; index++) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      scale *= 128
      if (byte < 0x80) return (byte & 0x40) === 0 ? value : value - scale
    }
    return this.malformed('LEB128 of more than 10 bytes')
  }

  skipLeb(): void {
    while (this.u8() >= 0x80);
  }

  /** The length of a unit, and the size of the offsets in it: 0xffffffff announces 64 bits. */
  initialLength(): { length: number; offsetSize: 4 | 8 } {
    const length = this.u32()
    if (length < 0xffff_fff0) return { length, offsetSize: 4 }
    if (length !== 0xffff_ffff) this.malformed(`length 0x${length.toString(16)}`)
    return { length: this.u64(), offsetSize: 8 }
  }

  /** The text at `at`, for which the cursor stays: any number of entries may name one, so a long one costs no more than it gives. */
  textAt(at: number): string {
    if (!(at >= 0 && at < this.end)) this.malformed(`string at ${at}`)
    const most = Math.min(this.end, at + LONGEST_TEXT)
    let end = at
    while (end < most && this.bytes[end] !== 0) end++
    return this.buffer.toString('latin1', at, end)
  }

  /** Bytes up to a zero, which is passed over. Latin-1, so that they come out as they went in. */
  text(): string {
    const from = this.at
    const end = this.textEnd()
    this.at = end + 1
    return this.buffer.toString('latin1', from, Math.min(end, from + LONGEST_TEXT))
  }

  skipText(): void {
    this.at = this.textEnd() + 1
  }

  malformed(problem: string): never {
    throw new InputError('dump-malformed', `${this.what}: ${problem} at ${this.at}`)
  }

  private textEnd(): number {
    const end = this.bytes.indexOf(0, this.at)
    if (end < 0 || end >= this.end) this.malformed('string without an end')
    return end
  }

  private take(length: number): number {
    const at = this.at
    if (at + length > this.end) this.fail(length)
    this.at = at + length
    return at
  }

  private fail(length: number): never {
    throw new InputError('dump-truncated', `${this.what}: ${length} bytes at ${this.at} end past ${this.end}`)
  }
}
