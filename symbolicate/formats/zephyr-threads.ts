/**
 * The threads of a Zephyr firmware, from the kernel's structure in a dump (its 'T' section, or memory that holds `_kernel`) and
 * the offsets that the firmware's symbols tell (symbols/elf/thread-info.ts). The list is the device's: it may be cut, run in a
 * circle or point anywhere.
 *
 * What a Cortex-M that was switched away has left (arch/arm/core/cortex_m): in its thread r4 to r11 and the process stack
 * pointer behind them; on its stack the frame of the exception that switched, with floating point when EXC_RETURN says so. Of
 * other processors the stack pointer alone is taken, and callers are searched for.
 */
import { archOf } from '../unwind/arch/choice.ts'
import type { ThreadInfo } from '../symbols/source.ts'
import { frameSize } from './cortex-m-fault.ts'
import type { Dump, DumpThread, Memory } from './dump.ts'
import { isCortexM } from './firmware.ts'
import { createMemory } from './memory.ts'

const MOST_THREADS = 256
const LONGEST_NAME = 64
/** Where the kernel's bytes are put when only they are in the dump and nothing says where they were. */
const NOWHERE = 0n

const CALLEE_SAVED = ['r4', 'r5', 'r6', 'r7', 'r8', 'r9', 'r10', 'fp'] as const
const STACKED = ['r0', 'r1', 'r2', 'r3', 'r12', 'lr', 'pc', 'cpsr'] as const
const ALIGNED = 0x200n
const EXCEPTION_NUMBER = 0x1ffn

/** `kernel`: the 'T' section. The thread that crashed stays the first, and gets its name; a handler that crashed is none. */
export function withZephyrThreads(dump: Dump, kernel: Uint8Array | null, info: ThreadInfo | null): Dump {
  const [crashed, ...rest] = dump.threads
  if (crashed === undefined || rest.length > 0) return dump
  const said = (text: string): Dump => (kernel === null ? dump : { ...dump, notes: [...dump.notes, { slug: 'threads-not-listed', text: `zephyr-coredump: ${text}` }] })
  if (info === null) return said('where the kernel keeps its threads is not known: the firmware\'s symbols are missing, or it is built without CONFIG_DEBUG_THREAD_INFO')
  const structure = kernel !== null ? { memory: createMemory([{ base: NOWHERE, bytes: kernel }]), at: NOWHERE } : info.kernel === null ? null : { memory: dump.memory, at: BigInt(info.kernel) }
  if (structure === null) return dump
  const word = (memory: Memory, address: bigint): bigint | null => {
    if (info.width === 8) return memory.u64(address)
    const value = memory.u32(address)
    return value === null ? null : BigInt(value)
  }
  const current = word(structure.memory, structure.at + BigInt(info.currentThread))
  const first = word(structure.memory, structure.at + BigInt(info.threads))
  if (current === null || first === null) return said('the kernel structure is cut')
  const { addresses, complete } = listed(first, (thread) => word(dump.memory, thread + BigInt(info.nextThread)))
  const inHandler = isCortexM(dump.cpu, dump.os) && ((crashed.registers?.get('cpsr') ?? 0n) & EXCEPTION_NUMBER) !== 0n
  const crashedThread = inHandler ? crashed : { ...crashed, id: idOf(current), name: nameOf(dump.memory, current, info) }
  const others = addresses.filter((address) => inHandler || address !== current).map((address): DumpThread => {
    const registers = registersOf(dump, address, info, (at) => word(dump.memory, at))
    return { id: idOf(address), name: nameOf(dump.memory, address, info), registers, stack: stackOf(dump, registers), frames: null }
  })
  const whole = { ...dump, threads: [crashedThread, ...others] }
  return complete ? whole : { ...whole, notes: [...dump.notes, { slug: 'threads-cut', text: 'zephyr-coredump: the list of threads leads out of the dump, in a circle, or is too long' }] }
}

/** A thread is its address; one that no number holds is none of a real thread. */
const idOf = (address: bigint): number => Number(BigInt.asUintN(53, address))

function listed(first: bigint, next: (thread: bigint) => bigint | null): { addresses: bigint[]; complete: boolean } {
  const seen = new Set<bigint>()
  let thread: bigint | null = first
  while (thread !== null && thread !== 0n && !seen.has(thread) && seen.size < MOST_THREADS) {
    seen.add(thread)
    thread = next(thread)
  }
  return { addresses: [...seen], complete: thread === 0n }
}

/** Kept inside of the thread, ended by a zero. */
function nameOf(memory: Memory, thread: bigint, { name }: ThreadInfo): string | null {
  let text = ''
  for (let at = 0; name !== null && at < LONGEST_NAME; at++) {
    const byte = memory.u8(thread + BigInt(name + at))
    if (byte === null || byte < 0x20 || byte > 0x7e) break
    text += String.fromCharCode(byte)
  }
  return text === '' ? null : text
}

function registersOf(dump: Dump, thread: bigint, { stackPointer, exceptionReturn }: ThreadInfo, word: (address: bigint) => bigint | null): Map<string, bigint> | null {
  const sp = stackPointer === null ? null : word(thread + BigInt(stackPointer))
  const arch = archOf(dump.cpu, dump.os)
  if (sp === null || stackPointer === null || arch === null) return null
  if (!isCortexM(dump.cpu, dump.os)) return new Map([[arch.names[arch.sp]!, sp]])
  const found = new Map<string, bigint>()
  const take = (names: readonly string[], from: bigint): void => {
    for (const [index, name] of names.entries()) {
      const value = word(from + BigInt(4 * index))
      if (value !== null) found.set(name, value)
    }
  }
  take(CALLEE_SAVED, thread + BigInt(stackPointer - 4 * CALLEE_SAVED.length))
  take(STACKED, sp)
  const status = found.get('cpsr')
  if (status === undefined) return found.set('sp', sp)
  const entered = exceptionReturn === null ? null : dump.memory.u8(thread + BigInt(exceptionReturn))
  return found.set('sp', sp + BigInt(entered === null ? frameSize(~0) : frameSize(entered)) + (status & ALIGNED ? 4n : 0n))
}

function stackOf({ memory }: Dump, registers: Map<string, bigint> | null): DumpThread['stack'] {
  const sp = registers?.get('sp')
  return memory.ranges().find(({ base, size }) => sp !== undefined && sp >= base && sp < base + BigInt(size)) ?? null
}
