/**
 * Cortex-M (Armv7-M ARM B1.5.6 to B1.5.8; Armv8-M ARM B3.18): as ARM, in Thumb, and with exceptions that the processor enters
 * like calls. It pushes a frame { r0 to r3, r12, lr, pc, xpsr, [s0 to s15, fpscr, reserved] } onto the stack that was in
 * use, and lr becomes EXC_RETURN, 0xffffffxx. A handler "returns" to that value; behind it is the code that was interrupted.
 */
import { frameSize, isExceptionReturn, usesProcessStack } from '../../formats/cortex-m-fault.ts'
import type { StackWindow } from '../stack.ts'
import { ARM } from './arm.ts'
import { type Arch, emptyRegisters, type Registers } from './arch.ts'

const NAMES = [...ARM.names, 'msp', 'psp'] as const
const index = (name: string): number => NAMES.indexOf(name)
const [PC, LR, SP, PSP] = [index('pc'), index('lr'), index('sp'), index('psp')]
const PUSHED = ['r0', 'r1', 'r2', 'r3', 'r12', 'lr', 'pc'].map(index)
const ALIGNED = 0x200n
/** On Armv8-M secure code that a non-secure exception interrupts saves r4 to r11 as well, below a signature. */
const SIGNATURE = 0xfefa125an
const SAVED = ['r4', 'r5', 'r6', 'r7', 'r8', 'r9', 'r10', 'fp'].map(index)

export const CORTEX_M: Arch = {
  ...ARM,
  names: NAMES,
  calleeSaved: [...ARM.calleeSaved, index('msp'), PSP],
  byScan: (callee, _stack, slot, returnAddress) => {
    const registers = emptyRegisters({ names: NAMES })
    registers[PC] = returnAddress
    registers[SP] = slot + 4n
    registers[PSP] = callee.registers[PSP] ?? null
    return registers
  },
  // A branch to an even address would leave Thumb state.
  isCode: (address) => (address & 1n) === 1n,
  linkIsKept: true,
  stackAlignment: 8,
  interrupted,
}

/** Non-secure code was interrupted by a secure handler: its stack pointers are banked, and no dump of the secure side has them. */
const isOtherWorld = (exceptionReturn: number): boolean => (exceptionReturn & 0x41) === 1

function interrupted(registers: Registers, stack: StackWindow): Registers | null {
  const exceptionReturn = Number(registers[PC] ?? 0n)
  if (!isExceptionReturn(exceptionReturn) || isOtherWorld(exceptionReturn)) return null
  const top = (usesProcessStack(exceptionReturn) ? registers[PSP] : registers[SP]) ?? null
  if (top === null) return null
  const result = [...registers]
  const signed = ((stack.word(top) ?? 0n) & ~1n) === SIGNATURE
  if (signed) for (const [at, register] of SAVED.entries()) result[register] = stack.word(top + 8n + BigInt(4 * at))
  const frame = signed ? top + 40n : top
  for (const [at, register] of PUSHED.entries()) result[register] = stack.word(frame + BigInt(4 * at))
  const status = stack.word(frame + 28n)
  if (status === null || result[PC] == null || result[LR] == null) return null
  result[SP] = frame + BigInt(frameSize(exceptionReturn)) + (status & ALIGNED ? 4n : 0n)
  // Nested exceptions leave their frames one above the other on the main stack.
  if (usesProcessStack(exceptionReturn)) result[PSP] = result[SP]
  return result
}
