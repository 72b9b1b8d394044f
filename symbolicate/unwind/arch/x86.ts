/** x86, 32 bit. */
import type { StackWindow } from '../stack.ts'
import type { Arch, Cursor, Registers } from './arch.ts'
import { framePointerCaller, x86Registers } from './x86-family.ts'

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
  scanWords: 40,
  unwindTables: false,
  isCode: () => true,
  byFramePointer: (callee, stack) => {
    const caller = framePointerCaller(FRAME, 4, callee, stack)
    return caller && x86Registers(FRAME, caller)
  },
  byScan: (callee, stack, slot, returnAddress) => x86Registers(FRAME, { ip: returnAddress, sp: slot + 4n, bp: frameBehind(callee, stack, slot) }),
}

/** Frames farther apart than this are no chain. */
const LARGEST_GAP = 128n * 1024n

/** The frame pointer of a scanned caller: pushed by the callee right below the return address, or never touched. */
function frameBehind({ registers }: Cursor, stack: StackWindow, slot: bigint): Registers[number] {
  const pushed = stack.word(slot - 4n)
  if (pushed !== null && pushed > slot && pushed - slot <= LARGEST_GAP) return stack.word(pushed) === null ? null : pushed
  const kept = registers[FRAME.bp] ?? null
  return kept !== null && kept >= slot + 4n && stack.word(kept) !== null ? kept : null
}
