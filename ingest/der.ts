/**
 * A small reader for DER (X.690), as much of it as X.509 needs: low tag numbers, definite lengths in their shortest form.
 *
 *   element = tag (1 byte), length (1 byte, or 0x80|n and n bytes), content
 *
 * Every length is a claim: it is checked against the element that holds it before anything is sliced. The first thing
 * that is not DER ends the reading with a DerError, which never leaves certificate.ts and crl.ts.
 */
export class DerError extends Error {}

export type Der = {
  readonly tag: number
  /** Content of the element, a view. */
  readonly content: Uint8Array
  /** The whole element with its head, a view. */
  readonly whole: Uint8Array
}

export const TAG = {
  boolean: 0x01, integer: 0x02, bitString: 0x03, octetString: 0x04, oid: 0x06, enumerated: 0x0a, utf8: 0x0c, printable: 0x13, teletex: 0x14, ia5: 0x16,
  utcTime: 0x17, generalizedTime: 0x18, bmp: 0x1e, sequence: 0x30, set: 0x31,
} as const

/** More elements in one sequence than any certificate of the profile has. */
const MAX_CHILDREN = 64

/** The element that starts at `at`. */
export function derAt(bytes: Uint8Array, at: number): Der {
  const tag = bytes[at]
  const first = bytes[at + 1]
  if (tag === undefined || first === undefined) throw new DerError(`element cut off at offset ${at}`)
  if ((tag & 0x1f) === 0x1f) throw new DerError(`long tag at offset ${at}`)
  let length = first
  let start = at + 2
  if (first >= 0x80) {
    const count = first & 0x7f
    if (count === 0 || count > 3) throw new DerError(`length of ${count} bytes at offset ${at}`)
    length = 0
    for (let i = 0; i < count; i++) {
      const byte = bytes[start++]
      if (byte === undefined) throw new DerError(`length cut off at offset ${at}`)
      length = length * 256 + byte
    }
    if (length < 0x80 || length < 256 ** (count - 1)) throw new DerError(`length not in its shortest form at offset ${at}`)
  }
  if (start + length > bytes.length) throw new DerError(`element at offset ${at} ends ${start + length - bytes.length} bytes past its holder`)
  return { tag, content: bytes.subarray(start, start + length), whole: bytes.subarray(at, start + length) }
}

/** The one element that `bytes` is. */
export function derOf(bytes: Uint8Array, tag: number): Der {
  const element = derAt(bytes, 0)
  if (element.whole.length !== bytes.length) throw new DerError(`${bytes.length - element.whole.length} bytes after the element`)
  return expectTag(element, tag)
}

/** The elements inside a constructed one, in order, at most `most` of them. */
export function children(element: Der, most = MAX_CHILDREN): Der[] {
  if ((element.tag & 0x20) === 0) throw new DerError(`tag 0x${element.tag.toString(16)} is not constructed`)
  const found: Der[] = []
  for (let at = 0; at < element.content.length;) {
    if (found.length === most) throw new DerError(`more than ${most} elements in a sequence`)
    const child = derAt(element.content, at)
    found.push(child)
    at += child.whole.length
  }
  return found
}

export function expectTag(element: Der | undefined, tag: number): Der {
  if (element?.tag !== tag) throw new DerError(`tag 0x${tag.toString(16)} expected, found ${element ? `0x${element.tag.toString(16)}` : 'nothing'}`)
  return element
}

export const sequence = (element: Der | undefined): Der[] => children(expectTag(element, TAG.sequence))

/** Content of an INTEGER in its shortest form. */
export function integerBytes(element: Der | undefined, tag: number = TAG.integer): Uint8Array {
  const { content } = expectTag(element, tag)
  if (content.length === 0) throw new DerError('empty integer')
  if (content.length > 1 && (content[0] === 0 ? content[1]! < 0x80 : content[0] === 0xff && content[1]! >= 0x80)) {
    throw new DerError('integer not in its shortest form')
  }
  return content
}

/** A non-negative INTEGER below 2^53. */
export function unsigned(element: Der | undefined, tag: number = TAG.integer): number {
  const content = integerBytes(element, tag)
  if (content[0]! >= 0x80) throw new DerError('negative integer')
  if (content.length > 7) throw new DerError('integer too large')
  return content.reduce((value, byte) => value * 256 + byte, 0)
}

export function boolean(element: Der | undefined): boolean {
  const { content } = expectTag(element, TAG.boolean)
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw new DerError('boolean is neither 00 nor FF')
  return content[0] === 0xff
}

/** Content of a BIT STRING and how many bits at its end are unused (and zero). */
export function bitString(element: Der | undefined): { bytes: Uint8Array; unused: number } {
  const { content } = expectTag(element, TAG.bitString)
  const unused = content[0]
  if (unused === undefined || unused > 7 || (content.length === 1 && unused > 0)) throw new DerError('bit string with a wrong count of unused bits')
  if ((content.at(-1)! & ((1 << unused) - 1)) !== 0 && content.length > 1) throw new DerError('bit string with unused bits set')
  return { bytes: content.subarray(1), unused }
}

/** OBJECT IDENTIFIER in dotted form. */
export function oid(element: Der | undefined): string {
  const { content } = expectTag(element, TAG.oid)
  if (content.length === 0 || content.length > 32 || content.at(-1)! >= 0x80) throw new DerError('object identifier cut off or too long')
  const arcs: number[] = []
  let arc = 0
  let fresh = true
  for (const byte of content) {
    if (fresh && byte === 0x80) throw new DerError('object identifier not in its shortest form')
    arc = arc * 128 + (byte & 0x7f)
    if (arc > Number.MAX_SAFE_INTEGER) throw new DerError('object identifier with an arc beyond 2^53')
    fresh = byte < 0x80
    if (fresh) {
      arcs.push(arc)
      arc = 0
    }
  }
  const top = Math.min(Math.trunc(arcs[0]! / 40), 2)
  return [top, arcs[0]! - top * 40, ...arcs.slice(1)].join('.')
}

const TIME = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/

/** UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 writes them (seconds, Z, no fraction), in ms since the epoch. */
export function time(element: Der | undefined): number {
  const isUtc = element?.tag === TAG.utcTime
  const { content } = isUtc ? element : expectTag(element, TAG.generalizedTime)
  const match = TIME.exec(Buffer.from(content).toString('latin1'))
  if (match === null || match[1]!.length !== (isUtc ? 2 : 4)) throw new DerError('time is not of the form YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ')
  const [written, month, day, hour, minute, second] = match.slice(1).map(Number) as [number, number, number, number, number, number]
  const year = isUtc ? written + (written >= 50 ? 1900 : 2000) : written
  const at = new Date(0)
  at.setUTCFullYear(year, month - 1, day)
  at.setUTCHours(hour, minute, second)
  if (at.getUTCMonth() !== month - 1 || at.getUTCDate() !== day || at.getUTCHours() !== hour || at.getUTCMinutes() !== minute || at.getUTCSeconds() !== second) {
    throw new DerError('time names no moment of the calendar')
  }
  return at.getTime()
}
