/**
 * ARM, 32 bit. Linux compilers chain no frames that a reader could follow (r11 in ARM code, r7 in Thumb, mostly neither),
 * so there is CFI and scanning; iOS always chains through r7. Bit 0 of a code pointer says Thumb.
 */
import { type Arch, emptyRegisters } from './arch.ts'

const NAMES = [...Array.from({ length: 11 }, (_, number) => `r${number}`), 'fp', 'r12', 'sp', 'lr', 'pc', 'cpsr'] as const
const [R7, SP, LR, PC] = [7, 13, 14, 15] as const

export const ARM: Arch = {
  cpu: 'arm',
  width: 4,
  names: NAMES,
  aliases: { r11: 'fp', r13: 'sp', r14: 'lr', r15: 'pc' },
  ip: PC,
  sp: SP,
  link: LR,
  calleeSaved: [4, 5, 6, 7, 8, 9, 10, 11],
  // The shorter Thumb call: half of a BL is still inside of it.
  callSize: 2n,
  strip: (address) => address,
  scanWords: 80,
  unwindTables: false,
  isCode: () => true,
  byFramePointer: () => null,
  byScan: (_callee, _stack, slot, returnAddress) => {
    const registers = emptyRegisters(ARM)
    registers[PC] = returnAddress
    registers[SP] = slot + 4n
    return registers
  },
}

/** Apple's ABI: r7 points at the stored pair r7, lr. */
export const ARM_IOS: Arch = {
  ...ARM,
  byFramePointer: (callee, stack) => {
    const fp = callee.registers[R7] ?? null
    if (fp === null || fp === 0n) return null
    const callerFp = stack.word(fp)
    const pc = stack.word(fp + 4n)
    if (callerFp === null || pc === null || (callerFp !== 0n && callerFp <= fp)) return null
    const registers = emptyRegisters(ARM)
    registers[PC] = pc
    registers[SP] = fp + 8n
    registers[R7] = callerFp
    return registers
  },
}
