/**
 * Registers by their DWARF numbers, named as the unwinder names them (x86-64 psABI 3.6.2, i386 psABI, AADWARF32, AADWARF64,
 * RISC-V ELF psABI). Others, such as vector registers, are followed by nobody and have no name.
 */
import type { Cpu } from '../../formats/dump.ts'

const numbered = (prefix: string, from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, index) => `${prefix}${from + index}`)

const RISCV = ['zero', 'ra', 'sp', 'gp', 'tp', ...numbered('t', 0, 2), 's0', 's1', ...numbered('a', 0, 7), ...numbered('s', 2, 11), ...numbered('t', 3, 6)]

const NAMES: Readonly<Partial<Record<Cpu, readonly string[]>>> = {
  x86: ['$eax', '$ecx', '$edx', '$ebx', '$esp', '$ebp', '$esi', '$edi', '$eip'],
  'x86-64': ['$rax', '$rdx', '$rcx', '$rbx', '$rsi', '$rdi', '$rbp', '$rsp', ...numbered('$r', 8, 15), '$rip'],
  arm: [...numbered('r', 0, 12), 'sp', 'lr', 'pc'],
  arm64: [...numbered('x', 0, 30), 'sp', 'pc'],
  riscv32: RISCV,
  riscv64: RISCV,
}

/** Empty for a CPU whose frames are not described this way (Xtensa's register windows). */
export const registerNames = (cpu: Cpu): readonly string[] => NAMES[cpu] ?? []
