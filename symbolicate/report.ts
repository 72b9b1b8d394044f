/**
 * The report of one dump: rust-minidump's JSON field names (its json-schema.md), so that the two can be compared by
 * script, and ours beside them. Addresses become 0x-hex here, as wide as the CPU's pointers. `offset` is where the frame's
 * instruction is; for a caller that is inside of its call, not the return address. What comes from the dump is hostile
 * text and stays text.
 *
 * report-schema.ts bounds each field; the sum of them is bounded here, so that a report always fits the sandbox's answer
 * (4 MiB): a dump with a thousand deep threads keeps the one that crashed whole and says what it left out.
 */
import type { Report, ReportFrame, ReportModule, ReportThread } from './contract.ts'
import type { Cpu, Dump, DumpThread, MacCrashRecord, Module, Note, TextFrame } from './formats/dump.ts'
import { isNonCanonical } from './evidence/situation.ts'
import { REPORT_LIMITS } from './report-schema.ts'
import type { SymbolStatus } from './symbols/source.ts'
import type { Frame, Stack } from './unwind/frame.ts'

/** What asking for a module's symbols gave; modules that no frame touched were not asked for. */
export type SymbolStatuses = ReadonlyMap<number, { status: SymbolStatus; reason: string | null }>

/** Bytes of JSON that each part may take. */
const ROOM = { threads: 2 * 1024 * 1024, modules: 768 * 1024, annotations: 256 * 1024, macCrashInfo: 128 * 1024, unloaded: 128 * 1024 }

/** `stacks` has one entry per thread; null where the format brought the frames itself. */
export function buildReport(dump: Dump, stacks: readonly (Stack | null)[], symbolStatuses: SymbolStatuses): Report {
  const notes: Note[] = dump.notes.slice(0, REPORT_LIMITS.notes - 8).map(({ slug, text }) => ({ slug: slug.slice(0, 64), text: line(text) }))
  const threads = reportThreads(dump, stacks, notes)
  const { exception, crashingThread, facts, cpu } = dump
  const crashed = crashingThread === null ? null : (threads[crashingThread] ?? null)
  return {
    status: 'OK',
    format: dump.format,
    pid: dump.pid,
    process_uptime: facts?.uptime ?? undefined,
    thread_count: dump.threads.length,
    system_info: {
      os: dump.os, os_ver: orNull(dump.osVersion, name), cpu_arch: cpu === 'x86-64' ? 'amd64' : cpu,
      cpu_info: orAbsent(facts?.cpuInfo, name), cpu_count: facts?.cpuCount ?? undefined, cpu_microcode_version: facts?.cpuMicrocode ?? undefined,
    },
    crash_info: {
      type: orNull(exception?.type, line),
      address: exception?.address == null ? null : hex(exception.address, cpu),
      crashing_thread: crashed && crashingThread,
      assertion: orNull(dump.abortMessage, line),
      access: exception?.access ?? 'unknown',
    },
    crashing_thread: crashed && withRegisters(crashed, dump.threads[crashingThread!]!, cpu),
    threads,
    main_module: dump.mainModule,
    modules: within(ROOM.modules, 'modules', notes, dump.modules.slice(0, REPORT_LIMITS.modules), (module, index) => reportModule(module, cpu, symbolStatuses.get(index))),
    unloaded_modules: dump.unloadedModules.length === 0 ? undefined : within(ROOM.unloaded, 'unloaded modules', notes, dump.unloadedModules.slice(0, REPORT_LIMITS.unloaded), (module) => unloadedModule(module, cpu)),
    lsb_release: facts?.distribution ?? undefined,
    linux_memory_map_count: facts?.memoryMapCount ?? undefined,
    mac_crash_info: facts === undefined || facts.macCrashInfo.length === 0 ? undefined : macCrashInfo(facts.macCrashInfo, notes),
    mac_boot_args: orAbsent(facts?.macBootArguments, line),
    annotations: Object.fromEntries(within(ROOM.annotations, 'annotations', notes, Object.entries(dump.annotations), ([key, value]) => [name(key), line(value)] as const)),
    notes,
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

/** The operand of the instruction that failed, where the dump has no address for it (x86-64 says none that is not canonical). */
export function withAdjustedAddress(crash: Report['crash_info'], { cpu, exception }: Dump, faultAddress: bigint | null): Report['crash_info'] {
  if (faultAddress === null || cpu !== 'x86-64' || exception === null || exception.address === faultAddress) return crash
  const kind = isNonCanonical({ cpu }, faultAddress) ? 'non-canonical' : 'operand'
  return { ...crash, adjusted_address: { kind, address: hex(faultAddress, cpu) } }
}

/** In the dump's order; but the thread that crashed takes its room first. */
function reportThreads(dump: Dump, stacks: readonly (Stack | null)[], notes: Note[]): ReportThread[] {
  const given = dump.threads.slice(0, REPORT_LIMITS.threads)
  const threads = new Array<ReportThread>(given.length)
  let room = ROOM.threads
  let cut = 0
  const order = given.map((_, index) => index).sort((a, b) => Number(b === dump.crashingThread) - Number(a === dump.crashingThread) || a - b)
  for (const index of order) {
    const thread = reportThread(dump, given[index]!, index, stacks[index] ?? null)
    let kept = 0
    // The one that crashed stands in the report twice.
    const times = index === dump.crashingThread ? 2 : 1
    for (; kept < thread.frames.length && room > 0; kept++) room -= times * frameSize(thread.frames[kept]!)
    if (kept < thread.frames.length) {
      cut++
      thread.frames_omitted += thread.frames.length - kept
      thread.frames.length = kept
    }
    room -= times * (160 + textSize(thread.thread_name))
    threads[index] = thread
  }
  if (cut > 0) notes.push({ slug: 'frames-omitted', text: `report: ${cut} of ${dump.threads.length} threads lost frames, because all together are too large` })
  return threads
}

function reportThread(dump: Dump, thread: DumpThread, index: number, stack: Stack | null): ReportThread {
  const frames = stack ? stack.frames.map((frame) => reportFrame(dump, frame)) : textFrames(thread.frames ?? [], dump.cpu)
  const omitted = stack?.omitted ?? 0
  return { threads_index: index, thread_id: thread.id, thread_name: orNull(thread.name, name), frame_count: frames.length + omitted, frames, frames_omitted: omitted }
}

function reportFrame(dump: Dump, frame: Frame): ReportFrame {
  const module = frame.module === null ? null : dump.modules[frame.module]!
  const { symbol } = frame
  const unloaded = module === null && dump.unloadedModules.length > 0 ? unloadedAt(dump, frame.address) : []
  return {
    frame: frame.depth,
    trust: frame.trust,
    module: module && name(baseName(module.name)),
    module_offset: module && hex(BigInt(frame.offset), dump.cpu),
    offset: hex(frame.address, dump.cpu),
    function: orNull(symbol?.function, line),
    function_offset: symbol && hex(BigInt(frame.offset - symbol.functionOffset), dump.cpu),
    file: orNull(symbol?.file, name),
    line: symbol?.line ?? null,
    inlines: symbol && symbol.inlines.length > 0 ? reportInlines(symbol.inlines) : null,
    missing_symbols: symbol === null,
    approximate: symbol?.approximate ?? false,
    ...(unloaded.length > 0 ? { unloaded_modules: unloaded } : {}),
    ...(frame.repeats > 1 ? { repeats: frame.repeats } : {}),
  }
}

type Inlines = NonNullable<ReportFrame['inlines']>
const reportInlines = (inlines: Inlines): Inlines =>
  inlines.slice(0, REPORT_LIMITS.inlines).map((inline) => ({ function: line(inline.function), file: orNull(inline.file, name), line: inline.line }))

/** A module may have been unloaded and loaded again many times. */
function unloadedAt({ unloadedModules, cpu }: Dump, address: bigint): { module: string; offsets: string[] }[] {
  const found = new Map<string, Set<string>>()
  for (const { base, size, name: path } of unloadedModules) {
    if (address < base || address - base >= BigInt(size)) continue
    const module = name(baseName(path))
    const offsets = found.get(module) ?? new Set()
    if (found.size < 64 && offsets.size < 64) found.set(module, offsets.add(hex(address - base, cpu)))
  }
  return [...found].map(([module, offsets]) => ({ module, offsets: [...offsets].toSorted() }))
}

/** Text formats list an inlined call as a frame of its own, before the frame that it was inlined into. */
function textFrames(given: readonly TextFrame[], cpu: Cpu): ReportFrame[] {
  const frames: ReportFrame[] = []
  let inlines: Inlines = []
  for (const [index, frame] of given.entries()) {
    if (frame.inline && frame.function !== null && index + 1 < given.length) {
      inlines.push({ function: frame.function, file: frame.file, line: frame.line })
      continue
    }
    frames.push({
      frame: frames.length,
      trust: 'given',
      module: frame.module && name(baseName(frame.module)),
      module_offset: frame.moduleOffset === null ? null : hex(BigInt(frame.moduleOffset), cpu),
      offset: hex(frame.address ?? 0n, cpu),
      function: orNull(frame.function, line),
      function_offset: null,
      file: orNull(frame.file, name),
      line: frame.line,
      inlines: inlines.length > 0 ? reportInlines(inlines) : null,
      missing_symbols: frame.function === null,
      approximate: false,
    })
    inlines = []
  }
  return frames.slice(0, REPORT_LIMITS.frames)
}

function withRegisters(thread: ReportThread, { registers }: DumpThread, cpu: Cpu): ReportThread {
  const [first, ...rest] = thread.frames
  if (!first || !registers) return thread
  const printed = Object.fromEntries([...registers].map(([register, value]) => [register, hex(value, cpu)]))
  return { ...thread, frames: [{ ...first, registers: printed }, ...rest] }
}

function reportModule(module: Module, cpu: Cpu, symbols: { status: SymbolStatus; reason: string | null } | undefined): ReportModule {
  return {
    base_addr: hex(module.base, cpu),
    end_addr: hex(endOf(module), cpu),
    filename: name(baseName(module.name)),
    code_id: orNull(module.codeId, name),
    debug_file: orNull(module.debugFile, (path) => name(baseName(path))),
    debug_id: orNull(module.debugId, name),
    version: orNull(module.version, name),
    ...(module.elfSha256 == null ? {} : { elf_sha256: name(module.elfSha256) }),
    symbol_status: symbols?.status ?? 'not-asked',
    symbol_reason: orNull(symbols?.reason, line),
  }
}

const unloadedModule = (module: Module, cpu: Cpu): NonNullable<Report['unloaded_modules']>[number] =>
  ({ base_addr: hex(module.base, cpu), end_addr: hex(endOf(module), cpu), code_id: orNull(module.codeId, name), filename: name(baseName(module.name)) })

function macCrashInfo(given: readonly MacCrashRecord[], notes: Note[]): NonNullable<Report['mac_crash_info']> {
  const records = within(ROOM.macCrashInfo, 'macOS crash records', notes, given.slice(0, REPORT_LIMITS.macRecords), (record) => ({
    thread: hex(record.thread, 'x86-64'), dialog_mode: hex(record.dialogMode, 'x86-64'), abort_cause: hex(record.abortCause, 'x86-64'),
    module: line(record.module), message: line(record.message), signature_string: line(record.signature_string), backtrace: line(record.backtrace), message2: line(record.message2),
  }))
  return { num_records: records.length, records }
}

/** As many of `list` as there is room for. */
function within<T, R extends object>(room: number, what: string, notes: Note[], list: readonly T[], map: (item: T, index: number) => R): R[] {
  const kept: R[] = []
  for (const [index, item] of list.entries()) {
    const mapped = map(item, index)
    room -= recordSize(mapped)
    if (room < 0) break
    kept.push(mapped)
  }
  if (kept.length < list.length) notes.push({ slug: 'report-shortened', text: `report: ${list.length - kept.length} of ${list.length} ${what} were left out, because all together are too large` })
  return kept
}

/** Bytes in JSON, from above: names of fields and addresses are as good as constant, texts are what a dump can make large. */
const frameSize = ({ module, function: called, file, inlines, registers, unloaded_modules: unloaded }: ReportFrame): number =>
  400 + textSize(module) + textSize(called) + textSize(file) + (unloaded ?? []).reduce((sum, { module: once, offsets }) => sum + 48 + textSize(once) + 24 * offsets.length, 0) + (inlines ?? []).reduce((sum, inline) => sum + 48 + textSize(inline.function) + textSize(inline.file), 0) + (registers === undefined ? 0 : 2048)

const recordSize = (record: object): number => Object.values(record).reduce<number>((sum, value) => sum + 24 + (typeof value === 'string' ? textSize(value) : 8), 32)

const PLAIN = /^[ !#-[\]-~]*$/
/** A control character or half a surrogate pair takes six bytes. */
const textSize = (text: string | null): number => (text === null ? 4 : PLAIN.test(text) ? text.length : text.length * 6)

const ADDRESSES = 1n << 64n
/** One past the last address; a module that claims more ends at the top. */
const endOf = ({ base, size }: Module): bigint => (base + BigInt(size) >= ADDRESSES ? ADDRESSES - 1n : base + BigInt(size))

const NARROW: ReadonlySet<Cpu> = new Set(['x86', 'arm', 'riscv32', 'xtensa', 'mips'])
const hex = (value: bigint, cpu: Cpu): string => `0x${BigInt.asUintN(64, value).toString(16).padStart(NARROW.has(cpu) ? 8 : 16, '0')}`

const name = (text: string): string => text.slice(0, REPORT_LIMITS.name)
const line = (text: string): string => text.slice(0, REPORT_LIMITS.line)
const orNull = (text: string | null | undefined, cut: (text: string) => string): string | null => (text == null ? null : cut(text))
const orAbsent = (text: string | null | undefined, cut: (text: string) => string): string | undefined => (text == null ? undefined : cut(text))

/** `/usr/bin/x`, `C:\Windows\x.dll`: the last part, as the peers list it. */
const baseName = (path: string): string => path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1)
