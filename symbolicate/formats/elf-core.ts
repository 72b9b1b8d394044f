/**
 * A Linux ELF core (core(5); the notes as the kernel's fs/binfmt_elf.c writes them) to Dump.
 *
 *   PT_NOTE  NT_PRSTATUS for each thread, the one that crashed first; NT_PRPSINFO; NT_SIGINFO; NT_AUXV; NT_FILE
 *   PT_LOAD  memory; what the file holds of it may be less than what the process had, and the rest is not known
 *
 * Half a core is a result: disks fill up and watchdogs cut while it is written. Only one without any thread is refused.
 */
import { InputError, type Reader } from '../reader.ts'
import type { Cpu, Dump, DumpThread, Exception, MemoryRegion, Module, Note } from './dump.ts'
import { AT, type Auxv, findModules, type MappedFile, readFileMap, stringAt } from './elf-core-modules.ts'
import { type PrStatus, readPrStatus } from './elf-core-registers.ts'
import { cpuOf, ELF, type ElfFile, type ElfNote, type ElfSegment, readElf, readNotes, text } from './elf-file.ts'
import { createMemory, type MemoryPiece } from './memory.ts'
import { MINIDUMP_BUDGET, type MinidumpBudget, type ParseFailure } from './minidump.ts'
import { arrangeModules } from './minidump-modules.ts'
import { crashReason } from './minidump-reason.ts'

const NT = { prstatus: 1, prpsinfo: 3, auxv: 6, siginfo: 0x53494749, file: 0x46494c45 } as const
const STACK_REGISTERS = ['rsp', 'esp', 'sp']
const PROGRAM_COUNTERS = ['rip', 'eip', 'pc']

interface State { elf: ElfFile; cpu: Cpu; budget: MinidumpBudget; notes: Note[] }

export function parseElfCore(bytes: Uint8Array, budget: MinidumpBudget = MINIDUMP_BUDGET): { dump: Dump } | ParseFailure {
  if (bytes.length > budget.bytes) return { slug: 'budget-exceeded', reason: `elf-core: ${bytes.length} bytes, at most ${budget.bytes} are read` }
  try {
    const elf = readElf(bytes, budget.ranges)
    if (elf.type !== ELF.core) throw new InputError('dump-malformed', `an ELF file of type ${elf.type}: a program or library, no core`)
    const state: State = { elf, cpu: cpuOf(elf.machine, elf.width), budget, notes: [] }
    if (elf.segments.length < elf.claimed) addNote(state, 'list-shortened', `${elf.claimed} segments claimed, ${elf.segments.length} read`)
    const dump = readCore(state)
    if (dump.threads.length > 0) return { dump }
    const truncated = state.notes.find(({ slug }) => slug === 'stream-truncated' || slug === 'list-shortened')
    return { slug: truncated ? 'dump-truncated' : 'dump-malformed', reason: (truncated ?? state.notes[0])?.text ?? 'elf-core: no thread' }
  } catch (error) {
    if (error instanceof InputError) return { slug: error.slug, reason: `elf-core: ${error.message}` }
    throw error
  }
}

function readCore(state: State): Dump {
  const { elf, cpu, budget, notes } = state
  const memory = createMemory(readMemory(state), elf.file.littleEndian)
  const found = elf.segments.filter(({ type }) => type === ELF.note).flatMap((segment) => notesOf(state, segment))
  const statuses = found.filter(isCore(NT.prstatus)).slice(0, budget.threads).flatMap(({ content }) => attempt(state, 'registers-missing', () => readPrStatus(content, cpu, elf.width)) ?? [])
  const process = first(state, found, NT.prpsinfo, readProcess)
  const auxv = first(state, found, NT.auxv, (note) => readAuxv(note, elf.width)) ?? new Map<number, bigint>()
  const files = first(state, found, NT.file, (note) => readFileMap(note, elf.width, budget.modules)) ?? []
  const program = stringAt(memory, auxv.get(AT.execfn)) ?? process?.name ?? 'program'
  const { modules } = arrangeModules(findModules({ files, segments: elf.segments, auxv, memory, program }, budget.modules), notes)
  const regions = regionsOf(elf.segments, files)
  const threads = statuses.map((status): DumpThread => ({ id: status.id, name: null, registers: status.registers, stack: stackOf(elf.segments, status), frames: null }))
  return {
    format: 'elf-core',
    os: 'linux',
    osVersion: null,
    cpu,
    exception: exceptionOf(state, found, statuses[0]),
    crashingThread: threads.length > 0 ? 0 : null,
    threads,
    modules,
    mainModule: mainOf(modules, auxv),
    unloadedModules: [],
    memory,
    regions,
    annotations: {},
    abortMessage: null,
    pid: process?.pid ?? null,
    createdAt: null,
    notes,
  }
}

/** A core that lies everywhere is no more interesting than one that lies often. */
const MOST_NOTES = 64

function addNote({ notes }: Pick<State, 'notes'>, slug: string, reason: string): void {
  if (notes.length < MOST_NOTES) notes.push({ slug, text: `elf-core: ${reason}` })
}

function attempt<T>(state: State, slug: string | null, read: () => T): T | null {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    addNote(state, slug ?? (error.slug === 'dump-truncated' ? 'stream-truncated' : 'stream-malformed'), error.message)
    return null
  }
}

function readMemory(state: State): MemoryPiece[] {
  const { file, segments } = state.elf
  const pieces: MemoryPiece[] = []
  let missing = 0
  for (const { type, offset, address, fileSize } of segments) {
    if (type !== ELF.load || fileSize === 0) continue
    const held = Math.max(0, Math.min(fileSize, file.length - offset))
    missing += fileSize - held
    if (held > 0) pieces.push({ base: address, bytes: file.slice(offset, held, 'memory') })
  }
  if (missing > 0) addNote(state, 'memory-truncated', `the file ends ${missing} bytes before its last segment does`)
  return pieces
}

function notesOf(state: State, { offset, fileSize }: ElfSegment): ElfNote[] {
  const { file } = state.elf
  const held = Math.max(0, Math.min(fileSize, file.length - offset))
  const { notes, broken } = held > 0 ? readNotes(file.part(offset, held, 'notes'), 4 * state.budget.threads) : { notes: [], broken: null }
  if (held < fileSize || broken !== null) addNote(state, 'stream-truncated', `notes: ${broken ?? `${fileSize - held} bytes missing`}`)
  return notes
}

const isCore = (type: number) => (note: ElfNote): boolean => note.type === type && note.name === 'CORE'

function first<T>(state: State, found: readonly ElfNote[], type: number, read: (content: Reader) => T): T | null {
  const note = found.find(isCore(type))
  return note ? attempt(state, null, () => read(note.content.seek(0))) : null
}

/** Name and arguments stand at the end, whatever this CPU's ids before them measure. The arguments stay: people type secrets there. */
function readProcess(note: Reader): { pid: number; name: string } {
  const name = note.length - 96
  const pid = note.seek(name - 16).u32()
  return { pid, name: text(note.slice(name, 16, 'name')) }
}

function readAuxv(note: Reader, width: 4 | 8): Auxv {
  const auxv = new Map<number, bigint>()
  const word = (): bigint => (width === 8 ? note.u64() : BigInt(note.u32()))
  for (let count = note.count(256, 2 * width, 256); count > 0; count--) {
    const [type, value] = [Number(word()), word()]
    if (type === 0) break
    auxv.set(type, value)
  }
  return auxv
}

/** siginfo_t: signal, errno, code (i32 each), on 64 bit 4 bytes of padding, then what the signal brings. */
function exceptionOf(state: State, found: readonly ElfNote[], crashed: PrStatus | undefined): Exception | null {
  const { cpu, elf } = state
  const info = first(state, found, NT.siginfo, (note) => {
    const [code, flags] = [note.u32(), note.skip(4).i32()]
    note.skip(elf.width === 8 ? 4 : 0)
    return { code, flags, address: elf.width === 8 ? note.u64() : BigInt(note.u32()) }
  })
  const signal = info ?? (crashed && crashed.signal > 0 ? { code: crashed.signal, flags: 0, address: null } : null)
  if (signal === null) return null
  const reason = crashReason({ code: signal.code, flags: signal.flags, address: signal.address ?? 0n, parameters: [] }, 'linux', cpu)
  // Signals that a process sent, and those that no access caused, carry a process id in the address's place.
  const address = signal.address !== null && signal.flags > 0 && ADDRESS_SIGNALS.has(signal.code) ? reason.address : null
  const pc = PROGRAM_COUNTERS.map((name) => crashed?.registers.get(name)).find((value) => value !== undefined)
  const fetch = address !== null && address === pc && (signal.code === 7 || signal.code === 11)
  return { ...reason, code: signal.code, address, access: fetch ? 'execute' : reason.access }
}

/** SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV. */
const ADDRESS_SIGNALS: ReadonlySet<number> = new Set([4, 5, 7, 8, 11])

function stackOf(segments: readonly ElfSegment[], { registers }: PrStatus): DumpThread['stack'] {
  const sp = STACK_REGISTERS.map((name) => registers.get(name)).find((value) => value !== undefined)
  if (sp === undefined) return null
  const held = segments.find(({ type, address, fileSize }) => type === ELF.load && sp >= address && sp < address + BigInt(fileSize))
  return held ? { base: held.address, size: held.fileSize } : null
}

function regionsOf(segments: readonly ElfSegment[], files: readonly MappedFile[]): MemoryRegion[] {
  const names = new Map(files.map(({ start, path }) => [start, path]))
  return segments.filter(({ type, memorySize }) => type === ELF.load && memorySize > 0n).map(({ address, memorySize, flags }) => ({
    base: address, size: memorySize, name: names.get(address) ?? null,
    read: (flags & ELF.readable) !== 0, write: (flags & ELF.writable) !== 0, execute: (flags & ELF.executable) !== 0,
  })).sort((a, b) => (a.base < b.base ? -1 : a.base > b.base ? 1 : 0))
}

function mainOf(modules: readonly Module[], auxv: Auxv): number | null {
  const entry = auxv.get(AT.entry) ?? auxv.get(AT.phdr)
  const index = entry === undefined ? -1 : modules.findIndex(({ base, size }) => entry >= base && entry < base + BigInt(size))
  return index >= 0 ? index : modules.length > 0 ? 0 : null
}
