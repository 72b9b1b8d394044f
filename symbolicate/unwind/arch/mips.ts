/**
 * MIPS, 32 and 64 bit (System V ABI o32 and n64): JAL puts the return address into ra, behind its delay slot. Compilers
 * chain no frames, so there is CFI and scanning.
 */
import { type Arch, emptyRegisters } from './arch.ts'

const numbered = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, number) => `${prefix}${number}`)
const NAMES = ['zero', 'at', 'v0', 'v1', ...numbered('a', 4), ...numbered('t', 8), ...numbered('s', 8), 't8', 't9', 'k0', 'k1', 'gp', 'sp', 'fp', 'ra', 'pc']
const index = (name: string): number => NAMES.indexOf(name)

const mips = (cpu: 'mips' | 'mips64', width: 4 | 8): Arch => ({
  cpu,
  width,
  names: NAMES,
  aliases: { s8: 'fp' },
  ip: index('pc'),
  sp: index('sp'),
  link: index('ra'),
  calleeSaved: [...numbered('s', 8), 'gp', 'fp'].map(index),
  // The call and the instruction in its delay slot.
  callSize: 8n,
  strip: (address) => address,
  scanWords: 40,
  unwindTables: false,
  isCode: (address) => (address & 3n) === 0n,
  byFramePointer: () => null,
  byScan: (_callee, _stack, slot, returnAddress) => {
    const registers = emptyRegisters({ names: NAMES })
    registers[index('pc')] = returnAddress
    registers[index('sp')] = slot + BigInt(width)
    return registers
  },
})

export const MIPS = mips('mips', 4)
export const MIPS64 = mips('mips64', 8)
