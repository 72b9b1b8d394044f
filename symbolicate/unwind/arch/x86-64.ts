/** x86-64 (System V psABI; Windows keeps rdi and rsi too, but no unwinding here relies on them). */
import type { StackWindow } from '../stack.ts'
import type { Arch, Cursor, Registers } from './arch.ts'
import { framePointerCaller, x86Registers } from './x86-family.ts'

const NAMES = ['rax', 'rdx', 'rcx', 'rbx', 'rsi', 'rdi', 'rbp', 'rsp', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip'] as const
const index = (name: (typeof NAMES)[number]): number => NAMES.indexOf(name)
const FRAME = { names: NAMES, ip: index('rip'), sp: index('rsp'), bp: index('rbp') }

export const X86_64: Arch = {
  cpu: 'x86-64',
  width: 8,
  names: NAMES,
  aliases: {},
  ip: FRAME.ip,
  sp: FRAME.sp,
  link: null,
  calleeSaved: (['rbx', 'rbp', 'r12', 'r13', 'r14', 'r15'] as const).map(index),
  callSize: 1n,
  strip: (address) => address,
  scanWords: 40,
  unwindTables: true,
  isCode: isCanonical,
  byFramePointer: (callee, stack) => {
    const caller = framePointerCaller(FRAME, 8, callee, stack)
    // rbp is an ordinary register for most code: only a value that points up, into this stack, was a frame pointer.
    if (caller === null || !isCanonical(caller.ip) || caller.bp < caller.sp || stack.word(caller.bp) === null) return null
    return x86Registers(FRAME, caller)
  },
  byScan: (callee, stack, slot, returnAddress) => x86Registers(FRAME, { ip: returnAddress, sp: slot + 8n, bp: frameBehind(callee, stack, slot) }),
}

/** Bits 63 to 47 are all equal. */
function isCanonical(address: bigint): boolean {
  return address <= 0x7fff_ffff_ffffn || address >= 0xffff_8000_0000_0000n
}

/**
 * The frame pointer of a scanned caller. A callee with a frame of its own has rbp at the word below the return address,
 * and the caller's is stored there; one without has left the caller's in rbp.
 */
function frameBehind({ registers }: Cursor, stack: StackWindow, slot: bigint): Registers[number] {
  const bp = registers[FRAME.bp] ?? null
  if (bp === null) return null
  if (bp === slot - 8n) {
    const stored = stack.word(bp)
    return stored !== null && stored > slot ? stored : null
  }
  return bp >= slot + 8n ? bp : null
}
