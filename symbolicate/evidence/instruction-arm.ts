/**
 * Which way one 32-bit ARM instruction accesses memory, in Thumb (Armv7-M ARM DDI 0403, A5.2 and A5.3; Armv8-M ARM DDI 0553, C2)
 * and in ARM state (Armv7-A ARM DDI 0406, A5). Only the direction is decoded: these processors say the address themselves.
 * What accesses no memory, both reads and writes (SWP), or is not in the tables is null.
 */
import type { Instruction } from './instruction.ts'

const via = (load: boolean): Instruction => (load ? LOAD : STORE)
const LOAD: Instruction = { does: 'load', access: 'read', address: null, target: null }
const STORE: Instruction = { does: 'store', access: 'write', address: null, target: null }
const PUSH: Instruction = { does: 'push', access: 'write', address: null, target: null }
const POP: Instruction = { does: 'pop', access: 'read', address: null, target: null }
const UNDEFINED: Instruction = { does: 'undefined', access: 'unknown', address: null, target: null }
const BREAKPOINT: Instruction = { does: 'breakpoint', access: 'unknown', address: null, target: null }

export function decodeThumb(code: Uint8Array): Instruction | null {
  if (code.length < 2) return null
  const view = new DataView(code.buffer, code.byteOffset, code.length)
  const first = view.getUint16(0, true)
  // 0b11101, 0b11110 and 0b11111 begin an instruction of two half-words.
  if (first >>> 11 < 0x1d) return narrow(first)
  return code.length < 4 ? null : wide(first, view.getUint16(2, true))
}

function narrow(code: number): Instruction | null {
  switch (code >>> 12) {
    case 0x4:
      return (code & 0x0800) !== 0 ? LOAD : null // ldr of a literal
    case 0x5:
      return via(((code >>> 9) & 7) > 2) // register offset: str, strh, strb, ldrsb, ldr, ldrh, ldrb, ldrsh
    case 0x6: case 0x7: case 0x8: case 0x9:
      return via((code & 0x0800) !== 0)
    case 0xb:
      if ((code & 0x0e00) === 0x0400) return PUSH
      if ((code & 0x0e00) === 0x0c00) return POP
      return (code & 0x0f00) === 0x0e00 ? BREAKPOINT : null
    case 0xc:
      return via((code & 0x0800) !== 0)
    case 0xd:
      return (code & 0x0f00) === 0x0e00 ? UNDEFINED : null
    default:
      return null
  }
}

function wide(first: number, second: number): Instruction | null {
  const load = (first & 0x10) !== 0
  if ((first & 0xfe40) === 0xe800) {
    return first === 0xe92d ? PUSH : first === 0xe8bd ? POP : via(load) // stmdb sp! and ldmia sp!
  }
  if ((first & 0xfe40) === 0xe840) {
    // Two registers, exclusive and ordered forms, table branches. sg and tt stand where no register pair can be.
    const isGateway = first === 0xe97f && second === 0xe97f
    const isTestTarget = (first & 0xfff0) === 0xe840 && second >>> 12 === 15
    return isGateway || isTestTarget ? null : via(load)
  }
  if ((first & 0xfe00) === 0xf800) return single(first, second)
  if ((first & 0xfe00) === 0xec00) {
    // ldc, stc, vldr, vstr, vldm, vstm; without P, U and W it moves between registers. vscclrm clears registers.
    return (first & 0x01a0) === 0 || (first & 0xffbf) === 0xec9f ? null : via(load)
  }
  return (first & 0xfff0) === 0xf7f0 && second >>> 12 === 0xa ? UNDEFINED : null
}

/** One register, or a vector's elements. A byte or half-word "loaded" into pc is a hint. */
function single(first: number, second: number): Instruction | null {
  if ((first & 0x0110) === 0x0100) return via((first & 0x20) !== 0)
  const size = (first >>> 5) & 3
  if (size === 3) return null
  const load = (first & 0x10) !== 0
  return load && size < 2 && second >>> 12 === 15 ? null : via(load)
}

export function decodeArm(code: Uint8Array): Instruction | null {
  if (code.length < 4) return null
  const word = new DataView(code.buffer, code.byteOffset, 4).getUint32(0, true)
  const load = (word & (1 << 20)) !== 0
  if (word >>> 28 === 15) return (word & 0x0f10_0000) === 0x0400_0000 ? via((word & (1 << 21)) !== 0) : null // a vector's elements
  if ((word & 0xfff0_00f0) >>> 0 === 0xe7f0_00f0) return UNDEFINED
  if ((word & 0x0ff0_00f0) === 0x0120_0070) return BREAKPOINT
  switch ((word >>> 25) & 7) {
    case 0:
      return (word & 0x90) === 0x90 ? extra(word, load) : null
    case 2:
      return via(load)
    case 3:
      return (word & 0x10) === 0 ? via(load) : null // with bit 4 it is arithmetic
    case 4:
      if ((word & 0x0fff_0000) === 0x092d_0000) return PUSH
      return (word & 0x0fff_0000) === 0x08bd_0000 ? POP : via(load)
    case 6:
      return (word & 0x01a0_0000) === 0 ? null : via(load)
    default:
      return null
  }
}

/** Bits 6 and 5: 1 half-words; 2 and 3 signed, where bit 20 is clear two registers; 0 multiplication, and with bits 24 and 23 exclusive forms. */
function extra(word: number, load: boolean): Instruction | null {
  const kind = (word >>> 5) & 3
  if (kind === 0) return (word & 0x0180_0000) === 0x0180_0000 ? via(load) : null
  return via(load || kind === 2)
}
