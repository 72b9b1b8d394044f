/**
 * Fill values that allocators, kernels and debuggers leave on purpose: a pointer made of them is a use of memory that is
 * not (or no longer) an object, and never an attacker's pattern. Data, with who writes each; `freed` marks the ones that
 * mean "this was freed".
 */
import type { Os } from '../formats/dump.ts'

/** `on` names the systems that write it; left out: any. */
export interface Poison { value: bigint; width: 1 | 4 | 8; freed: boolean; who: string; on?: readonly Os[] }

const LINUX: readonly Os[] = ['linux', 'android']
const WINDOWS: readonly Os[] = ['windows']
const ESP: readonly Os[] = ['esp-idf', 'bare-metal']

export const POISONS: readonly Poison[] = [
  { value: 0x00n, width: 1, freed: false, who: 'cleared memory' },
  { value: 0x5an, width: 1, freed: false, who: 'jemalloc and SLUB, fresh memory' },
  { value: 0x6bn, width: 1, freed: true, who: 'Linux SLUB, freed object', on: LINUX },
  { value: 0xa5n, width: 1, freed: false, who: 'FreeRTOS stack fill; SLUB end mark; jemalloc, fresh memory' },
  { value: 0xaan, width: 1, freed: false, who: 'Zephyr stack fill; macOS, fresh memory' },
  { value: 0xbbn, width: 1, freed: false, who: 'Linux SLUB red zone', on: LINUX },
  { value: 0xbdn, width: 1, freed: true, who: 'Microsoft C runtime, guard', on: WINDOWS },
  { value: 0xccn, width: 1, freed: false, who: 'Microsoft C runtime, fresh stack; Linux SLUB red zone, active' },
  { value: 0xcdn, width: 1, freed: false, who: 'Microsoft C runtime, fresh heap', on: WINDOWS },
  { value: 0xcen, width: 1, freed: false, who: 'ESP-IDF, fresh heap', on: ESP },
  { value: 0xddn, width: 1, freed: true, who: 'Microsoft C runtime, freed heap', on: WINDOWS },
  { value: 0xe5n, width: 1, freed: true, who: 'mozjemalloc, freed memory' },
  { value: 0xfdn, width: 1, freed: false, who: 'Microsoft C runtime, no man\'s land', on: WINDOWS },
  { value: 0xfen, width: 1, freed: true, who: 'ESP-IDF, freed heap', on: ESP },
  { value: 0xffn, width: 1, freed: false, who: 'erased flash' },
  { value: 0xabba1234n, width: 4, freed: false, who: 'ESP-IDF heap canary' },
  { value: 0xbaad5678n, width: 4, freed: false, who: 'ESP-IDF heap canary' },
  { value: 0xbaadf00dn, width: 4, freed: false, who: 'Windows HeapAlloc, fresh memory', on: WINDOWS },
  { value: 0xcafebaben, width: 4, freed: false, who: 'programmers\' mark' },
  { value: 0xdeadbeefn, width: 4, freed: false, who: 'programmers\' mark' },
  { value: 0xdeadc0den, width: 4, freed: false, who: 'programmers\' mark' },
  { value: 0xfeeefeeen, width: 4, freed: true, who: 'Windows HeapFree, freed memory', on: WINDOWS },
  { value: 0xdead000000000100n, width: 8, freed: true, who: 'Linux LIST_POISON1, removed list entry', on: LINUX },
  { value: 0xdead000000000122n, width: 8, freed: true, who: 'Linux LIST_POISON2, removed list entry', on: LINUX },
]

/** Structures are read at an offset from the poisoned pointer. */
const MEMBER_WINDOW = 4096n

/** On a system that writes it, or where the system is not known: the fill that `value` is made of, or is at most a structure's size above; null for anything else. */
export function poisonOf(value: bigint, os: Os): Poison | null {
  for (const bits of [64, 32] as const) {
    if (bits === 32 && value >= 1n << 32n) continue
    for (const poison of POISONS) {
      if (os !== 'unknown' && poison.on !== undefined && !poison.on.includes(os)) continue
      const base = filled(poison, bits)
      // Zero and all ones are null pointers and -1: other rules know them better.
      if (base === null || base === 0n || base === (1n << BigInt(bits)) - 1n) continue
      if (value >= base && value < base + MEMBER_WINDOW) return poison
    }
  }
  return null
}

/** Is every byte of the value this fill's? */
export const isPoisonByte = (byte: number): boolean => POISONS.some(({ width, value }) => width === 1 && value === BigInt(byte))

function filled({ value, width }: Poison, bits: 32 | 64): bigint | null {
  if (width * 8 > bits) return null
  let result = 0n
  for (let at = 0; at < bits; at += width * 8) result |= value << BigInt(at)
  return result
}
