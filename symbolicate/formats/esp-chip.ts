/**
 * Espressif's chips: which CPU, where its ROM is and where it executes an application (the address maps of the technical
 * reference manuals). Names and numbers are those of esp_chip_info.h.
 */
import type { Cpu, DumpThread, Memory, Module } from './dump.ts'
import { firmware } from './firmware.ts'

type Range = readonly [from: number, to: number]
interface Chip { name: string; cpu: Extract<Cpu, 'xtensa' | 'riscv32'>; rom: Range; code: readonly Range[] }

const riscv = (name: string, romEnd: number): Chip => ({ name, cpu: 'riscv32', rom: [0x4000_0000, romEnd], code: [[romEnd, 0x4090_0000], [0x4200_0000, 0x4400_0000]] })

const CHIPS: Readonly<Record<number, Chip>> = {
  0: { name: 'esp32', cpu: 'xtensa', rom: [0x4000_0000, 0x4007_0000], code: [[0x4007_0000, 0x40c0_0000], [0x5000_0000, 0x5000_2000]] },
  2: { name: 'esp32s2', cpu: 'xtensa', rom: [0x4000_0000, 0x4002_0000], code: [[0x4002_0000, 0x4080_0000]] },
  5: riscv('esp32c3', 0x4006_0000),
  9: { name: 'esp32s3', cpu: 'xtensa', rom: [0x4000_0000, 0x4006_0000], code: [[0x4006_0000, 0x4040_0000], [0x4200_0000, 0x4400_0000]] },
  12: riscv('esp32c2', 0x4009_0000),
  13: riscv('esp32c6', 0x4005_0000),
  16: riscv('esp32h2', 0x4002_0000),
  18: { name: 'esp32p4', cpu: 'riscv32', rom: [0x4fc0_0000, 0x4fc2_0000], code: [[0x4000_0000, 0x4c00_0000], [0x4fc2_0000, 0x5000_0000]] },
  20: riscv('esp32c61', 0x4004_0000),
  23: riscv('esp32c5', 0x4005_0000),
  25: riscv('esp32h21', 0x4002_0000),
  28: riscv('esp32h4', 0x4004_0000),
}

export const chipOf = (id: number): Chip | null => CHIPS[id] ?? null
/** Panic text names no chip: the oldest of each kind stands for it, as their ranges overlap most. */
export const chipOfCpu = (cpu: Chip['cpu']): Chip => CHIPS[cpu === 'xtensa' ? 0 : 5]!

/** One module for each range of the application, which are one firmware, and one for what the factory put there. */
export const firmwareOf = ({ name, code, rom }: Chip, elfSha256: string | null): Module[] => [
  ...code.map((range) => moduleOf('firmware', range, elfSha256)), moduleOf(`${name}-rom`, rom, null),
].sort((a, b) => (a.base < b.base ? -1 : 1))

const moduleOf = (name: string, [from, to]: Range, elfSha256: string | null): Module => firmware(name, { base: BigInt(from), size: to - from }, { elfSha256 })

/** The dumped range that holds a stack pointer. */
export const stackAt = (memory: Memory, sp: bigint | undefined): DumpThread['stack'] =>
  (sp === undefined ? null : memory.ranges().find(({ base, size }) => sp >= base && sp < base + BigInt(size)) ?? null)
