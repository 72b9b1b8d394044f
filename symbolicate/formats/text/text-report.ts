/**
 * The Report of a dump that brings its own frames. Consecutive frames of one address are one frame and the calls that the
 * compiler inlined into it (the sanitizers print them so); a function that comes twice at one address is recursion.
 */
import type { Report, ReportFrame, ReportModule, ReportThread } from '../../contract.ts'
import type { Dump, TextFrame } from '../dump.ts'

export function textReport(dump: Dump, exceptionText: string | null): Report {
  const threads = dump.threads.map((thread, index): ReportThread => {
    const frames = framesOf(thread.frames ?? [])
    return { threads_index: index, thread_id: thread.id, thread_name: thread.name, frame_count: frames.length, frames, frames_omitted: 0 }
  })
  const crashing = dump.crashingThread === null ? undefined : threads[dump.crashingThread]
  return {
    status: crashing && crashing.frame_count > 0 ? 'OK' : 'no frames',
    format: dump.format,
    pid: dump.pid,
    system_info: { os: dump.os, os_ver: dump.osVersion, cpu_arch: dump.cpu === 'x86-64' ? 'amd64' : dump.cpu },
    crash_info: {
      type: dump.exception?.type ?? null,
      address: dump.exception?.address == null ? null : hex(dump.exception.address),
      crashing_thread: dump.crashingThread,
      assertion: exceptionText,
      access: dump.exception?.access ?? 'unknown',
    },
    crashing_thread: crashing ?? null,
    threads,
    modules: dump.modules.map((module): ReportModule => ({
      base_addr: hex(module.base), end_addr: hex(module.base + BigInt(module.size)), filename: baseName(module.name), code_id: module.codeId,
      debug_file: module.debugFile, debug_id: module.debugId, version: module.version, symbol_status: 'not-asked', symbol_reason: null,
    })),
    main_module: dump.mainModule,
    annotations: dump.annotations,
    notes: dump.notes,
  }
}

function framesOf(frames: TextFrame[]): ReportFrame[] {
  const result: ReportFrame[] = []
  for (let start = 0; start < frames.length;) {
    let end = start + 1
    const names = new Set([frames[start]!.function])
    while (end < frames.length && frames[end]!.address !== null && frames[end]!.address === frames[start]!.address && !names.has(frames[end]!.function)) {
      names.add(frames[end]!.function)
      end++
    }
    result.push(frameOf(frames.slice(start, end), result.length))
    start = end
  }
  return result
}

function frameOf(group: TextFrame[], index: number): ReportFrame {
  const outer = group.at(-1)!
  const inlined = group.slice(0, -1)
  return {
    frame: index, trust: 'given', module: outer.module === null ? null : baseName(outer.module),
    module_offset: outer.moduleOffset === null ? null : hex(BigInt(outer.moduleOffset)),
    offset: hex(outer.address ?? 0n), function: outer.function, function_offset: null, file: outer.file, line: outer.line,
    inlines: inlined.length === 0 ? null : inlined.map((frame) => ({ function: frame.function ?? '(unknown)', file: frame.file, line: frame.line })),
    missing_symbols: outer.function === null, approximate: false,
  }
}

const baseName = (path: string): string => path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1)
const hex = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`
