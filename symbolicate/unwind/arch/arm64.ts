/**
 * ARM64 (AAPCS64): BL puts the return address into x30 (lr); a function that calls others stores the pair fp, lr and
 * points fp (x29) at it. So [fp] is the caller's fp and [fp + 8] where this function returns to, unless it is a leaf
 * whose return address is still in lr.
 */
import type { StackWindow } from '../stack.ts'
import { type Arch, type Cursor, emptyRegisters, type Registers } from './arch.ts'

const NAMES = [...Array.from({ length: 29 }, (_, number) => `x${number}`), 'fp', 'lr', 'sp', 'pc'] as const
const [FP, LR, SP, PC] = [29, 30, 31, 32] as const

/**
 * Pointer authentication (ARMv8.3) signs return addresses in the bits above the virtual address size. User addresses
 * have 48 bits at most on Linux and 47 on Apple's systems, so what is above them is signature or damage, never address.
 */
const ADDRESS_BITS = 0xffff_ffff_ffffn
const strip = (address: bigint): bigint => address & ADDRESS_BITS

export const ARM64: Arch = {
  cpu: 'arm64',
  width: 8,
  names: NAMES,
  aliases: { x29: 'fp', x30: 'lr', x31: 'sp' },
  ip: PC,
  sp: SP,
  link: LR,
  calleeSaved: Array.from({ length: 11 }, (_, number) => 19 + number),
  callSize: 4n,
  strip,
  scanWords: 40,
  unwindTables: true,
  isCode: isAligned,
  byFramePointer: framePointerCaller,
  byScan: (_callee, _stack, slot, returnAddress) => {
    const registers = emptyRegisters(ARM64)
    registers[PC] = strip(returnAddress)
    registers[SP] = slot + 8n
    return registers
  },
}

function isAligned(address: bigint): boolean {
  return (address & 3n) === 0n
}

/**
 * In the frame that crashed lr may be where a leaf returns to, or stale; the stored pair is sure, so the pair it is, and
 * a leaf's direct caller is lost where there is no CFI.
 */
function framePointerCaller(callee: Cursor, stack: StackWindow): Registers | null {
  const fp = callee.registers[FP] ?? null
  if (fp === null || fp === 0n) return null
  const callerFp = stack.word(fp)
  const stored = stack.word(fp + 8n)
  if (callerFp === null || stored === null) return null
  const pc = strip(stored)
  if (!isAligned(pc) || (callerFp !== 0n && callerFp <= fp)) return null
  const registers = emptyRegisters(ARM64)
  registers[PC] = pc
  registers[SP] = fp + 16n
  registers[FP] = callerFp
  return registers
}
