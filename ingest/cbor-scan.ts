import { isUtf8 } from 'node:buffer'
import { decode, encode } from 'cborg'
import { refuse, type Refusal, type Slug } from './outcome.ts'

/**
 * Walks over one CBOR item without building it: finds its end and holds it to deterministic encoding (RFC 8949 4.2.1)
 * within limits. It runs before cborg does, on the first bytes of a stream, for two reasons: cborg strict accepts
 * unsorted keys and over-long floats, and, like every recursive decoder, it overflows the stack on deep nesting.
 *
 *   item = head, then by major type:  0, 1 nothing | 2, 3 argument bytes | 4 argument items | 5 argument pairs | 7 simple or float
 *   head = major type (3 bits), argument (5 bits; 24..27 mean that 1, 2, 4 or 8 bytes follow; 28..31 are refused)
 *
 * Tags are refused: the one tag of the format is looked at by whoever calls.
 */
export type ScanLimits = { readonly bytes: number; readonly depth: number; readonly entries: number; readonly text: number }

/** What the scanner says of the first bytes of a stream; `end` is the offset after the item. */
export type Scan = { kind: 'complete'; end: number } | { kind: 'incomplete' }

/** `bytes` may go on after the item. Reads nothing past the item's end or past `start + limits.bytes`. */
export function scanItem(bytes: Uint8Array, start: number, limits: ScanLimits): Scan | Refusal {
  const walk: Walk = { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), limits, most: start + limits.bytes, refusal: undefined }
  const end = item(walk, start, 1)
  if (end >= 0) return { kind: 'complete', end }
  return walk.refusal ?? { kind: 'incomplete' }
}

type Walk = { bytes: Uint8Array; view: DataView; limits: ScanLimits; most: number; refusal: Refusal | undefined }

/** Returned in place of an offset: the bytes end here, or `walk.refusal` says what is wrong. */
const STOP = -1

function stop(walk: Walk, slug: Slug, detail: string): number {
  walk.refusal = refuse(slug, `manifest: ${detail}`)
  return STOP
}

function item(walk: Walk, at: number, depth: number): number {
  const { bytes, limits } = walk
  const initial = bytes[at]
  if (initial === undefined) return STOP
  const major = initial >> 5
  const low = initial & 31
  if (low === 31) return stop(walk, 'cbor-indefinite', `indefinite length or break at offset ${at}`)
  if (low > 27) return stop(walk, 'cbor-malformed', `reserved head 0x${initial.toString(16)} at offset ${at}`)
  const extra = low < 24 ? 0 : 1 << (low - 24)
  const body = at + 1 + extra
  if (body > walk.most) return tooLarge(walk)
  if (body > bytes.length) return STOP
  if (major === 7) return simple(walk, at, low, body)

  const argument = extra === 0 ? low : extra === 1 ? bytes[at + 1]! : extra === 2 ? walk.view.getUint16(at + 1)
    : extra === 4 ? walk.view.getUint32(at + 1) : Number(walk.view.getBigUint64(at + 1))
  const shortest = extra === 0 || argument >= (extra === 1 ? 24 : 2 ** (4 * extra))
  if (!shortest) return stop(walk, 'cbor-not-shortest', `${argument} is written in ${extra} bytes at offset ${at}`)

  switch (major) {
    case 0:
    case 1:
      return body
    case 2:
      return body + argument > walk.most ? tooLarge(walk) : body + argument > bytes.length ? STOP : body + argument
    case 3: {
      if (argument > limits.text) return stop(walk, 'cbor-text-too-long', `text of ${argument} bytes at offset ${at}, at most ${limits.text}`)
      const end = body + argument
      if (end > walk.most) return tooLarge(walk)
      if (end > bytes.length) return STOP
      return isUtf8(bytes.subarray(body, end)) ? end : stop(walk, 'cbor-malformed', `text at offset ${at} is not UTF-8`)
    }
    case 4:
    case 5:
      if (depth >= limits.depth) return stop(walk, 'cbor-too-deep', `nested deeper than ${limits.depth} at offset ${at}`)
      if (argument > limits.entries) return stop(walk, 'cbor-too-many', `${argument} entries at offset ${at}, at most ${limits.entries}`)
      return major === 4 ? items(walk, body, argument, depth) : pairs(walk, body, argument, depth)
    default:
      return stop(walk, 'cbor-malformed', `tag at offset ${at}`)
  }
}

function items(walk: Walk, at: number, count: number, depth: number): number {
  for (let i = 0; i < count && at >= 0; i++) at = item(walk, at, depth + 1)
  return at
}

function pairs(walk: Walk, at: number, count: number, depth: number): number {
  let before = at
  let beforeEnd = at
  for (let i = 0; i < count; i++) {
    const keyEnd = item(walk, at, depth + 1)
    if (keyEnd < 0) return STOP
    const order = i === 0 ? -1 : Buffer.compare(walk.bytes.subarray(before, beforeEnd), walk.bytes.subarray(at, keyEnd))
    if (order === 0) return stop(walk, 'cbor-duplicate-key', `key at offset ${at} occurs twice`)
    if (order > 0) return stop(walk, 'cbor-key-order', `key at offset ${at} sorts before the key at ${before}`)
    before = at
    beforeEnd = keyEnd
    at = item(walk, keyEnd, depth + 1)
    if (at < 0) return STOP
  }
  return at
}

/** false, true, null, or a float whose value no shorter form could hold (so 1.0 is refused: it is the integer 1). */
function simple(walk: Walk, at: number, low: number, end: number): number {
  if (low === 20 || low === 21 || low === 22) return end
  if (low < 25) return stop(walk, 'cbor-malformed', `simple value ${low} at offset ${at}`)
  const bytes = walk.bytes.subarray(at, end)
  return encode(decode(bytes)).length === bytes.length ? end : stop(walk, 'cbor-not-shortest', `float at offset ${at} is not in its shortest form`)
}

function tooLarge(walk: Walk): number {
  return stop(walk, 'manifest-too-large', `longer than ${walk.limits.bytes} bytes`)
}
