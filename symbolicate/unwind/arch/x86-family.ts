/**
 * x86 and x86-64: CALL pushes the return address, and a function that keeps a frame pointer starts with
 * `push bp; mov bp, sp`. So [bp] is the caller's bp, [bp + width] the return address, bp + 2 * width the caller's sp
 * (System V psABI for x86-64, section 3.2.2; the same layout on i386 and in Windows' 32-bit code).
 */
import type { StackWindow } from '../stack.ts'
import { type Arch, type Cursor, emptyRegisters, LARGEST_GAP, type Registers } from './arch.ts'

type X86Names = Pick<Arch, 'names' | 'ip' | 'sp'> & { bp: number }

export function framePointerCaller(arch: X86Names, width: 4 | 8, callee: Cursor, stack: StackWindow, isCode: (address: bigint) => boolean): Registers | null {
  const bp = callee.registers[arch.bp] ?? null
  const sp = callee.registers[arch.sp] ?? null
  if (bp === null || sp === null) return null
  const step = BigInt(width)
  const ip = stack.word(bp + step)
  const callerBp = stack.word(bp)
  if (ip === null || callerBp === null || !isCode(ip)) return null
  const callerSp = bp + step * 2n
  // Frames lie upwards: the caller's frame pointer is above, still in this stack. 0 ends a chain.
  if (callerSp <= sp || (callerBp !== 0n && callerBp < callerSp)) return null
  if (callerBp !== 0n && stack.word(callerBp) === null) return null
  const registers = emptyRegisters(arch)
  registers[arch.ip] = ip
  registers[arch.sp] = callerSp
  registers[arch.bp] = callerBp
  return registers
}

/**
 * A scan found a return address; its frame pointer may be found too: either the callee pushed it right below the return
 * address, or it was never touched.
 */
export function scanCaller(arch: X86Names, width: 4 | 8, callee: Cursor, stack: StackWindow, slot: bigint, returnAddress: bigint): Registers {
  const step = BigInt(width)
  const registers = emptyRegisters(arch)
  registers[arch.ip] = returnAddress
  registers[arch.sp] = slot + step
  const pushed = stack.word(slot - step)
  const kept = callee.registers[arch.bp] ?? null
  if (pushed !== null && pushed > slot && pushed - slot <= LARGEST_GAP) {
    if (stack.word(pushed) !== null) registers[arch.bp] = pushed
  } else if (kept !== null && kept >= slot + step && stack.word(kept) !== null) {
    registers[arch.bp] = kept
  }
  return registers
}
