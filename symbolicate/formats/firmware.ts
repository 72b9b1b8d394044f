/**
 * A microcontroller's firmware as the one module of its dump: it runs where it was linked, and the dump doesn't say how large
 * it is. Its range is where this kind of processor executes code, so that a program counter elsewhere is seen to be wild.
 */
import { debugIdOf } from './elf-core-modules.ts'
import type { Cpu, Module, Os } from './dump.ts'

export interface FirmwareIdentity { buildId?: string | null; elfSha256?: string | null }

export function firmware(name: string, range: { base: bigint; size: number }, { buildId = null, elfSha256 = null }: FirmwareIdentity): Module {
  return {
    ...range, name, version: null, debugFile: name, codeId: buildId, debugId: buildId === null ? null : debugIdOf(buildId),
    ...(elfSha256 === null ? {} : { elfSha256 }), linked: true,
  }
}

export const isCortexM = (cpu: Cpu, os: Os): boolean => cpu === 'arm' && (os === 'zephyr' || os === 'bare-metal')

/** Armv7-M ARM B3.1: code lies below 0x20000000; RAM, peripherals and devices above. Others may put code anywhere. */
export const codeRange = (cpu: Cpu, os: Os): { base: bigint; size: number } => ({ base: 0n, size: isCortexM(cpu, os) ? 0x2000_0000 : 0x1_0000_0000 })

/** Where a function that was copied to RAM runs; null where that is code anyway. */
export const ramRange = (cpu: Cpu, os: Os): { base: bigint; size: number } | null => (isCortexM(cpu, os) ? { base: 0x2000_0000n, size: 0x2000_0000 } : null)
