/**
 * Register files of the CPUs, as Windows' CONTEXT and Breakpad's MDRawContext* lay them out. Only what unwinding and
 * evidence read: the integer registers. Names are rust-minidump's.
 */
import type { Cpu } from './dump.ts'
import { InputError, type Reader } from '../reader.ts'

/** Register name -> byte offset. */
interface Layout { width: 4 | 8; size: number; offsets: Record<string, number> }

const X86: Layout = {
  width: 4,
  size: 204,
  offsets: { eip: 184, esp: 196, ebp: 180, ebx: 164, esi: 160, edi: 156, eax: 176, ecx: 172, edx: 168, eflags: 192 },
}

const X86_64: Layout = {
  width: 8,
  size: 256,
  offsets: {
    rax: 120, rdx: 136, rcx: 128, rbx: 144, rsi: 168, rdi: 176, rbp: 160, rsp: 152,
    r8: 184, r9: 192, r10: 200, r11: 208, r12: 216, r13: 224, r14: 232, r15: 240, rip: 248,
  },
}

/** Context flags (4), r0 to r15, cpsr. */
const ARM: Layout = { width: 4, size: 72, offsets: named([...numbered('r', 11), 'fp', 'r12', 'sp', 'lr', 'pc', 'cpsr'], 4, 4) }

const ARM64_NAMES = [...numbered('x', 29), 'fp', 'lr', 'sp', 'pc']
/**
 * Today's layout has 4 bytes of flags and cpsr before x0, Breakpad's old one 8 bytes of flags and cpsr behind pc: the
 * registers are at the same place in both, and the total size tells them apart.
 */
const ARM64: Layout = { width: 8, size: 272, offsets: named(ARM64_NAMES, 8, 8) }

/** Flags (4), padding (4), 32 registers of 64 bits on both widths, hi and lo (16), accumulators (32), pc. */
const MIPS_NAMES = ['zero', 'at', 'v0', 'v1', ...numbered('a', 4), ...numbered('t', 8), ...numbered('s', 8), 't8', 't9', 'k0', 'k1', 'gp', 'sp', 'fp', 'ra']
const MIPS64: Layout = { width: 8, size: 320, offsets: { ...named(MIPS_NAMES, 8, 8), pc: 312 } }
const MIPS: Layout = { ...MIPS64, width: 4 }

const LAYOUTS: Partial<Record<Cpu, Layout>> = { x86: X86, 'x86-64': X86_64, arm: ARM, arm64: ARM64, mips: MIPS, mips64: MIPS64 }

/** `context` is exactly the bytes that the dump gives for the thread. */
export function readContext(context: Reader, cpu: Cpu): Map<string, bigint> {
  const layout = LAYOUTS[cpu]
  if (!layout) throw new InputError('dump-malformed', `registers of a CPU that this parser doesn't read (${cpu})`)
  if (context.length < layout.size) throw new InputError('dump-truncated', `${cpu} registers: ${context.length} bytes of at least ${layout.size}`)
  const registers = new Map<string, bigint>()
  for (const [name, offset] of Object.entries(layout.offsets)) {
    context.seek(offset)
    registers.set(name, layout.width === 8 ? context.u64() : BigInt(context.u32()))
  }
  return registers
}

function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`)
}

function named(names: string[], start: number, width: number): Record<string, number> {
  return Object.fromEntries(names.map((name, index) => [name, start + index * width]))
}
