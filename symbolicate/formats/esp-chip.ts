/**
 * Espressif's chips: which CPU, and where each executes code (the address maps of the technical reference manuals). Names and
 * numbers are those of esp_chip_info.h. The ROM is part of the first range: an application's ELF file names its functions too.
 */
import type { Cpu, DumpThread, Memory, Module } from './dump.ts'
import { firmware } from './firmware.ts'

interface Chip { name: string; cpu: Extract<Cpu, 'xtensa' | 'riscv32'>; code: readonly [from: number, to: number][] }

const SMALL_RISCV: Chip['code'] = [[0x4000_0000, 0x4090_0000], [0x4200_0000, 0x4400_0000]]

const CHIPS: Readonly<Record<number, Chip>> = {
  0: { name: 'esp32', cpu: 'xtensa', code: [[0x4000_0000, 0x40c0_0000], [0x5000_0000, 0x5000_2000]] },
  2: { name: 'esp32s2', cpu: 'xtensa', code: [[0x4000_0000, 0x4080_0000]] },
  5: { name: 'esp32c3', cpu: 'riscv32', code: SMALL_RISCV },
  9: { name: 'esp32s3', cpu: 'xtensa', code: [[0x4000_0000, 0x4040_0000], [0x4200_0000, 0x4400_0000]] },
  12: { name: 'esp32c2', cpu: 'riscv32', code: SMALL_RISCV },
  13: { name: 'esp32c6', cpu: 'riscv32', code: SMALL_RISCV },
  16: { name: 'esp32h2', cpu: 'riscv32', code: SMALL_RISCV },
  18: { name: 'esp32p4', cpu: 'riscv32', code: [[0x4000_0000, 0x4c00_0000], [0x4fc0_0000, 0x5000_0000]] },
  20: { name: 'esp32c61', cpu: 'riscv32', code: SMALL_RISCV },
  23: { name: 'esp32c5', cpu: 'riscv32', code: SMALL_RISCV },
  25: { name: 'esp32h21', cpu: 'riscv32', code: SMALL_RISCV },
  28: { name: 'esp32h4', cpu: 'riscv32', code: SMALL_RISCV },
}

export const chipOf = (id: number): Chip | null => CHIPS[id] ?? null
/** Panic text names no chip: the oldest of each kind stands for it, as their ranges overlap most. */
export const chipOfCpu = (cpu: Chip['cpu']): Chip => CHIPS[cpu === 'xtensa' ? 0 : 5]!

/** One module for each range, all of the same firmware. */
export const firmwareOf = ({ code }: Chip, elfSha256: string | null): Module[] =>
  code.map(([from, to]) => firmware('firmware', { base: BigInt(from), size: to - from }, { elfSha256 }))

/** The dumped range that holds a stack pointer. */
export const stackAt = (memory: Memory, sp: bigint | undefined): DumpThread['stack'] =>
  (sp === undefined ? null : memory.ranges().find(({ base, size }) => sp >= base && sp < base + BigInt(size)) ?? null)
