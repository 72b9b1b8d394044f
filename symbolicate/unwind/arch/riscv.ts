/**
 * RISC-V, 32 and 64 bit (psABI): JAL puts the return address into ra. A function that keeps a frame pointer (s0) has ra in
 * the word below it and its caller's s0 below that; compilers leave it out unless told otherwise, so s0 is checked first.
 */
import { RISCV_REGISTERS } from '../../formats/elf-core-registers.ts'
import type { StackWindow } from '../stack.ts'
import { type Arch, type Cursor, emptyRegisters, type Registers } from './arch.ts'

const NAMES = RISCV_REGISTERS
const index = (name: string): number => NAMES.indexOf(name)
const [PC, RA, SP, S0] = [index('pc'), index('ra'), index('sp'), index('s0')]

const riscv = (cpu: 'riscv32' | 'riscv64', width: 4 | 8): Arch => ({
  cpu,
  width,
  names: NAMES,
  // x1 to x31 are in this order behind pc; DWARF and gdb call s0 fp.
  aliases: { fp: 's0', ...Object.fromEntries(NAMES.slice(1).map((name, at) => [`x${at + 1}`, name])) },
  ip: PC,
  sp: SP,
  link: RA,
  calleeSaved: [S0, ...Array.from({ length: 11 }, (_, at) => index(`s${at + 1}`)), index('gp'), index('tp')],
  // The shortest call, a compressed one.
  callSize: 2n,
  strip: (address) => address,
  scanWords: 80,
  unwindTables: false,
  linkIsKept: true,
  stackAlignment: 16,
  isCode: (address) => (address & 1n) === 0n,
  byFramePointer: (callee, stack) => framePointerCaller(BigInt(width), callee, stack),
  byScan: (_callee, _stack, slot, returnAddress) => {
    const registers = emptyRegisters({ names: NAMES })
    registers[PC] = returnAddress
    registers[SP] = slot + BigInt(width)
    return registers
  },
})

export const RISCV32 = riscv('riscv32', 4)
export const RISCV64 = riscv('riscv64', 8)

function framePointerCaller(width: bigint, callee: Cursor, stack: StackWindow): Registers | null {
  const fp = callee.registers[S0] ?? null
  const sp = callee.registers[SP] ?? null
  if (fp === null || sp === null || fp <= sp || fp % width !== 0n) return null
  const pc = stack.word(fp - width)
  const callerFp = stack.word(fp - 2n * width)
  // s0 is an ordinary register for most code: only a chain that points up is one.
  if (pc === null || callerFp === null || pc % 2n !== 0n || (callerFp !== 0n && (callerFp <= fp || stack.word(callerFp - width) === null))) return null
  const registers = emptyRegisters({ names: NAMES })
  registers[PC] = pc
  registers[SP] = fp
  registers[S0] = callerFp
  return registers
}
