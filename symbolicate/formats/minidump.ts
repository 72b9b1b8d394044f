/**
 * Minidump (Microsoft's minidumpapiset.h; Breakpad's and Crashpad's extensions) to Dump.
 *
 *   header (32): 'MDMP', version u32, stream count u32, directory rva u32, checksum u32, time stamp u32, flags u64
 *   directory:   {type u32, size u32, rva u32} per stream; rva is an offset in the file
 *   lists:       count u32, perhaps 4 bytes of padding, entries
 *
 * Half a dump is a result: each stream is read on its own, and one that is cut off or lies leaves a note and what was
 * read before. Only a file without any thread and without an exception is refused. Where a stream type occurs twice the
 * first counts. Byte order follows the signature (a big-endian writer leaves 'PMDM').
 */
import { InputError, Reader } from '../reader.ts'
import type { Cpu, Dump, DumpFacts, DumpThread, Exception, MemoryRegion, Module, Note, Os } from './dump.ts'
import { createMemory, type MemoryPiece } from './memory.ts'
import { readContext } from './minidump-context.ts'
import { readCrashpadAnnotations } from './minidump-crashpad.ts'
import { cpuInfo, distribution, type Location, microcode, readAssertion, readBootArguments, readBreakpad, readMacCrashInfo, readMisc } from './minidump-facts.ts'
import { arrangeModules, MODULE_SIZE, readModule, readUnloadedModule, UNLOADED_SIZE } from './minidump-modules.ts'
import { crashReason } from './minidump-reason.ts'
import { linuxMaps, linuxPid, utf16String } from './minidump-text.ts'

export type ParseFailure = { slug: 'dump-empty' | 'dump-truncated' | 'dump-malformed' | 'budget-exceeded'; reason: string }

/** How much of a dump is looked at; a real one stays far below. */
export interface MinidumpBudget { bytes: number; streams: number; threads: number; modules: number; ranges: number }
export const MINIDUMP_BUDGET: MinidumpBudget = { bytes: 512 * 1024 * 1024, streams: 256, threads: 4096, modules: 8192, ranges: 262_144 }

/** Notes with these slugs mean that something is missing: the analysis is `partial`. */
export const INCOMPLETE = new Set(['stream-truncated', 'stream-malformed', 'memory-truncated', 'registers-missing', 'list-shortened'])

const STREAM = {
  threads: 3, modules: 4, memory: 5, exception: 6, system: 7, memory64: 9, unloaded: 14, misc: 15, memoryInfo: 16, threadNames: 24,
  breakpad: 0x47670001, assertion: 0x47670002, cpuInfo: 0x47670003, procStatus: 0x47670004, lsbRelease: 0x47670005, maps: 0x47670009, crashpad: 0x43500001,
  macCrashInfo: 0x4d7a0001, bootArguments: 0x4d7a0002,
} as const
type StreamName = keyof typeof STREAM
const NAMES = new Map<number, StreamName>(Object.entries(STREAM).map(([name, type]) => [type, name as StreamName]))

interface State {
  file: Reader
  budget: MinidumpBudget
  streams: Map<StreamName, Location>
  notes: Note[]
  pieces: MemoryPiece[]
}

export function parseMinidump(bytes: Uint8Array, budget: MinidumpBudget = MINIDUMP_BUDGET): { dump: Dump } | ParseFailure {
  if (bytes.length === 0) return { slug: 'dump-empty', reason: 'minidump: no bytes' }
  if (bytes.length > budget.bytes) return { slug: 'budget-exceeded', reason: `minidump: ${bytes.length} bytes, at most ${budget.bytes} are read` }
  try {
    const state = openDirectory(bytes, budget)
    const dump = readDump(state)
    if (dump.threads.length > 0 || dump.exception) return { dump }
    const truncated = state.notes.find((note) => note.slug === 'stream-truncated')
    return truncated ? { slug: 'dump-truncated', reason: truncated.text } : { slug: 'dump-malformed', reason: 'minidump: neither a thread nor an exception' }
  } catch (error) {
    if (error instanceof InputError) return { slug: error.slug, reason: `minidump: ${error.message}` }
    throw error
  }
}

function openDirectory(bytes: Uint8Array, budget: MinidumpBudget): State {
  if (bytes.length < 32) throw new InputError('dump-truncated', `header: ${bytes.length} of 32 bytes`)
  const signature = String.fromCharCode(...bytes.subarray(0, 4))
  if (signature !== 'MDMP' && signature !== 'PMDM') throw new InputError('dump-malformed', 'signature is not MDMP')
  const file = new Reader(bytes, signature === 'MDMP')
  const state: State = { file, budget, streams: new Map(), notes: [], pieces: [] }
  const claimed = file.seek(8).u32()
  const directory = file.u32()
  file.seek(directory)
  const count = file.count(claimed, 12, budget.streams)
  if (count < claimed) addNote(state, directory + claimed * 12 > bytes.length ? 'stream-truncated' : 'list-shortened', `${claimed} streams claimed, ${count} read`)
  for (let index = 0; index < count; index++) {
    const name = NAMES.get(file.u32())
    const size = file.u32()
    const rva = file.u32()
    if (name === undefined) continue
    if (state.streams.has(name)) addNote(state, 'stream-repeated', `a second ${name} stream at ${rva} was left out`)
    else state.streams.set(name, { size, rva })
  }
  return state
}

function readDump(state: State): Dump {
  const { file, notes } = state
  const time = file.seek(20).u32()
  const { cpuInfo: cpuText = null, cpuCount = null, ...system } = attempt(state, 'system', readSystem) ?? { os: 'unknown' as const, osVersion: null, cpu: 'unknown' as const }
  attempt(state, 'memory', readMemoryList)
  attempt(state, 'memory64', readMemory64)
  const names = attempt(state, 'threadNames', readThreadNames) ?? new Map<number, string>()
  const threads = readThreads(state, system.cpu, names)
  const listed = readModules(state, system.os)
  const { modules, order } = arrangeModules(listed, notes)
  const crash = attempt(state, 'exception', (inner, at) => readException(inner, at, system.os, system.cpu))
  const misc = attempt(state, 'misc', ({ file: inner }) => readMisc(inner))
  const breakpad = attempt(state, 'breakpad', ({ file: inner }) => readBreakpad(inner))
  const bytesOf = (name: StreamName): Uint8Array | null => attempt(state, name, ({ file: inner }, { rva, size }) => inner.slice(rva, size, name))
  const [cpuFile, releaseFile, mapsFile, statusFile] = [bytesOf('cpuInfo'), bytesOf('lsbRelease'), bytesOf('maps'), bytesOf('procStatus')]
  const macCrashInfo = attempt(state, 'macCrashInfo', ({ file: inner }, at) => readMacCrashInfo(inner, at)) ?? []
  const crashingThread = findThread(threads, crash ? crash.threadId : (breakpad?.requester ?? null))
  if (crash?.registers && crashingThread !== null) threads[crashingThread]!.registers = crash.registers
  const exception = crash && sharpen(crash.exception, crashingThread === null ? null : threads[crashingThread]!.registers)
  const mapped = mapsFile && linuxMaps(mapsFile)
  const regions = mapped ?? attempt(state, 'memoryInfo', readMemoryInfo) ?? []
  const facts: DumpFacts = {
    cpuInfo: cpuText, cpuCount, cpuMicrocode: cpuFile && microcode(cpuFile), memoryMapCount: mapped && mapped.length,
    uptime: misc?.startedAt == null || time < misc.startedAt ? null : time - misc.startedAt,
    distribution: releaseFile && distribution(releaseFile), macCrashInfo,
    macBootArguments: attempt(state, 'bootArguments', ({ file: inner }) => readBootArguments(inner)),
  }
  return {
    format: 'minidump',
    ...system,
    exception,
    crashingThread,
    // Breakpad's own thread that wrote the dump is not part of the story.
    threads: breakpad?.writer == null ? threads : threads.map((thread) => (thread.id === breakpad.writer && thread.id !== crash?.threadId ? { ...thread, registers: null } : thread)),
    modules,
    mainModule: order.length > 0 && order[0]! >= 0 ? order[0]! : null,
    unloadedModules: attempt(state, 'unloaded', readUnloaded) ?? [],
    memory: createMemory(state.pieces, file.littleEndian),
    regions: regions.sort((a, b) => (a.base < b.base ? -1 : a.base > b.base ? 1 : 0)),
    annotations: Object.fromEntries(attempt(state, 'crashpad', ({ file: inner }, { rva, size }) => readCrashpadAnnotations(inner, rva, size)) ?? []),
    abortMessage: attempt(state, 'assertion', ({ file: inner }, at) => readAssertion(inner, at)) ?? (macCrashInfo.find(({ message }) => message !== '')?.message.trim() || null),
    pid: misc?.pid ?? (statusFile && linuxPid(statusFile)),
    createdAt: time === 0 ? null : time,
    facts,
    notes,
  }
}

/** Reads one stream; a stream that is absent, cut off or lying is null, the latter two with a note. */
function attempt<T>(state: State, name: StreamName, read: (state: State, at: Location) => T): T | null {
  const at = state.streams.get(name)
  if (!at) return null
  try {
    state.file.seek(at.rva)
    return read(state, at)
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    noteError(state, error, name)
    return null
  }
}

function noteError(state: State, error: InputError, name: string): void {
  addNote(state, error.slug === 'dump-truncated' ? 'stream-truncated' : 'stream-malformed', `${name}: ${error.message}`)
}

/** A dump that lies everywhere is no more interesting than one that lies often. */
const MOST_NOTES = 64

function addNote(state: State, slug: string, text: string): void {
  if (state.notes.length < MOST_NOTES) state.notes.push({ slug, text: `minidump: ${text}` })
}

/** Calls `read` with the offset of each entry of a list; a broken entry ends the list. */
function readList(state: State, name: StreamName, entrySize: number, most: number, read: (at: number) => void): void {
  attempt(state, name, ({ file }, { rva, size }) => {
    const claimed = file.u32()
    // Some writers align the first entry to 8 bytes.
    const first = size === claimed * entrySize + 8 ? rva + 8 : rva + 4
    const count = file.seek(first).count(claimed, entrySize, most)
    if (count < claimed) addNote(state, count === most ? 'list-shortened' : 'stream-truncated', `${name}: ${claimed} entries claimed, ${count} read`)
    for (let index = 0; index < count; index++) read(first + index * entrySize)
  })
}

const CPUS: Record<number, Cpu> = { 0: 'x86', 1: 'mips', 5: 'arm', 9: 'x86-64', 12: 'arm64', 0x8003: 'arm64', 0x8004: 'mips64', 0x8005: 'riscv32', 0x8006: 'riscv64' }
const SYSTEMS: Record<number, Os> = { 0: 'windows', 1: 'windows', 2: 'windows', 3: 'windows', 0x8101: 'macos', 0x8102: 'ios', 0x8201: 'linux', 0x8203: 'android' }

function readSystem({ file }: State, { rva }: Location): { os: Os; osVersion: string | null; cpu: Cpu; cpuInfo: string | null; cpuCount: number } {
  file.need(rva, 56, 'system info')
  const cpu = CPUS[file.u16()] ?? 'unknown'
  const version = [file.seek(rva + 8).u32(), file.u32(), file.u32()]
  const os = SYSTEMS[file.u32()] ?? 'unknown'
  const servicePack = utf16String(file, file.u32()) ?? ''
  const processor = cpuInfo(file, rva, cpu)
  // Linux clients leave the numbers 0 and write uname there: `Linux 6.1.0 #1 SMP ...`.
  if (version.every((part) => part === 0)) return { os, cpu, ...processor, osVersion: servicePack.replace(/^Linux /, '').replace(/ (?:x86_64|aarch64|armv\w+|i.86)(?: GNU\/Linux)?$/, '') || null }
  return { os, cpu, ...processor, osVersion: `${version.join('.')} ${servicePack}`.trim() }
}

/** MINIDUMP_THREAD (48): id u32, suspend, class, priority u32, teb u64, stack {base u64, size u32, rva u32}, context {size u32, rva u32}. */
function readThreads(state: State, cpu: Cpu, names: Map<number, string>): DumpThread[] {
  const { file } = state
  const threads: DumpThread[] = []
  readList(state, 'threads', 48, state.budget.threads, (at) => {
    const id = file.seek(at).u32()
    const base = file.seek(at + 24).u64()
    const size = file.u32()
    const rva = file.u32()
    const contextSize = file.u32()
    const contextRva = file.u32()
    const stack = addMemory(state, base, size, rva)
    threads.push({ id, name: names.get(id) ?? null, registers: contextAt(state, contextRva, contextSize, cpu, `thread ${id}`), stack, frames: null })
  })
  return threads
}

function contextAt(state: State, rva: number, size: number, cpu: Cpu, whose: string): Map<string, bigint> | null {
  if (size === 0) return null
  try {
    return readContext(state.file.part(rva, size, 'registers'), cpu)
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    addNote(state, 'registers-missing', `${whose}: ${error.message}`)
    return null
  }
}

/** Keeps the part that the file really holds. */
function addMemory(state: State, base: bigint, size: number, rva: number): { base: bigint; size: number } | null {
  const held = Math.max(0, Math.min(size, state.file.length - rva))
  if (held < size) addNote(state, 'memory-truncated', `memory 0x${base.toString(16)}+${size} ends past the file (${size - held} bytes missing)`)
  if (held === 0) return null
  state.pieces.push({ base, bytes: state.file.slice(rva, held, 'memory') })
  return { base, size: held }
}

/** MINIDUMP_THREAD_NAME: thread id u32, name rva u64. */
function readThreadNames({ file, budget }: State, { rva }: Location): Map<number, string> {
  const names = new Map<number, string>()
  const claimed = file.u32()
  const count = file.count(claimed, 12, budget.threads)
  for (let index = 0; index < count; index++) {
    const id = file.seek(rva + 4 + index * 12).u32()
    const name = utf16String(file, file.size64('thread name'))
    if (name !== null) names.set(id, name)
  }
  return names
}

function readModules(state: State, os: Os): Module[] {
  const modules: Module[] = []
  readList(state, 'modules', MODULE_SIZE, state.budget.modules, (at) => {
    try {
      modules.push(readModule(state.file, at, os))
    } catch (error) {
      if (!(error instanceof InputError)) throw error
      noteError(state, error, `module ${modules.length}`)
      // Keeps the file's numbering; arrangeModules drops what is empty.
      modules.push({ base: 0n, size: 0, name: '', codeId: null, debugId: null, debugFile: null, version: null })
    }
  })
  return modules
}

/** Header: size of header u32, of an entry u32, count u32. */
function readUnloaded({ file, budget }: State, { rva }: Location): Module[] {
  const header = file.u32()
  const entry = file.u32()
  const claimed = file.u32()
  if (entry < UNLOADED_SIZE) throw new InputError('dump-malformed', `unloaded modules of ${entry} bytes`)
  const count = file.seek(rva + header).count(claimed, entry, budget.modules)
  return Array.from({ length: count }, (_, index) => readUnloadedModule(file, rva + header + index * entry))
}

/** MINIDUMP_MEMORY_DESCRIPTOR: base u64, size u32, rva u32. */
function readMemoryList(state: State): void {
  readList(state, 'memory', 16, state.budget.ranges, (at) => {
    const base = state.file.seek(at).u64()
    const size = state.file.u32()
    addMemory(state, base, size, state.file.u32())
  })
}

/** Count u64, rva of the first byte u64, then {base u64, size u64}; the bytes lie one behind the other. */
function readMemory64(state: State): void {
  const { file, budget } = state
  const claimed = file.size64('memory64 count')
  let rva = file.size64('memory64 rva')
  const first = file.at
  const count = file.count(claimed, 16, budget.ranges)
  for (let index = 0; index < count && rva < file.length; index++) {
    const base = file.seek(first + index * 16).u64()
    const size = file.size64('memory64 size')
    addMemory(state, base, size, rva)
    rva += size
  }
}

/** Header: size of header u32, of an entry u32, count u64. Entry: base u64, allocation u64 and u32, pad, size u64, state u32, protection u32. */
function readMemoryInfo({ file, budget }: State, { rva }: Location): MemoryRegion[] {
  const header = file.u32()
  const entry = file.u32()
  const claimed = file.size64('memory info count')
  if (entry < 40) throw new InputError('dump-malformed', `memory info entries of ${entry} bytes`)
  const count = file.seek(rva + header).count(claimed, entry, budget.ranges)
  const regions: MemoryRegion[] = []
  for (let index = 0; index < count; index++) {
    const base = file.seek(rva + header + index * entry).u64()
    const size = file.skip(16).u64()
    const committed = file.u32() === 0x1000
    const protection = file.u32() & 0xff
    if (!committed || size === 0n) continue
    regions.push({ base, size, read: (protection & 0xee) !== 0, write: (protection & 0xcc) !== 0, execute: (protection & 0xf0) !== 0, name: null })
  }
  return regions
}

/** Thread id u32, pad, then code u32, flags u32, nested record u64, address u64, parameter count u32, pad, 15 x u64, context {size, rva}. */
function readException(state: State, { rva }: Location, os: Os, cpu: Cpu): { threadId: number; exception: Exception; registers: Map<string, bigint> | null } {
  const { file } = state
  file.need(rva, 168, 'exception')
  const threadId = file.u32()
  const code = file.skip(4).u32()
  const flags = file.u32()
  const address = file.skip(8).u64()
  const count = Math.min(file.u32(), 15)
  file.skip(4)
  const parameters = Array.from({ length: count }, () => file.u64())
  const contextSize = file.seek(rva + 160).u32()
  const contextRva = file.u32()
  const registers = contextAt(state, contextRva, contextSize, cpu, 'exception')
  const reason = crashReason({ code, flags, address, parameters }, os, cpu)
  return { threadId, registers, exception: { code, ...reason } }
}

/** POSIX signals don't say read or write; but a fault at the program counter itself was the fetch of an instruction. */
function sharpen(exception: Exception, registers: Map<string, bigint> | null): Exception {
  const pc = registers?.get('rip') ?? registers?.get('eip') ?? registers?.get('pc')
  const fetch = exception.access === 'unknown' && exception.address !== null && exception.address === pc && /^(?:SIGSEGV|SIGBUS|EXC_BAD_ACCESS)\b/.test(exception.type)
  return fetch ? { ...exception, access: 'execute' } : exception
}

function findThread(threads: DumpThread[], id: number | null): number | null {
  const index = id === null ? -1 : threads.findIndex((thread) => thread.id === id)
  return index < 0 ? null : index
}
