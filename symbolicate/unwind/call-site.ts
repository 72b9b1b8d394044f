/**
 * Does a call instruction end right before an address? Answered only where the dump holds the code's bytes (clients dump
 * a little around the program counter); null means that it doesn't say.
 *
 *   x86, x86-64: E8 rel32; FF /2 (near, indirect) with its 2 to 7 bytes of ModRM, SIB and displacement (Intel SDM vol. 2A, CALL)
 *   ARM64:       BL (100101...), BLR (1101011000111111...), and BLRAA and its kin (Arm ARM C6.2)
 */
import type { Cpu, Memory } from '../formats/dump.ts'

export function pointsBehindCall(memory: Memory, cpu: Cpu, address: bigint): boolean | null {
  switch (cpu) {
    case 'x86':
    case 'x86-64': {
      const before = address >= 7n ? memory.bytes(address - 7n, 7) : null
      return before && x86Call(before)
    }
    case 'arm64': {
      const word = address >= 4n ? memory.u32(address - 4n) : null
      return word === null ? null : word >>> 26 === 0b100101 || (word & 0xfefff000) >>> 0 === 0xd63f0000
    }
    default:
      return null
  }
}

/** The last bytes of `before` are a CALL of some length. */
function x86Call(before: Uint8Array): boolean {
  if (before[2] === 0xe8) return true
  for (let length = 2; length <= 7; length++) {
    const at = 7 - length
    const modrm = before[at + 1]!
    if (before[at] === 0xff && ((modrm >> 3) & 7) === 2 && indirectLength(modrm, before[at + 2]) === length) return true
  }
  return false
}

/** Bytes of FF /2 with this ModRM and SIB. */
function indirectLength(modrm: number, sib: number | undefined): number {
  const mod = modrm >> 6
  const rm = modrm & 7
  if (mod === 3) return 2
  const withSib = rm === 4 ? 1 : 0
  if (mod === 1) return 3 + withSib
  if (mod === 2) return 6 + withSib
  const wide = rm === 5 || (withSib === 1 && sib !== undefined && (sib & 7) === 5)
  return 2 + withSib + (wide ? 4 : 0)
}
