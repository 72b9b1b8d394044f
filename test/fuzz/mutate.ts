/**
 * Changes that hurt parsers, drawn from a seed so that any input can be made again from its number alone: single bits,
 * extremes of every width of number, offsets that point back at their own structure (cycles), repeated, moved, foreign
 * and missing pieces, cuts; in text also numbers, lines and tokens.
 */
export interface Random { next(): number; below(limit: number): number; pick<T>(list: readonly T[]): T }

/** xorshift32 (Marsaglia 2003): small, the same everywhere. */
export function createRandom(seed: number): Random {
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1
  function next(): number {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>>= 0)
  }
  for (let index = 0; index < 4; index++) next()
  const below = (limit: number): number => (limit <= 1 ? 0 : next() % limit)
  return { next, below, pick: (list) => list[below(list.length)]! }
}

export interface MutateOptions {
  text: boolean
  /** Bytes at the front that stay: a file whose magic is gone tests the sniffer only. */
  keep: number
  /** Pieces come from here too. */
  donor: Uint8Array
}

const LARGEST = 4 * 1024 * 1024

export function mutate(original: Uint8Array, random: Random, { text, keep, donor }: MutateOptions): Uint8Array {
  let bytes: Uint8Array = new Uint8Array(original)
  for (let left = 1 + random.below(random.below(4) === 0 ? 24 : 6); left > 0; left--) {
    const edit = random.pick(text ? TEXT_EDITS : BINARY_EDITS)
    bytes = edit(bytes, random, donor).subarray(0, LARGEST)
  }
  // One in ten loses its front all the same.
  if (random.below(10) > 0) bytes.set(original.subarray(0, Math.min(keep, bytes.length)))
  return bytes
}

type Edit = (bytes: Uint8Array, random: Random, donor: Uint8Array) => Uint8Array

/** Structure is at the front of most files: half of the changes go there. */
const place = (bytes: Uint8Array, random: Random): number => random.below(random.below(2) === 0 ? Math.min(bytes.length, 4096) : bytes.length)

const EXTREMES = [0n, 1n, 2n, 3n, 4n, 7n, 8n, 12n, 0x7fn, 0x80n, 0xffn, 0x100n, 0x7fffn, 0x8000n, 0xffffn, 0x10000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_fff0n, 0xffff_fffen, 0xffff_ffffn,
  0x1_0000_0000n, 0x7fff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n, 0xffff_ffff_ffff_fff0n, 0xffff_ffff_ffff_ffffn, 0x4141_4141_4141_4141n]

function write(bytes: Uint8Array, at: number, width: number, value: bigint, big: boolean): Uint8Array {
  for (let index = 0; index < width; index++) {
    const to = big ? at + width - 1 - index : at + index
    if (to < bytes.length) bytes[to] = Number((value >> BigInt(8 * index)) & 0xffn)
  }
  return bytes
}

const flip: Edit = (bytes, random) => {
  const at = place(bytes, random)
  if (at < bytes.length) bytes[at]! ^= 1 << random.below(8)
  return bytes
}
const number: Edit = (bytes, random) => {
  const width = random.pick([1, 2, 4, 4, 4, 8, 8])
  return write(bytes, place(bytes, random) & ~(Math.min(width, 4) - 1), width, random.pick(EXTREMES), random.below(8) === 0)
}
/** The length of the file, or near it. */
const length: Edit = (bytes, random) => write(bytes, place(bytes, random) & ~3, random.pick([4, 4, 8]), BigInt(Math.max(0, bytes.length + random.below(9) - 4)), false)
/** A number becomes the offset of its own surroundings: whatever follows it comes back here. */
const cycle: Edit = (bytes, random) => {
  const at = place(bytes, random) & ~3
  return write(bytes, at, random.pick([4, 4, 8]), BigInt(Math.max(0, at - random.below(64))), false)
}
/** A number becomes another number of the file. */
const exchange: Edit = (bytes, random) => {
  const from = place(bytes, random) & ~3
  const to = place(bytes, random) & ~3
  return random.below(2) === 0 ? bytes.copyWithin(to, from, from + 4) : bytes.copyWithin(to, from, from + 8)
}
const copy: Edit = (bytes, random) => {
  const from = place(bytes, random)
  return bytes.copyWithin(place(bytes, random), from, from + 1 + random.below(256))
}
const cut: Edit = (bytes, random) => bytes.subarray(0, random.below(bytes.length + 1))
const remove: Edit = (bytes, random) => {
  const at = place(bytes, random)
  return join(bytes.subarray(0, at), bytes.subarray(at + 1 + random.below(random.pick([4, 64, 4096]))))
}
const insert: Edit = (bytes, random, donor) => {
  const from = random.below(donor.length + 1)
  const at = place(bytes, random)
  return join(bytes.subarray(0, at), donor.subarray(from, from + random.below(random.pick([4, 64, 4096]))), bytes.subarray(at))
}
const splice: Edit = (bytes, random, donor) => join(bytes.subarray(0, random.below(bytes.length + 1)), donor.subarray(random.below(donor.length + 1)))
const repeat: Edit = (bytes, random) => {
  const at = place(bytes, random)
  const piece = bytes.subarray(at, at + 1 + random.below(512))
  const times = 1 + random.below(random.pick([2, 16, 256]))
  return join(bytes.subarray(0, at), ...Array.from({ length: times }, () => piece), bytes.subarray(at))
}

/** Cuts, splices and their kin end the search for anything behind them: most edits are small. */
const BINARY_EDITS: readonly Edit[] = [flip, flip, flip, number, number, number, number, number, length, cycle, cycle, exchange, exchange, copy, cut, remove, insert, splice, repeat]

const WORDS = ['0', '-1', '1', '4294967295', '18446744073709551616', '0x41414141', '0xffffffffffffffff', '9'.repeat(40), '\u0000', '\u001b[2J', '\ufffd', ' ', ':', '(', ')', '<', '>', '{', '"', '\\', '/', '../../../etc/passwd', '^', '+', '.cfa:', '%s%n', 'A'.repeat(300)]

const word: Edit = (bytes, random) => replaceToken(bytes, random, /[0-9A-Fa-fx]{1,40}/g, random.pick(WORDS))
const punctuation: Edit = (bytes, random) => replaceToken(bytes, random, /[^\w\s]/g, random.pick(WORDS))
const lineTwice: Edit = (bytes, random) => editLines(bytes, random, (lines, at) => { lines.splice(at, 0, ...new Array<string>(1 + random.below(random.pick([2, 8, 400]))).fill(lines[at]!)) })
const lineAway: Edit = (bytes, random) => editLines(bytes, random, (lines, at) => { lines.splice(at, 1 + random.below(3)) })
const lineMoved: Edit = (bytes, random) => editLines(bytes, random, (lines, at) => { lines.splice(random.below(lines.length), 0, ...lines.splice(at, 1)) })
const lineLong: Edit = (bytes, random) => editLines(bytes, random, (lines, at) => { lines[at] = lines[at]!.repeat(1 + random.below(random.pick([4, 64]))).slice(0, 65_536) })
const linesJoined: Edit = (bytes, random) => editLines(bytes, random, (lines, at) => { lines.splice(at, 2, `${lines[at]}${lines[at + 1] ?? ''}`) })

function replaceToken(bytes: Uint8Array, random: Random, pattern: RegExp, by: string): Uint8Array {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
  pattern.lastIndex = place(bytes, random)
  const match = pattern.exec(text)
  return match === null ? bytes : Buffer.from(`${text.slice(0, match.index)}${by}${text.slice(match.index + match[0].length)}`, 'latin1')
}

function editLines(bytes: Uint8Array, random: Random, edit: (lines: string[], at: number) => void): Uint8Array {
  const lines = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1').split('\n')
  edit(lines, random.below(lines.length))
  return Buffer.from(lines.join('\n').slice(0, LARGEST), 'latin1')
}

const TEXT_EDITS: readonly Edit[] = [word, word, word, word, punctuation, lineTwice, lineAway, lineMoved, lineMoved, lineLong, linesJoined, flip, flip, copy, cut, remove, insert, splice]

const join = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts))
