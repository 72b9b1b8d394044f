/**
 * The report of one dump: rust-minidump's JSON field names (its json-schema.md), so that the two can be compared by
 * script, and ours beside them. Addresses become 0x-hex here, as wide as the CPU's pointers. `offset` is where the frame's
 * instruction is; for a caller that is inside of its call, not the return address. What comes from the dump is hostile
 * text and stays text.
 */
import type { Report, ReportFrame, ReportModule, ReportThread } from './contract.ts'
import type { Cpu, Dump, DumpThread, Module, TextFrame } from './formats/dump.ts'
import type { SymbolStatus } from './symbols/source.ts'
import type { Frame, Stack } from './unwind/frame.ts'

/** What asking for a module's symbols gave; modules that no frame touched were not asked for. */
export type SymbolStatuses = ReadonlyMap<number, { status: SymbolStatus; reason: string | null }>

/** `stacks` has one entry per thread; null where the format brought the frames itself. */
export function buildReport(dump: Dump, stacks: readonly (Stack | null)[], symbolStatuses: SymbolStatuses): Report {
  const threads = dump.threads.map((thread, index) => reportThread(dump, thread, index, stacks[index] ?? null))
  const { exception, crashingThread } = dump
  const crashed = crashingThread === null ? null : threads[crashingThread]!
  return {
    status: 'OK',
    format: dump.format,
    pid: dump.pid,
    system_info: { os: dump.os, os_ver: dump.osVersion, cpu_arch: dump.cpu === 'x86-64' ? 'amd64' : dump.cpu },
    crash_info: {
      type: exception?.type ?? null,
      address: exception?.address == null ? null : hex(exception.address, dump.cpu),
      crashing_thread: crashingThread,
      assertion: dump.abortMessage,
      access: exception?.access ?? 'unknown',
    },
    crashing_thread: crashed && withRegisters(crashed, dump.threads[crashingThread!]!, dump.cpu),
    threads,
    modules: dump.modules.map((module, index) => reportModule(module, dump.cpu, symbolStatuses.get(index))),
    main_module: dump.mainModule,
    annotations: dump.annotations,
    notes: dump.notes,
  }
}

/** For bytes that no parser could read: the reason is the status. */
export function emptyReport(format: string, status: string): Report {
  return {
    status,
    format,
    pid: null,
    system_info: { os: 'unknown', os_ver: null, cpu_arch: 'unknown' },
    crash_info: { type: null, address: null, crashing_thread: null, assertion: null, access: 'unknown' },
    crashing_thread: null,
    threads: [],
    modules: [],
    main_module: null,
    annotations: {},
    notes: [],
  }
}

function reportThread(dump: Dump, thread: DumpThread, index: number, stack: Stack | null): ReportThread {
  const frames = stack ? stack.frames.map((frame) => reportFrame(dump, frame)) : textFrames(thread.frames ?? [], dump.cpu)
  const omitted = stack?.omitted ?? 0
  return { threads_index: index, thread_id: thread.id, thread_name: thread.name, frame_count: frames.length + omitted, frames, frames_omitted: omitted }
}

function reportFrame(dump: Dump, frame: Frame): ReportFrame {
  const module = frame.module === null ? null : dump.modules[frame.module]!
  const { symbol } = frame
  return {
    frame: frame.depth,
    trust: frame.trust,
    module: module && baseName(module.name),
    module_offset: module && hex(BigInt(frame.offset), dump.cpu),
    offset: hex(frame.address, dump.cpu),
    function: symbol?.function ?? null,
    function_offset: symbol && hex(BigInt(frame.offset - symbol.functionOffset), dump.cpu),
    file: symbol?.file ?? null,
    line: symbol?.line ?? null,
    inlines: symbol && symbol.inlines.length > 0 ? symbol.inlines : null,
    missing_symbols: symbol === null,
    approximate: symbol?.approximate ?? false,
    ...(frame.repeats > 1 ? { repeats: frame.repeats } : {}),
  }
}

/** Text formats list an inlined call as a frame of its own, before the frame that it was inlined into. */
function textFrames(given: readonly TextFrame[], cpu: Cpu): ReportFrame[] {
  const frames: ReportFrame[] = []
  let inlines: NonNullable<ReportFrame['inlines']> = []
  for (const [index, frame] of given.entries()) {
    if (frame.inline && frame.function !== null && index + 1 < given.length) {
      inlines.push({ function: frame.function, file: frame.file, line: frame.line })
      continue
    }
    frames.push({
      frame: frames.length,
      trust: 'given',
      module: frame.module && baseName(frame.module),
      module_offset: frame.moduleOffset === null ? null : hex(BigInt(frame.moduleOffset), cpu),
      offset: hex(frame.address ?? 0n, cpu),
      function: frame.function,
      function_offset: null,
      file: frame.file,
      line: frame.line,
      inlines: inlines.length > 0 ? inlines : null,
      missing_symbols: frame.function === null,
      approximate: false,
    })
    inlines = []
  }
  return frames
}

function withRegisters(thread: ReportThread, { registers }: DumpThread, cpu: Cpu): ReportThread {
  const [first, ...rest] = thread.frames
  if (!first || !registers) return thread
  const printed = Object.fromEntries([...registers].map(([name, value]) => [name, hex(value, cpu)]))
  return { ...thread, frames: [{ ...first, registers: printed }, ...rest] }
}

function reportModule(module: Module, cpu: Cpu, symbols: { status: SymbolStatus; reason: string | null } | undefined): ReportModule {
  return {
    base_addr: hex(module.base, cpu),
    end_addr: hex(module.base + BigInt(module.size), cpu),
    filename: baseName(module.name),
    code_id: module.codeId,
    debug_file: module.debugFile && baseName(module.debugFile),
    debug_id: module.debugId,
    version: module.version,
    symbol_status: symbols?.status ?? 'not-asked',
    symbol_reason: symbols?.reason ?? null,
  }
}

const NARROW: ReadonlySet<Cpu> = new Set(['x86', 'arm', 'riscv32', 'xtensa', 'mips'])
const hex = (value: bigint, cpu: Cpu): string => `0x${value.toString(16).padStart(NARROW.has(cpu) ? 8 : 16, '0')}`

/** `/usr/bin/x`, `C:\Windows\x.dll`: the last part, as the peers list it. */
const baseName = (path: string): string => path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1)
