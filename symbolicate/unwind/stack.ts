/**
 * A thread's stack memory for the unwinder. Single words by bigint address; scanning by number, because a scan looks at
 * hundreds of words per frame and a bigint costs ten times a number. A word of 2^53 and more loses its
 * lowest bits that way, but no module and no stack is there.
 */
import type { Dump, DumpThread } from '../formats/dump.ts'

export interface StackWindow {
  /** The pointer-sized word at `address`: from the stack, or from any other memory in the dump. */
  word(address: bigint): bigint | null
  /** Those of the `count` words from `address` on that are wanted. */
  words(address: bigint, count: number, wanted: (word: number) => boolean): { value: number; slot: bigint }[]
}

const HIGHEST = BigInt(Number.MAX_SAFE_INTEGER)

export function openStack(dump: Dump, thread: DumpThread, sp: bigint, width: 4 | 8): StackWindow {
  const { base, bytes } = stackBytes(dump, thread, sp)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)

  function word(address: bigint): bigint | null {
    if (address < 0n || address > HIGHEST) return null
    const at = Number(address) - base
    if (at >= 0 && at + width <= view.byteLength) return width === 8 ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true))
    if (width === 8) return dump.memory.u64(address)
    const value = dump.memory.u32(address)
    return value === null ? null : BigInt(value)
  }

  function words(address: bigint, count: number, wanted: (word: number) => boolean): { value: number; slot: bigint }[] {
    if (address < 0n || address > HIGHEST) return []
    const from = Number(address) - base
    const found: { value: number; slot: bigint }[] = []
    for (let index = 0; index < count; index++) {
      const at = from + index * width
      if (at < 0 || at + width > view.byteLength) break
      const value = view.getUint32(at, true) + (width === 8 ? view.getUint32(at + 4, true) * 0x1_0000_0000 : 0)
      if (wanted(value)) found.push({ value, slot: address + BigInt(index * width) })
    }
    return found
  }

  return { word, words }
}

/** The thread's own stack, or, when its stack pointer points elsewhere, the dumped range that holds it. */
function stackBytes(dump: Dump, thread: DumpThread, sp: bigint): { base: number; bytes: Uint8Array } {
  const own = thread.stack
  const range = own && holds(own, sp) ? own : (rangeAt(dump.memory.ranges(), sp) ?? own)
  if (!range || range.base > HIGHEST) return { base: 0, bytes: new Uint8Array() }
  return { base: Number(range.base), bytes: dump.memory.bytes(range.base, range.size) ?? new Uint8Array() }
}

interface Range { base: bigint; size: number }

const holds = (range: Range, address: bigint): boolean => address >= range.base && address < range.base + BigInt(range.size)

/** Ranges are sorted; there may be very many. */
function rangeAt(ranges: readonly Range[], address: bigint): Range | null {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (ranges[middle]!.base <= address) low = middle + 1
    else high = middle
  }
  const range = ranges[low - 1]
  return range && holds(range, address) ? range : null
}
