/**
 * The memory that a dump carries: ranges that point into the file's own bytes, so nothing is copied. Where two ranges
 * overlap the first in address order wins; a read that crosses from one range into its neighbour is answered only when
 * one range holds all of it.
 */
import type { Memory } from './dump.ts'

export interface MemoryPiece { base: bigint; bytes: Uint8Array }

export function createMemory(pieces: MemoryPiece[], littleEndian = true): Memory {
  const sorted = pieces.filter((piece) => piece.bytes.length > 0).sort((a, b) => (a.base < b.base ? -1 : a.base > b.base ? 1 : b.bytes.length - a.bytes.length))
  const ranges = sorted.map((piece) => ({ base: piece.base, size: piece.bytes.length }))
  /** No range is longer: bounds how far back a range that still covers an address can start. */
  const longest = BigInt(ranges.reduce((most, range) => Math.max(most, range.size), 0))

  function bytes(address: bigint, length: number): Uint8Array | null {
    if (!Number.isSafeInteger(length) || length < 0) return null
    let index = lastAtOrBelow(address)
    for (let steps = 0; index >= 0 && steps < MAX_OVERLAPS; index--, steps++) {
      const piece = sorted[index]!
      if (address - piece.base >= longest) return null
      const from = address - piece.base
      if (from + BigInt(length) <= BigInt(piece.bytes.length)) return piece.bytes.subarray(Number(from), Number(from) + length)
    }
    return null
  }

  function lastAtOrBelow(address: bigint): number {
    let low = 0
    let high = sorted.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (sorted[middle]!.base <= address) low = middle + 1
      else high = middle
    }
    return low - 1
  }

  function view(address: bigint, length: number): DataView | null {
    const found = bytes(address, length)
    return found && new DataView(found.buffer, found.byteOffset, length)
  }

  return {
    bytes,
    u8: (address) => bytes(address, 1)?.[0] ?? null,
    u32: (address) => view(address, 4)?.getUint32(0, littleEndian) ?? null,
    u64: (address) => view(address, 8)?.getBigUint64(0, littleEndian) ?? null,
    ranges: () => ranges,
  }
}

/** Where the dump has no bytes, those of a file that the program was loaded from. */
export function backedBy(memory: Memory, piece: MemoryPiece): Memory {
  const file = createMemory([piece])
  return {
    bytes: (address, length) => memory.bytes(address, length) ?? file.bytes(address, length),
    u8: (address) => memory.u8(address) ?? file.u8(address),
    u32: (address) => memory.u32(address) ?? file.u32(address),
    u64: (address) => memory.u64(address) ?? file.u64(address),
    ranges: () => memory.ranges(),
  }
}

/** A hostile dump can stack thousands of ranges over one address; no honest one has more than a few. */
const MAX_OVERLAPS = 64
