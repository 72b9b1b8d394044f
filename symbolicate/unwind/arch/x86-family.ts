/**
 * x86 and x86-64: CALL pushes the return address, and a function that keeps a frame pointer starts with
 * `push bp; mov bp, sp`. So [bp] is the caller's bp, [bp + width] the return address, bp + 2 * width the caller's sp
 * (System V psABI for x86-64, section 3.2.2; the same layout on i386 and in Windows' 32-bit code).
 */
import type { StackWindow } from '../stack.ts'
import { type Arch, type Cursor, emptyRegisters, type Registers } from './arch.ts'

type X86Names = Pick<Arch, 'names' | 'ip' | 'sp'> & { bp: number }

/** Frames lie upwards. A null return address is a chain's end and no reason to look elsewhere: the walk stops there. */
export function framePointerCaller(arch: X86Names, width: 4 | 8, callee: Cursor, stack: StackWindow): { ip: bigint; sp: bigint; bp: bigint } | null {
  const bp = callee.registers[arch.bp] ?? null
  const sp = callee.registers[arch.sp] ?? null
  if (bp === null || sp === null) return null
  const ip = stack.word(bp + BigInt(width))
  const callerBp = stack.word(bp)
  const callerSp = bp + 2n * BigInt(width)
  return ip === null || callerBp === null || callerSp <= sp ? null : { ip, sp: callerSp, bp: callerBp }
}

export function x86Registers(arch: X86Names, { ip, sp, bp }: { ip: bigint; sp: bigint; bp: bigint | null }): Registers {
  const registers = emptyRegisters(arch)
  registers[arch.ip] = ip
  registers[arch.sp] = sp
  registers[arch.bp] = bp
  return registers
}
