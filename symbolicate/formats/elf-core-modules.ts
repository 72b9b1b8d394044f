/**
 * Which files a process had mapped, from its core: Linux' file map (NT_FILE) where there is one. Emulators and old kernels
 * write none; then the ELF images that memory holds, and for a program whose first page was not dumped the auxiliary vector
 * (AT_PHDR, AT_ENTRY) tells which segments are its own.
 *
 * A build id is read from the image's own notes (NT_GNU_BUILD_ID), as far as the core holds that page.
 */
import { InputError, Reader } from '../reader.ts'
import type { Memory, Module } from './dump.ts'
import { ELF, readElf, readNotes, text, type ElfSegment } from './elf-file.ts'

/** Entries of the auxiliary vector (getauxval(3)). */
export const AT = { phdr: 3, phent: 4, phnum: 5, entry: 9, execfn: 31, vdso: 33 } as const
export type Auxv = ReadonlyMap<number, bigint>

export interface MappedFile { start: bigint; end: bigint; offset: bigint; path: string }

/** NT_FILE: count, page size, then {start, end, offset in pages} each a word, then as many names, each ended by NUL. */
export function readFileMap(note: Reader, width: 4 | 8, most: number): MappedFile[] {
  const word = (): bigint => (width === 8 ? note.u64() : BigInt(note.u32()))
  const claimed = Number(word())
  const pageSize = word()
  const count = note.count(claimed, 3 * width, most)
  const maps = Array.from({ length: count }, () => ({ start: word(), end: word(), offset: word() * pageSize }))
  note.seek(2 * width + claimed * 3 * width)
  return maps.map((map) => ({ ...map, path: pathAt(note) }))
}

const LONGEST_PATH = 4096

function pathAt(note: Reader): string {
  note.need(note.at, 1, 'file name')
  const path = text(note.text(note.at, Math.min(LONGEST_PATH, note.left), 'file name'))
  note.skip(Buffer.byteLength(path) + 1)
  return path
}

export interface Images { files: MappedFile[]; segments: ElfSegment[]; auxv: Auxv; memory: Memory; program: string }

export function findModules({ files, segments, auxv, memory, program }: Images, most: number): Module[] {
  const modules = ofFiles(files, segments, memory)
  const starts = new Set(files.map(({ start }) => start))
  const covered = (address: bigint): boolean => modules.some(({ base, size }) => address >= base && address < base + BigInt(size))
  const vdso = auxv.get(AT.vdso)
  for (const segment of segments) {
    if (modules.length >= most) break
    if (segment.type !== ELF.load || segment.fileSize === 0 || covered(segment.address) || !isImage(memory, segment.address)) continue
    const size = contiguous(segments, segment, starts)
    // rust-minidump and Breakpad call the vdso linux-gate.so.
    if (size !== null) modules.push(moduleAt(memory, segment.address, size, segment.address === vdso ? 'linux-gate.so' : (soname(memory, segment.address) ?? 'unknown')))
  }
  const entry = auxv.get(AT.entry) ?? auxv.get(AT.phdr)
  if (entry !== undefined && !covered(entry)) {
    const own = segments.findLast(({ type, address, memorySize }) => type === ELF.load && entry >= address && entry < address + memorySize)
    const first = own && firstOfImage(segments, own)
    const size = first && contiguous(segments, first, starts)
    if (first && size != null) modules.push(moduleAt(memory, first.address, size, program))
  }
  return modules
}

/** Mappings of one file one behind the other are one module; a file that nothing executes is data. */
function ofFiles(files: readonly MappedFile[], segments: readonly ElfSegment[], memory: Memory): Module[] {
  const modules: Module[] = []
  const executable = new Set(segments.filter(({ type, flags }) => type === ELF.load && (flags & ELF.executable) !== 0).map(({ address }) => address))
  for (let from = 0, to = 0; from < files.length; from = to) {
    const first = files[from]!
    for (to = from + 1; to < files.length && files[to]!.path === first.path && files[to]!.offset > 0n && files[to]!.start >= files[to - 1]!.end;) to++
    const parts = files.slice(from, to)
    const size = Number(parts.at(-1)!.end - first.start)
    if (size > 0 && Number.isSafeInteger(size) && parts.some(({ start }) => executable.has(start))) modules.push(moduleAt(memory, first.start, size, first.path))
  }
  return modules
}

/** From this segment on without a gap or another file, to the end of the first that may be written: what comes then is heap. */
function contiguous(segments: readonly ElfSegment[], first: ElfSegment, starts: ReadonlySet<bigint>): number | null {
  let end = first.address + first.memorySize
  let writable = (first.flags & ELF.writable) !== 0
  for (const { type, address, memorySize, flags } of segments.slice(segments.indexOf(first) + 1)) {
    if (writable || type !== ELF.load || address !== end || starts.has(address)) break
    end += memorySize
    writable = (flags & ELF.writable) !== 0
  }
  const size = Number(end - first.address)
  return Number.isSafeInteger(size) && size > 0 ? size : null
}

function firstOfImage(segments: readonly ElfSegment[], own: ElfSegment): ElfSegment {
  let first = own
  for (const segment of segments.slice(0, segments.indexOf(own)).reverse()) {
    if (segment.type !== ELF.load || segment.address + segment.memorySize !== first.address || (segment.flags & ELF.writable) !== 0) break
    first = segment
  }
  return first
}

const isImage = (memory: Memory, address: bigint): boolean => memory.u32(address) === 0x464c457f || memory.u32(address) === 0x7f454c46

function moduleAt(memory: Memory, base: bigint, size: number, name: string): Module {
  const buildId = buildIdAt(memory, base)
  return { base, size, name, version: null, debugFile: name, codeId: buildId, debugId: buildId === null ? null : debugIdOf(buildId) }
}

/** Breakpad's form of a build id: its first 16 bytes as the fields of a GUID, and the age 0. */
export function debugIdOf(buildId: string): string {
  const guid = Buffer.from(buildId.padEnd(32, '0').slice(0, 32), 'hex')
  guid.subarray(0, 4).reverse()
  guid.subarray(4, 6).reverse()
  guid.subarray(6, 8).reverse()
  return `${guid.toString('hex').toUpperCase()}0`
}

const FIRST_PAGE = 4096
const MOST_SEGMENTS = 64
const MOST_NOTES = 64
const LARGEST_NOTES = 64 * 1024
const LONGEST_BUILD_ID = 64
const BUILD_ID = 3

interface Image { segments: ElfSegment[]; at(address: bigint): bigint }

/** The program headers of an image in memory, and where the addresses in them really are. */
function imageAt(memory: Memory, base: bigint): Image | null {
  const page = memory.bytes(base, FIRST_PAGE)
  if (page === null) return null
  try {
    const { segments } = readElf(page, MOST_SEGMENTS)
    const first = segments.find(({ type }) => type === ELF.load)
    if (first === undefined) return null
    const bias = base - (first.address - BigInt(first.offset))
    return { segments, at: (address) => address + bias }
  } catch (error) {
    if (error instanceof InputError) return null
    throw error
  }
}

function buildIdAt(memory: Memory, base: bigint): string | null {
  const image = imageAt(memory, base)
  for (const { type, address, fileSize } of image?.segments ?? []) {
    if (type !== ELF.note || fileSize > LARGEST_NOTES) continue
    const bytes = memory.bytes(image!.at(address), fileSize)
    const { notes } = bytes ? readNotes(new Reader(bytes), MOST_NOTES) : { notes: [] }
    const found = notes.find(({ name, type: kind, content }) => name === 'GNU' && kind === BUILD_ID && content.length > 0 && content.length <= LONGEST_BUILD_ID)
    if (found) return Buffer.from(found.content.bytes).toString('hex')
  }
  return null
}

const DT = { end: 0n, strings: 5n, soname: 14n }
const MOST_ENTRIES = 256
const LONGEST_NAME = 256

/** A library's own name (DT_SONAME), where there is no file map. */
function soname(memory: Memory, base: bigint): string | null {
  const image = imageAt(memory, base)
  const dynamic = image?.segments.find(({ type }) => type === ELF.dynamic)
  if (!image || !dynamic) return null
  const wide = memory.bytes(base + 4n, 1)?.[0] === 2
  const word = (address: bigint): bigint | null => (wide ? memory.u64(address) : widened(memory.u32(address)))
  const step = wide ? 8n : 4n
  let [strings, name]: (bigint | null)[] = [null, null]
  for (let index = 0, at = image.at(dynamic.address); index < MOST_ENTRIES; index++, at += 2n * step) {
    const tag = word(at)
    if (tag === null || tag === DT.end) break
    if (tag === DT.strings) strings = word(at + step)
    if (tag === DT.soname) name = word(at + step)
  }
  if (strings == null || name == null) return null
  // The loader has put the real address there, or has left the file's.
  const table = strings >= base ? strings : image.at(strings)
  const bytes = memory.bytes(table + name, LONGEST_NAME)
  return (bytes && text(bytes)) || null
}

const widened = (value: number | null): bigint | null => (value === null ? null : BigInt(value))

/** The text at an address, as far as the core holds it. */
export function stringAt(memory: Memory, address: bigint | undefined): string | null {
  if (address === undefined) return null
  for (let length = LONGEST_NAME; length > 0; length >>= 1) {
    const bytes = memory.bytes(address, length)
    if (bytes !== null) return text(bytes) || null
  }
  return null
}
