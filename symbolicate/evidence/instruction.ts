/**
 * What the faulting instruction was doing, as far as its first bytes tell: which way it accessed memory, where, and
 * where it wanted to go. Linux minidumps and the Cortex-M don't say whether an access read or wrote, and x86-64 doesn't say the
 * address when it is not canonical; the instruction does. Where the dump has no code, native.ts has put that of the program's
 * file beneath it. What a decoder doesn't know is null, never a guess.
 */
import type { Access, Dump } from '../formats/dump.ts'
import { isCortexM } from '../formats/firmware.ts'
import { decodeArm, decodeThumb } from './instruction-arm.ts'
import { decodeArm64 } from './instruction-arm64.ts'
import { decodeX86 } from './instruction-x86.ts'

export interface Instruction {
  does: 'load' | 'store' | 'push' | 'pop' | 'return' | 'call' | 'jump' | 'divide' | 'undefined' | 'breakpoint' | 'privileged'
  access: Access
  /** Of the memory operand; null without one, or where a register is missing. */
  address: bigint | null
  /** Where a call, jump or return goes, when registers and dumped memory tell. */
  target: bigint | null
}

/** Length of the longest instruction of any architecture here. */
const WINDOW = 15

export function faultingInstruction(dump: Dump, registers: Map<string, bigint> | null, pc: bigint | null): Instruction | null {
  if (registers === null || pc === null) return null
  const code = longestRead(dump, pc)
  if (code === null) return null
  switch (dump.cpu) {
    case 'x86-64': return decodeX86(code, { bits: 64, registers, pc, memory: dump.memory })
    case 'x86': return decodeX86(code, { bits: 32, registers, pc, memory: dump.memory })
    case 'arm64': return decodeArm64(code, registers)
    case 'arm': return isThumb(dump, registers) ? decodeThumb(code) : decodeArm(code)
    default: return null
  }
}

/** A Cortex-M knows nothing else; other processors say it in bit 5 of the status register. */
const isThumb = ({ cpu, os }: Dump, registers: Map<string, bigint>): boolean => isCortexM(cpu, os) || ((registers.get('cpsr') ?? 0n) & 0x20n) !== 0n

/** The dumped bytes may end soon after pc. */
function longestRead(dump: Dump, pc: bigint): Uint8Array | null {
  for (let length = WINDOW; length > 0; length--) {
    const bytes = dump.memory.bytes(pc, length)
    if (bytes !== null) return bytes
  }
  return null
}
