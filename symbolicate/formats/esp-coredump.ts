/**
 * ESP-IDF's coredump (components/espcoredump, esp_core_dump_priv.h) to Dump: as it lies in flash, as base64 lines of the UART,
 * or the ELF core alone. Integers are little-endian.
 *
 *   image  = length u32, format u16, chip u16, tasks u32, size of a TCB u32, [segments u32, [chip revision u32]], data, checksum
 *   data   = an ELF core                                                              ; format 1.x
 *          | { TCB address, top of stack, end of stack, TCB, stack } each task,       ; format 0.x
 *            { address, size, bytes } each segment
 *   notes  = CORE (a task's registers; pid is its TCB) | ESP_CORE_DUMP_INFO (format, chip, ELF file's SHA-256 as hex, shortened)
 *          | ESP_EXTRA_INFO (TCB of the crashed task, then pairs of special register and value) | ESP_PANIC_DETAILS (text)
 *          | TASK_INFO / ESP_TASK_INFO (index, flags, TCB, stack, its length, name)
 *
 * Half a dump is a result; one without any task is refused.
 */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { InputError, Reader } from '../reader.ts'
import type { Dump, DumpThread, Exception, Note } from './dump.ts'
import { readRegisters, RISCV_REGISTERS } from './elf-core-registers.ts'
import { ELF, readElf, readNotes, text, type ElfNote } from './elf-file.ts'
import { chipOf, firmwareOf, stackAt } from './esp-chip.ts'
import { riscvException, xtensaException } from './mcu-cause.ts'
import { createMemory, type MemoryPiece } from './memory.ts'
import { MINIDUMP_BUDGET, type MinidumpBudget, type ParseFailure } from './minidump.ts'

/** Minor numbers of format 0 are binary; of format 1 an even minor ends in a CRC-32, an odd one in a SHA-256. */
const FORMATS: Readonly<Record<number, { header: 16 | 20 | 24; checksum: 'crc' | 'sha256'; elf: boolean }>> = {
  0x0001: { header: 16, checksum: 'crc', elf: false }, 0x0002: { header: 20, checksum: 'crc', elf: false }, 0x0003: { header: 24, checksum: 'crc', elf: false },
  0x0100: { header: 20, checksum: 'crc', elf: true }, 0x0101: { header: 20, checksum: 'sha256', elf: true },
  0x0102: { header: 24, checksum: 'crc', elf: true }, 0x0103: { header: 24, checksum: 'sha256', elf: true },
}
const CHECKSUM = { crc: 4, sha256: 32 }

type Chip = NonNullable<ReturnType<typeof chipOf>>
interface Task { tcb: number; registers: Map<string, bigint>; name: string | null }
interface Contents {
  /** As an ELF core says. */
  chip?: number | null
  tasks: Task[]
  pieces: MemoryPiece[]
  elfSha256: string | null
  crashed: number | null
  special: ReadonlyMap<number, number>
  details: string | null
}

/** Enough to know a coredump by: nothing else begins with its own length, a known format and a known chip. */
export function isEspImage(bytes: Uint8Array): boolean {
  if (bytes.length < 24) return false
  const view = new DataView(bytes.buffer, bytes.byteOffset, 24)
  return FORMATS[view.getUint16(4, true)] !== undefined && chipOf(view.getUint16(6, true)) !== null && view.getUint32(0, true) >= 24 && view.getUint32(8, true) < 4096
}

const BASE64_LINE = /^\s*([A-Za-z0-9+/]{4,}={0,2})\s*$/
const START = 'CORE DUMP START'
const END = 'CORE DUMP END'

/** The UART's lines, each of them base64 of its own; null when the text is no dump. */
export function fromBase64(log: string): Uint8Array | null {
  const start = log.lastIndexOf(START)
  const end = log.indexOf(END, Math.max(start, 0))
  const parts: Buffer[] = []
  for (const line of log.slice(start < 0 ? 0 : start, end < 0 ? undefined : end).split('\n')) {
    const [, encoded] = BASE64_LINE.exec(line) ?? []
    if (encoded !== undefined && encoded.length % 4 === 0) parts.push(Buffer.from(encoded, 'base64'))
    // Without marks the dump is the whole text: the first line that is none says that it isn't.
    else if (start < 0 && line.trim() !== '') return null
  }
  const image = Buffer.concat(parts)
  return isEspImage(image) ? image : null
}

export function parseEspCoredump(bytes: Uint8Array, budget: MinidumpBudget = MINIDUMP_BUDGET): { dump: Dump } | ParseFailure {
  if (bytes.length > budget.bytes) return { slug: 'budget-exceeded', reason: `esp-coredump: ${bytes.length} bytes, at most ${budget.bytes} are read` }
  const notes: Note[] = []
  try {
    const isElf = bytes[0] === 0x7f && bytes[1] === 0x45
    const image = isElf || isEspImage(bytes) ? bytes : fromBase64(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1'))
    if (image === null) throw new InputError('dump-malformed', 'neither an image, nor an ELF core, nor base64 lines of one')
    const { chip, contents } = isElf ? { chip: null, contents: readCore(image, budget, notes) } : readImage(image, budget, notes)
    if (contents.tasks.length > 0) return { dump: dumpOf(chip ?? chipOf(contents.chip ?? 0) ?? chipOf(0)!, contents, notes) }
    return { slug: notes.some(({ slug }) => slug === 'stream-truncated') ? 'dump-truncated' : 'dump-malformed', reason: notes[0]?.text ?? 'esp-coredump: no task' }
  } catch (error) {
    if (error instanceof InputError) return { slug: error.slug, reason: `esp-coredump: ${error.message}` }
    throw error
  }
}

const note = (notes: Note[], slug: string, reason: string): void => {
  if (notes.length < 64) notes.push({ slug, text: `esp-coredump: ${reason}` })
}

function readImage(bytes: Uint8Array, budget: MinidumpBudget, notes: Note[]): { chip: Chip; contents: Contents } {
  const file = new Reader(bytes)
  const length = file.u32()
  const format = FORMATS[file.u16()]
  const id = file.u16()
  const chip = chipOf(id)
  if (format === undefined || chip === null) throw new InputError('dump-malformed', `an unknown format or chip ${id}`)
  const [tasks, tcbSize] = [file.u32(), file.u32()]
  const segments = format.header > 16 ? file.u32() : 0
  const end = length - CHECKSUM[format.checksum]
  if (length > bytes.length) note(notes, 'stream-truncated', `${length} bytes claimed, ${bytes.length} there`)
  // The oldest format's checksum covers other bytes.
  else if (format.header > 16 && !isIntact(bytes, end, format.checksum)) note(notes, 'stream-malformed', 'the checksum is another one: flash or the line changed something')
  const held = Math.max(0, Math.min(end, bytes.length) - format.header)
  const data = file.slice(format.header, held, 'coredump')
  return { chip, contents: format.elf ? readCore(data, budget, notes) : readTasks(new Reader(data), { tasks, tcbSize, segments, chip }, budget, notes) }
}

function isIntact(bytes: Uint8Array, end: number, checksum: 'crc' | 'sha256'): boolean {
  if (end < 0) return false
  const covered = bytes.subarray(0, end)
  const stored = Buffer.from(bytes.buffer, bytes.byteOffset + end, CHECKSUM[checksum])
  return checksum === 'crc' ? crc32(covered) === stored.readUInt32LE(0) : createHash('sha256').update(covered).digest().equals(stored)
}

// ---- Format 1: an ELF core

const NT = { prstatus: 1, extra: 677, task: 678, details: 679, info: 8266 } as const
/** elf_gregset_t of Xtensa: pc, ps, loop registers, window registers, and at 64 the register file as seen from window 0. */
const XTENSA_STATUS = ['pc', 'ps', 'lbeg', 'lend', 'lcount', 'sar', ...Array.from({ length: 58 }, () => '-'), ...Array.from({ length: 16 }, (_, index) => `a${index}`)]
const REGISTERS_AT = 72

function readCore(bytes: Uint8Array, budget: MinidumpBudget, notes: Note[]): Contents {
  const { file, machine, segments, claimed } = readElf(bytes, budget.ranges)
  const layout = machine === 94 ? XTENSA_STATUS : machine === 243 ? RISCV_REGISTERS : null
  if (layout === null) throw new InputError('dump-malformed', `an ELF core of machine ${machine}`)
  if (segments.length < claimed) note(notes, 'list-shortened', `${claimed} segments claimed, ${segments.length} read`)
  const pieces: MemoryPiece[] = []
  const found: ElfNote[] = []
  for (const { type, offset, address, fileSize } of segments) {
    const held = Math.max(0, Math.min(fileSize, file.length - offset))
    if (held < fileSize) note(notes, type === ELF.load ? 'memory-truncated' : 'stream-truncated', `a segment of ${fileSize} bytes ends past the file (${fileSize - held} bytes missing)`)
    if (held === 0) continue
    if (type === ELF.load) pieces.push({ base: address, bytes: file.slice(offset, held, 'memory') })
    if (type !== ELF.note) continue
    const { notes: read, broken } = readNotes(file.part(offset, held, 'notes'), budget.threads)
    if (broken !== null) note(notes, 'stream-malformed', `notes: ${broken}`)
    found.push(...read)
  }
  const content = (type: number): Reader | null => found.find((candidate) => candidate.type === type && candidate.name.startsWith('ESP'))?.content ?? null
  const info = content(NT.info)
  const extra = content(NT.extra)
  const words = extra ? Array.from({ length: Math.min(Math.floor(extra.length / 4), 256) }, () => extra.u32()) : []
  const names = new Map(found.filter(({ type, content: task }) => type === NT.task && task.length >= 36).map(({ content: task }) => [task.seek(8).u32(), printable(task.slice(20, 16, 'task name'))]))
  return {
    tasks: found.filter(({ type, name }) => type === NT.prstatus && name === 'CORE').slice(0, budget.threads).map(({ content: status }) => {
      const tcb = status.seek(24).u32()
      return { tcb, registers: readRegisters(status.seek(REGISTERS_AT), layout, 4), name: names.get(tcb) ?? null }
    }),
    pieces,
    chip: info && info.length >= 4 ? info.seek(2).u16() : null,
    elfSha256: info && info.length > 4 ? digest(text(info.slice(4, Math.min(64, info.length - 4), 'SHA-256'))) : null,
    crashed: words[0] ?? null,
    special: new Map(pairs(words.slice(1))),
    details: (content(NT.details) && text(content(NT.details)!.bytes.subarray(0, 1024))) || null,
  }
}

/** Fewer digits than these name too many builds. */
const digest = (value: string): string | null => (/^[0-9a-f]{8,64}$/i.test(value) ? value.toLowerCase() : null)
const pairs = (words: readonly number[]): [number, number][] => Array.from({ length: words.length >> 1 }, (_, index) => [words[2 * index]!, words[2 * index + 1]!])

// ---- Format 0: tasks one behind the other

function readTasks(file: Reader, { tasks, tcbSize, segments, chip }: { tasks: number; tcbSize: number; segments: number; chip: Chip }, budget: MinidumpBudget, notes: Note[]): Contents {
  const contents: Contents = { tasks: [], pieces: [], elfSha256: null, crashed: null, special: new Map(), details: null }
  try {
    for (let index = 0; index < Math.min(tasks, budget.threads); index++) {
      const [tcb, top, end] = [file.u32(), file.u32(), file.u32()]
      contents.pieces.push({ base: BigInt(tcb), bytes: file.slice(file.at, tcbSize, 'TCB') })
      file.skip(tcbSize)
      const size = Math.abs(end - top)
      const stack = file.part(file.at, size, 'stack')
      file.skip(Math.ceil(size / 4) * 4)
      contents.pieces.push({ base: BigInt(Math.min(top, end)), bytes: stack.bytes })
      const { registers, special } = chip.cpu === 'xtensa' ? xtensaFrame(stack) : { registers: readRegisters(stack, RISCV_REGISTERS, 4), special: [] }
      contents.tasks.push({ tcb, registers, name: null })
      // The first one is the one that crashed.
      if (index === 0) Object.assign(contents, { crashed: tcb, special: new Map(special) })
    }
    for (let index = 0; index < Math.min(segments, budget.ranges); index++) {
      const [base, size] = [file.u32(), file.u32()]
      contents.pieces.push({ base: BigInt(base), bytes: file.slice(file.at, size, 'segment') })
      file.skip(size)
    }
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    note(notes, 'stream-truncated', `task ${contents.tasks.length}: ${error.message}`)
  }
  return contents
}

/** XtExcFrame: exit, pc, ps, a0 to a15, sar, exccause, excvaddr, lbeg, lend, lcount. A task that yielded has XtSolFrame: 0, pc, ps, next, a0 to a3. */
function xtensaFrame(stack: Reader): { registers: Map<string, bigint>; special: [number, number][] } {
  const saved = stack.u32() === 0
  if (saved) {
    const registers = readRegisters(stack, ['pc', 'ps', '-', 'a0', 'a1', 'a2', 'a3'], 4)
    // It is a return address, with the window increment in its top bits.
    registers.set('pc', (registers.get('pc')! & 0x3fff_ffffn) | 0x4000_0000n)
    return { registers, special: [] }
  }
  const registers = readRegisters(stack, ['pc', 'ps', ...Array.from({ length: 16 }, (_, index) => `a${index}`), 'sar'], 4)
  return { registers, special: [[EXCCAUSE, stack.u32()], [EXCVADDR, stack.u32()]] }
}

// ---- Both

/** Numbers of special registers: Xtensa's, and RISC-V's CSRs. */
const [EXCCAUSE, EXCVADDR, MCAUSE, MTVAL] = [232, 238, 0x342, 0x343]
/** epc1 to epc7, eps2 to eps7. */
const specialName = (number: number): string | null =>
  (number === EXCCAUSE ? 'exccause' : number === EXCVADDR ? 'excvaddr' : number === MCAUSE ? 'mcause' : number === MTVAL ? 'mtval'
    : number >= 177 && number <= 183 ? `epc${number - 176}` : number >= 194 && number <= 199 ? `eps${number - 192}` : null)

/** In a TCB of FreeRTOS as ESP-IDF builds it: behind the stack pointer, two list items of five words, priority and stack. */
const NAME_AT = 52n
const printable = (bytes: Uint8Array | null): string | null => {
  const name = bytes === null ? '' : text(bytes)
  return /^[\x20-\x7e]{1,16}$/.test(name) ? name : null
}

function dumpOf(chip: Chip, { tasks, pieces, elfSha256, crashed, special, details }: Contents, notes: Note[]): Dump {
  const memory = createMemory(pieces)
  const modules = firmwareOf(chip, elfSha256)
  const threads = tasks.map((task): DumpThread => ({
    id: task.tcb,
    name: task.name ?? printable(memory.bytes(BigInt(task.tcb) + NAME_AT, 16)),
    registers: task.registers,
    stack: stackAt(memory, task.registers.get(chip.cpu === 'xtensa' ? 'a1' : 'sp')),
    frames: null,
  }))
  const crashedAt = Math.max(0, tasks.findIndex(({ tcb }) => tcb === crashed))
  const shown = [...special].flatMap(([number, value]) => (specialName(number) === null || (value === 0 && number < EXCCAUSE) ? [] : [[specialName(number)!, `0x${value.toString(16).padStart(8, '0')}`]]))
  return {
    format: 'esp-coredump',
    os: 'esp-idf',
    osVersion: null,
    cpu: chip.cpu,
    exception: exceptionOf(chip, special, details),
    crashingThread: crashedAt,
    threads,
    modules,
    mainModule: modules.findIndex(({ name }) => name === 'firmware'),
    unloadedModules: [],
    memory,
    regions: [],
    annotations: { chip: chip.name, ...(elfSha256 === null ? {} : { elf_sha256: elfSha256 }), ...Object.fromEntries(shown) },
    abortMessage: details,
    pid: null,
    createdAt: null,
    notes,
  }
}

/** An abort stores to a null pointer on purpose: what the panic handler says goes before the cause. */
export function exceptionOf({ cpu }: Pick<Chip, 'cpu'>, special: ReadonlyMap<number, number>, details: string | null): Exception | null {
  if (details !== null && /^(?:abort\(\) was called|assert failed|Stack smashing|\*\*\*ERROR\*\*\*|CORRUPT HEAP)/.test(details)) {
    return { type: 'abort', code: 0, subcode: null, address: null, access: 'unknown' }
  }
  const [cause, value] = cpu === 'xtensa' ? [special.get(EXCCAUSE), special.get(EXCVADDR)] : [special.get(MCAUSE), special.get(MTVAL)]
  const address = value === undefined ? null : BigInt(value)
  if (cause !== undefined) return cpu === 'xtensa' ? xtensaException(cause, address) : riscvException(cause & 0x7fff_ffff, address)
  return details === null ? null : { type: 'panic', code: 0, subcode: null, address: null, access: 'unknown' }
}
