/**
 * Xtensa with register windows (ISA Reference Manual, 4.7.1 and "The Windowed Register ABI"): a call rotates the window by 4,
 * 8 or 12 registers and leaves how many in the two top bits of a0, in the place of the address bits that caller and callee
 * share. What no longer fits the register file is spilled: the caller's a0 to a3 into the 16 bytes below its callee's stack
 * pointer. An exception spills all windows, so a dump's stacks hold them.
 */
import type { StackWindow } from '../stack.ts'
import { type Arch, type Cursor, emptyRegisters, type Registers } from './arch.ts'

const NAMES = ['pc', 'ps', ...Array.from({ length: 16 }, (_, number) => `a${number}`)] as const
const index = (name: string): number => (NAMES as readonly string[]).indexOf(name)
const [PC, A0, A1] = [index('pc'), index('a0'), index('a1')]

const SHARED = 0xc000_0000n
/** Where every chip that has windows keeps its code, when the program counter is lost. */
const CODE = 0x4000_0000n
const increment = (address: bigint): number => Number(address >> 30n)
const target = (returnAddress: bigint, pc: bigint): bigint => (returnAddress & ~SHARED) | ((pc & SHARED) === 0n ? CODE : pc & SHARED)

export const XTENSA: Arch = {
  cpu: 'xtensa',
  width: 4,
  names: NAMES,
  aliases: {},
  ip: PC,
  sp: A1,
  link: A0,
  calleeSaved: [],
  // Every call instruction has three bytes.
  callSize: 3n,
  strip: (address) => address,
  scanWords: 80,
  unwindTables: false,
  isCode: () => true,
  byFramePointer: windowCaller,
  beforeEntry,
  byScan: (_callee, _stack, slot, returnAddress) => {
    const registers = emptyRegisters({ names: NAMES })
    registers[PC] = returnAddress
    registers[A1] = slot + 4n
    return registers
  },
}

function windowCaller(callee: Cursor, stack: StackWindow): Registers | null {
  const [pc, a0, a1] = [callee.registers[PC] ?? null, callee.registers[A0] ?? null, callee.registers[A1] ?? null]
  // Window increment 0: the task's first function, which nobody called.
  if (pc === null || a0 === null || a1 === null || increment(a0) === 0) return null
  const callerA0 = stack.word(a1 - 16n)
  const callerA1 = stack.word(a1 - 12n)
  if (callerA0 === null || callerA1 === null || callerA1 <= a1) return null
  const registers = emptyRegisters({ names: NAMES })
  registers[PC] = target(a0, pc)
  registers[A0] = callerA0
  registers[A1] = callerA1
  return registers
}

/**
 * CALLX4, 8 and 12 write the return address to a4, a8 or a12; the window rotates with the callee's first instruction, ENTRY.
 * Where that was never reached, the registers are still the caller's.
 */
function beforeEntry(callee: Cursor): Registers | null {
  for (const windows of [2, 1, 3]) {
    const returnAddress = callee.registers[A0 + 4 * windows] ?? null
    if (returnAddress === null || increment(returnAddress) !== windows) continue
    const registers = [...callee.registers]
    registers[PC] = target(returnAddress, CODE)
    return registers
  }
  return null
}
