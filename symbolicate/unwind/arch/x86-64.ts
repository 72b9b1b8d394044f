/** x86-64 (System V psABI; Windows keeps rdi and rsi too, but no unwinding here relies on them). */
import type { Arch } from './arch.ts'
import { framePointerCaller, scanCaller } from './x86-family.ts'

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
  // Canonical: bits 63 to 47 are all equal.
  isCode: (address) => address !== 0n && (address <= 0x7fff_ffff_ffffn || address >= 0xffff_8000_0000_0000n),
  byFramePointer: (callee, stack, isCode) => framePointerCaller(FRAME, 8, callee, stack, isCode),
  byScan: (callee, stack, slot, returnAddress) => scanCaller(FRAME, 8, callee, stack, slot, returnAddress),
}
