/**
 * The architecture whose conventions a dump's stacks follow: its processor's, and where systems differ on one processor, the
 * system's too. Apple's ARM keeps another frame pointer; a 32-bit ARM under Zephyr or nothing at all is a Cortex-M.
 */
import type { Cpu, Os } from '../../formats/dump.ts'
import type { Arch } from './arch.ts'
import { ARM, ARM_IOS } from './arm.ts'
import { ARM64 } from './arm64.ts'
import { CORTEX_M } from './cortex-m.ts'
import { MIPS, MIPS64 } from './mips.ts'
import { RISCV32, RISCV64 } from './riscv.ts'
import { X86 } from './x86.ts'
import { X86_64 } from './x86-64.ts'
import { XTENSA } from './xtensa.ts'

export function archOf(cpu: Cpu, os: Os): Arch | null {
  switch (cpu) {
    case 'x86-64':
      return X86_64
    case 'arm64':
      return ARM64
    case 'x86':
      return X86
    case 'arm':
      return os === 'ios' ? ARM_IOS : os === 'zephyr' || os === 'bare-metal' ? CORTEX_M : ARM
    case 'riscv32':
      return RISCV32
    case 'riscv64':
      return RISCV64
    case 'xtensa':
      return XTENSA
    case 'mips':
      return MIPS
    case 'mips64':
      return MIPS64
    default:
      return null
  }
}
