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

/** Armv7-M ARM B3.1: code lies below 0x20000000; RAM, peripherals and devices above. Others may put code anywhere. */
export function codeRange(cpu: Cpu, os: Os): { base: bigint; size: number } {
  if (cpu === 'arm' && (os === 'zephyr' || os === 'bare-metal')) return { base: 0n, size: 0x2000_0000 }
  return { base: 0n, size: 0x1_0000_0000 }
}
