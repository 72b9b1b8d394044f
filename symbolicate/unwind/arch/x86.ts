/** x86, 32 bit. */
import type { Arch } from './arch.ts'
import { framePointerCaller, scanCaller } from './x86-family.ts'

const NAMES = ['eip', 'esp', 'ebp', 'ebx', 'esi', 'edi', 'eax', 'ecx', 'edx', 'eflags'] as const
const index = (name: (typeof NAMES)[number]): number => NAMES.indexOf(name)
const FRAME = { names: NAMES, ip: index('eip'), sp: index('esp'), bp: index('ebp') }

export const X86: Arch = {
  cpu: 'x86',
  width: 4,
  names: NAMES,
  aliases: {},
  ip: FRAME.ip,
  sp: FRAME.sp,
  link: null,
  calleeSaved: (['ebp', 'ebx', 'esi', 'edi'] as const).map(index),
  callSize: 1n,
  strip: (address) => address,
  isCode: (address) => address !== 0n,
  byFramePointer: (callee, stack, isCode) => framePointerCaller(FRAME, 4, callee, stack, isCode),
  byScan: (callee, stack, slot, returnAddress) => scanCaller(FRAME, 4, callee, stack, slot, returnAddress),
}
