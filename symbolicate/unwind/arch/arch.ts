/**
 * What the unwinder must know of a CPU: its registers, which of them a callee keeps, and how its frames are chained.
 * Registers are an array by index; null is "not known in this frame". Values are 64-bit bigint, because a smashed frame
 * holds anything; there are few per frame. Whatever is looked at in bulk (scanning) works on numbers, see stack.ts.
 */
import type { Cpu } from '../../formats/dump.ts'
import type { StackWindow } from '../stack.ts'

export type Registers = (bigint | null)[]

/** One frame while unwinding: its registers as they were when control left it. */
export interface Cursor { registers: Registers; isContext: boolean }

export interface Arch {
  cpu: Cpu
  width: 4 | 8
  /** Names as in Dump; a CFI rule writes them with or without `$`. */
  names: readonly string[]
  /** Other spellings in CFI rules. */
  aliases: Readonly<Record<string, string>>
  ip: number
  sp: number
  /** Holds the return address on entry; null where the call pushes it. */
  link: number | null
  /** What the caller finds unchanged. */
  calleeSaved: readonly number[]
  /** From a return address back into the call instruction: 1 where instructions have no fixed size. */
  callSize: bigint
  /** Takes authentication bits out of a code pointer. */
  strip(address: bigint): bigint
  /** Can a code address look like this? */
  isCode(address: bigint): boolean
  /** How many words a scan looks at, behind frames that are in order. */
  scanWords: number
  /** The ABI demands unwind tables for all code, so code without them is none. */
  unwindTables: boolean
  /** The caller by the standard frame layout, or null when the registers don't look like one. */
  byFramePointer(callee: Cursor, stack: StackWindow): Registers | null
  /** The caller whose return address a scan found at `slot`. */
  byScan(callee: Cursor, stack: StackWindow, slot: bigint, returnAddress: bigint): Registers
  /** Without CFI, the return address of a function that crashed is looked for in the link register before the stack. */
  linkIsKept?: true
  /** Bytes that a stack pointer is a multiple of, between functions. */
  stackAlignment?: number
  /** Returning to this "address" ends an exception: the registers of the code that it interrupted, or null for an ordinary address. */
  interrupted?(registers: Registers, stack: StackWindow): Registers | null
  /** A call arrived at its target and nothing ran there: the caller's registers, where they tell more than `link` does. */
  beforeEntry?(callee: Cursor): Registers | null
}

export function emptyRegisters(arch: Pick<Arch, 'names'>): Registers {
  return new Array<bigint | null>(arch.names.length).fill(null)
}

const UNSIGNED = { 4: 0xffff_ffffn, 8: 0xffff_ffff_ffff_ffffn }
export const wrap = (value: bigint, width: 4 | 8): bigint => value & UNSIGNED[width]
