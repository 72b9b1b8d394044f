/**
 * Loads, stores and indirect branches of A64 (Arm ARM DDI 0487, C4.1 "A64 instruction set encoding"): direction and, where
 * the base register and an immediate tell, the address.
 */
import type { Instruction } from './instruction.ts'

export function decodeArm64(code: Uint8Array, registers: Map<string, bigint>): Instruction | null {
  if (code.length < 4) return null
  const word = new DataView(code.buffer, code.byteOffset, 4).getUint32(0, true)
  if (word >>> 16 === 0) return { does: 'undefined', access: 'unknown', address: null, target: null } // udf #imm16
  if ((word & 0xffe0001f) >>> 0 === 0xd4200000) return { does: 'breakpoint', access: 'unknown', address: null, target: null }
  const branch = branchOf(word, registers)
  if (branch !== null) return branch
  // op0 (bits 28..25) is x1x0 for loads and stores.
  if ((word & 0x0a000000) !== 0x08000000) return null
  const vector = (word & (1 << 26)) !== 0
  const group = (word >>> 27) & 7
  const base = registerOf((word >>> 5) & 31, registers)
  const bit22 = (word & (1 << 22)) !== 0
  // Pairs and exclusives say load or store in bit 22.
  if (group === 5 || group === 1) return via(bit22, null)
  // Bits 25..24 tell literals from memory tags and ordered unscaled forms, which are not decoded.
  if (group === 3) return (word & (3 << 24)) === 0 ? { does: 'load', access: 'read', address: null, target: null } : null
  if (group !== 7) return null
  const opc = (word >>> 22) & 3
  const load = vector ? (opc & 1) === 1 : opc !== 0
  if (!vector && word >>> 30 === 3 && opc === 2) return null // prefetch
  if ((word & (1 << 24)) === 0) {
    // Unscaled, pre- and post-indexed forms have a signed 9-bit offset; a register offset or an atomic has bit 21 set.
    if ((word & (1 << 21)) !== 0) return ((word >>> 10) & 3) === 2 ? via(load, null) : null
    const offset = BigInt.asIntN(9, BigInt((word >>> 12) & 0x1ff))
    return via(load, base === null ? null : BigInt.asUintN(64, ((word >>> 10) & 3) === 1 ? base : base + offset))
  }
  const scale = vector ? ((opc & 2) << 1) | (word >>> 30) : word >>> 30
  return via(load, base === null ? null : BigInt.asUintN(64, base + (BigInt((word >>> 10) & 0xfff) << BigInt(scale))))
}

/** BR, BLR, RET and their authenticated forms. */
function branchOf(word: number, registers: Map<string, bigint>): Instruction | null {
  if ((word & 0xfe000000) >>> 0 !== 0xd6000000) return null
  const kind = (word >>> 21) & 7
  if (kind > 2) return null
  const target = registerOf((word >>> 5) & 31, registers)
  return { does: kind === 0 ? 'jump' : kind === 1 ? 'call' : 'return', access: 'execute', address: null, target }
}

const via = (load: boolean, address: bigint | null): Instruction =>
  ({ does: load ? 'load' : 'store', access: load ? 'read' : 'write', address, target: null })

const registerOf = (number: number, registers: Map<string, bigint>): bigint | null =>
  registers.get(number === 31 ? 'sp' : number === 30 ? (registers.has('x30') ? 'x30' : 'lr') : number === 29 ? (registers.has('x29') ? 'x29' : 'fp') : `x${number}`) ?? null
