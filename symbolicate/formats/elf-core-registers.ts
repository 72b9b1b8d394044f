/**
 * One thread of an ELF core: NT_PRSTATUS, Linux' struct elf_prstatus (include/uapi/linux/elfcore.h) with each CPU's
 * elf_gregset_t behind it.
 *
 *   signal number, code, errno (i32 each), current signal u16, pad, pending and held signals (word each),
 *   pid, ppid, pgrp, sid (i32 each), four times {seconds, microseconds} (word each), registers
 */
import { InputError, type Reader } from '../reader.ts'
import type { Cpu } from './dump.ts'

export interface PrStatus { id: number; signal: number; registers: Map<string, bigint> }

const numbered = (prefix: string, count: number, from = 0): string[] => Array.from({ length: count }, (_, index) => `${prefix}${from + index}`)

/** RISC-V's order, and psABI names, in every dump that has these registers. */
export const RISCV_REGISTERS = [
  'pc', 'ra', 'sp', 'gp', 'tp', ...numbered('t', 3), 's0', 's1', ...numbered('a', 8), ...numbered('s', 10, 2), ...numbered('t', 4, 3),
] as const

/** In the order of the file; `-` is a register that nothing here reads. */
const LAYOUTS: Partial<Record<Cpu, readonly string[]>> = {
  x86: ['ebx', 'ecx', 'edx', 'esi', 'edi', 'ebp', 'eax', '-', '-', '-', '-', '-', 'eip', '-', 'eflags', 'esp'],
  'x86-64': ['r15', 'r14', 'r13', 'r12', 'rbp', 'rbx', 'r11', 'r10', 'r9', 'r8', 'rax', 'rcx', 'rdx', 'rsi', 'rdi', '-', 'rip', '-', '-', 'rsp'],
  arm: [...numbered('r', 11), 'fp', 'r12', 'sp', 'lr', 'pc', 'cpsr'],
  arm64: [...numbered('x', 29), 'fp', 'lr', 'sp', 'pc'],
  riscv32: RISCV_REGISTERS,
  riscv64: RISCV_REGISTERS,
}

const OFFSETS = { 4: { id: 24, registers: 72 }, 8: { id: 32, registers: 112 } }

export function readPrStatus(note: Reader, cpu: Cpu, width: 4 | 8): PrStatus {
  const layout = LAYOUTS[cpu]
  if (!layout) throw new InputError('dump-malformed', `registers of a CPU that this parser doesn't read (${cpu})`)
  const offsets = OFFSETS[width]
  const signal = note.seek(12).u16()
  const id = note.seek(offsets.id).u32()
  return { id, signal, registers: readRegisters(note.seek(offsets.registers), layout, width) }
}

/** One word each, from here on. */
export function readRegisters(file: Reader, layout: readonly string[], width: 4 | 8): Map<string, bigint> {
  file.need(file.at, layout.length * width, 'registers')
  const registers = new Map<string, bigint>()
  for (const name of layout) {
    const value = width === 8 ? file.u64() : BigInt(file.u32())
    if (name !== '-') registers.set(name, value)
  }
  return registers
}
