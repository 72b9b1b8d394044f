/**
 * The one way bytes of a dump or a symbol file are read. Every access is checked against the window first, so a length
 * or an offset that the file claims is never trusted: `need` before `slice`, `count` before a loop or an allocation.
 *
 * A reader past its end throws InputError; the parser that owns the stream catches it and keeps what it has, with a note.
 * Offsets are plain numbers (a file is below 2^53 bytes); 64-bit values are bigint, or `addr` when only values below 2^53 make sense.
 */
export class InputError extends Error {
  readonly slug: 'dump-truncated' | 'dump-malformed'

  constructor(slug: InputError['slug'], message: string) {
    super(message)
    this.name = 'InputError'
    this.slug = slug
  }
}

/** A large dump's names and annotations are some hundred KiB. */
const MOST_TEXT = 8 * 1024 * 1024

export class Reader {
  readonly bytes: Uint8Array
  readonly littleEndian: boolean
  private readonly view: DataView
  /** Where the next sequential read starts. */
  at: number
  private textTaken = 0

  constructor(bytes: Uint8Array, littleEndian = true, at = 0) {
    this.bytes = bytes
    this.littleEndian = littleEndian
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = at
  }

  get length(): number {
    return this.bytes.length
  }

  get left(): number {
    return this.bytes.length - this.at
  }

  /** Throws unless `length` bytes from `offset` are inside. */
  need(offset: number, length: number, what: string): void {
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0 || offset + length > this.bytes.length) {
      const missing = offset + length - this.bytes.length
      throw new InputError('dump-truncated', `${what}: ${length} bytes at ${offset} end past the file (${missing} bytes missing)`)
    }
  }

  /** A view, not a copy. */
  slice(offset: number, length: number, what: string): Uint8Array {
    this.need(offset, length, what)
    return this.bytes.subarray(offset, offset + length)
  }

  /** Bytes that become a string. They are counted over the whole reader, because any number of claims may point at the same bytes. */
  text(offset: number, length: number, what: string): Uint8Array {
    this.textTaken += length
    if (this.textTaken > MOST_TEXT) throw new InputError('dump-malformed', `${what}: more than ${MOST_TEXT} bytes of text`)
    return this.slice(offset, length, what)
  }

  /** A reader of its own over one part: nothing outside of it can be reached. */
  part(offset: number, length: number, what: string): Reader {
    return new Reader(this.slice(offset, length, what), this.littleEndian)
  }

  /**
   * How many records of `size` bytes really fit from here on, given that the file claims `claimed` of them.
   * Callers note the difference; nothing is ever allocated by the claim.
   */
  count(claimed: number, size: number, most: number): number {
    return Math.max(0, Math.min(claimed, Math.floor(this.left / size), most))
  }

  seek(at: number): this {
    this.at = at
    return this
  }

  skip(length: number): this {
    this.at += length
    return this
  }

  u8(): number {
    this.need(this.at, 1, 'u8')
    return this.view.getUint8(this.at++)
  }

  u16(): number {
    this.need(this.at, 2, 'u16')
    const value = this.view.getUint16(this.at, this.littleEndian)
    this.at += 2
    return value
  }

  u32(): number {
    this.need(this.at, 4, 'u32')
    const value = this.view.getUint32(this.at, this.littleEndian)
    this.at += 4
    return value
  }

  i32(): number {
    return this.u32() | 0
  }

  u64(): bigint {
    this.need(this.at, 8, 'u64')
    const value = this.view.getBigUint64(this.at, this.littleEndian)
    this.at += 8
    return value
  }

  /** A 64-bit file offset or length: a number, because nothing that large fits a file anyway. */
  size64(what: string): number {
    const value = this.u64()
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new InputError('dump-malformed', `${what}: 0x${value.toString(16)} is no offset in a file`)
    return Number(value)
  }
}
