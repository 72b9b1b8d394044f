import type { Report, ReportFrame } from '../../symbolicate/contract.ts'
import type { Cpu, Dump, Exception, MemoryRegion, Module, Os } from '../../symbolicate/formats/dump.ts'
import { createMemory } from '../../symbolicate/formats/memory.ts'

/** Crashes drawn by hand: what a parser would have found, without a parser. */
export interface Drawn {
  os?: Os
  cpu?: Cpu
  exception?: Partial<Exception> & { type: string }
  registers?: Record<string, bigint>
  stack?: { base: bigint; size: number }
  modules?: Partial<Module>[]
  regions?: { base: bigint; size: bigint; access: string; name?: string }[]
  code?: { at: bigint; bytes: number[] }
  memory?: { at: bigint; bytes: number[] }[]
  message?: string
  frames?: Partial<ReportFrame>[]
}

export const PROGRAM = { base: 0x5555_5555_4000n, size: 0x1_0000, name: '/usr/bin/sensord', debugId: '0123456789ABCDEF0123456789ABCDEF0' }
export const LIBC = { base: 0x7fff_f7dd_2000n, size: 0x1d_0000, name: '/lib/libc.so.6', debugId: 'EC61AC938E5A39B16F9FBD350E3169A50' }

export function drawDump({ os = 'linux', cpu = 'x86-64', exception, registers = {}, stack, modules = [PROGRAM, LIBC], regions = [], code, memory = [], message }: Drawn): Dump {
  const pieces = [...(code ? [code] : []), ...memory].map(({ at, bytes }) => ({ base: at, bytes: Uint8Array.from(bytes) }))
  return {
    format: 'minidump', os, osVersion: null, cpu,
    exception: exception ? { code: 0, subcode: null, address: null, access: 'unknown', ...exception } : null,
    crashingThread: 0,
    threads: [{ id: 7, name: null, registers: new Map(Object.entries(registers)), stack: stack ?? null, frames: null }],
    modules: modules.map((module): Module => ({ base: 0n, size: 0, name: 'module', codeId: null, debugId: null, debugFile: null, version: null, ...module })),
    mainModule: 0, unloadedModules: [], memory: createMemory(pieces),
    regions: regions.map(({ base, size, access, name }): MemoryRegion => ({ base, size, read: access.includes('r'), write: access.includes('w'), execute: access.includes('x'), name: name ?? null })),
    annotations: {}, abortMessage: message ?? null, pid: 7, createdAt: null, notes: [],
  }
}

export function drawReport(frames: Partial<ReportFrame>[], overrides: Partial<Report> = {}): Report {
  const thread = {
    threads_index: 0, thread_id: 7, thread_name: null, frame_count: frames.length, frames_omitted: 0,
    frames: frames.map((frame, index): ReportFrame => ({
      frame: index, trust: index === 0 ? 'context' : 'cfi', module: 'sensord', module_offset: `0x${(0x1000 + index * 16).toString(16).padStart(16, '0')}`,
      offset: `0x${(0x5555_5555_5000 + index * 16).toString(16).padStart(16, '0')}`, function: null, function_offset: '0x0000000000000004', file: null, line: null, inlines: null,
      missing_symbols: false, approximate: false, ...frame,
    })),
  }
  return {
    status: 'OK', format: 'minidump', pid: 7, system_info: { os: 'linux', os_ver: null, cpu_arch: 'amd64' },
    crash_info: { type: 'SIGSEGV / SEGV_MAPERR', address: null, crashing_thread: 0, assertion: null, access: 'unknown' },
    crashing_thread: thread, threads: [thread],
    modules: [PROGRAM, LIBC].map(({ base, size, name, debugId }) => ({
      base_addr: `0x${base.toString(16)}`, end_addr: `0x${(base + BigInt(size)).toString(16)}`, filename: name.split('/').at(-1)!, code_id: null, debug_file: null, debug_id: debugId,
      version: null, symbol_status: 'found' as const, symbol_reason: null,
    })),
    main_module: 0, annotations: {}, notes: [], ...overrides,
  }
}

export const named = (...names: string[]): Partial<ReportFrame>[] => names.map((name) => ({ function: name }))
