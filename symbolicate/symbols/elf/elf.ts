/**
 * An ELF file as a source of symbols (System V gABI, chapters 4 and 5; SHF_COMPRESSED of its 2015 draft): sections, inflated when
 * they are compressed, and the address space that the file was linked for. Header and segments are formats/elf-file.ts's.
 *
 *   section header: name u32, type u32, flags, address, offset, size, link u32, info u32, alignment, entry size
 *                   (flags to size, alignment and entry size are words of 4 or 8 bytes)
 *   compressed:     type u32 (1 zlib, 2 zstd), [reserved u32,] size, alignment; then the stream
 *   .zdebug_*:      "ZLIB", size u64 big-endian; then the stream (what GNU as wrote before)
 *
 * Everything is claimed by the file: what lies outside of it, is compressed into a bomb or counted absurdly throws InputError.
 */
import { inflateSync, zstdDecompressSync } from 'node:zlib'
import type { Cpu } from '../../formats/dump.ts'
import { readElf, type ElfSegment } from '../../formats/elf-file.ts'
import { InputError, Reader } from '../../reader.ts'
import { createSpace, type Range, type Space } from './space.ts'

export interface ElfSection { name: string; type: number; flags: number; address: bigint; offset: number; size: number; link: number; entrySize: number }

export interface ElfImage {
  bytes: Uint8Array
  width: 4 | 8
  machine: number
  cpu: Cpu
  /** A position-independent program or library: where it runs is the loader's choice. */
  relocatable: boolean
  sections: readonly ElfSection[]
  segments: readonly ElfSegment[]
  space: Space
  /** The content of a section, inflated; null when there is none in this file (a debug file keeps only the header of .text). */
  content(section: ElfSection | null): Uint8Array | null
  find(name: string): ElfSection | null
  /** `find` and `content`; `.debug_x` finds `.zdebug_x` too. */
  read(name: string): Uint8Array | null
}

export const SECTION = { progbits: 1, symtab: 2, note: 7, nobits: 8, dynsym: 11, armExidx: 0x7000_0001 } as const
export const FLAG = { alloc: 2, executable: 4, compressed: 0x800 } as const

const MACHINES: ReadonlyMap<number, Cpu> = new Map([[3, 'x86'], [40, 'arm'], [62, 'x86-64'], [94, 'xtensa'], [183, 'arm64']])
const RISCV = 243
const RELOCATABLE_OBJECT = 1
const SHARED_OBJECT = 3
const CORE = 4
export const LOAD = 1

const MOST_SEGMENTS = 4096
const MOST_SECTIONS = 65_536
const LONGEST_SECTION_NAME = 256
/** All sections of a file together. */
const MOST_INFLATED = 768 * 2 ** 20

export const isElf = (bytes: Uint8Array): boolean => bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46

/** Throws InputError. */
export function openElf(bytes: Uint8Array): ElfImage {
  if (isElf(bytes) && bytes[5] === 2) throw new InputError('dump-malformed', 'ELF file: big-endian, which is not read')
  const { file, width, type, machine, segments } = readElf(bytes, MOST_SEGMENTS)
  if (type === CORE) throw new InputError('dump-malformed', 'ELF file: a core dump, not a program')
  const sections = readSections(file, width)
  if (type === RELOCATABLE_OBJECT && !isSplitDwarf(sections)) throw new InputError('dump-malformed', 'ELF file: an object file (.o, .ko); its addresses are known when it is linked')
  const cpu = machine === RISCV ? (width === 8 ? 'riscv64' : 'riscv32') : (MACHINES.get(machine) ?? 'unknown')
  const loaded = segments.filter((segment) => segment.type === LOAD && segment.memorySize > 0n)
  const code: Range[] = sections.filter(({ flags, size }) => (flags & FLAG.alloc) !== 0 && (flags & FLAG.executable) !== 0 && size > 0).map(({ address, size }) => ({ address, size: BigInt(size) }))
  if (code.length === 0) code.push(...loaded.filter(({ flags }) => (flags & 1) !== 0).map(({ address, memorySize }) => ({ address, size: memorySize })))
  const space = createSpace(width, loaded.map(({ address }) => address), code, cpu === 'arm')

  const byName = new Map<string, ElfSection>()
  for (const section of sections) if (!byName.has(section.name)) byName.set(section.name, section)
  const inflated = new Map<ElfSection, Uint8Array>()
  let inflatable = MOST_INFLATED

  function content(section: ElfSection | null): Uint8Array | null {
    if (section === null || section.type === SECTION.nobits || section.size === 0) return null
    const known = inflated.get(section)
    if (known) return known
    const raw = file.slice(section.offset, section.size, `section ${section.name}`)
    const plain = inflate(section, raw, width, inflatable)
    if (plain !== raw) {
      inflatable -= plain.length
      inflated.set(section, plain)
    }
    return plain
  }

  const find = (name: string): ElfSection | null => byName.get(name) ?? (name.startsWith('.debug_') ? byName.get(`.z${name.slice(1)}`) : undefined) ?? null
  return { bytes, width, machine, cpu, relocatable: type === SHARED_OBJECT, sections, segments, space, content, find, read: (name) => content(find(name)) }
}

/** A .dwo is an object file that is not linked, and needs it not. */
const isSplitDwarf = (sections: readonly ElfSection[]): boolean => sections.some(({ name }) => name === '.debug_info.dwo')

function readSections(file: Reader, width: 4 | 8): ElfSection[] {
  const at = width === 8 ? file.seek(40).size64('section headers') : file.seek(32).u32()
  const size = file.seek(width === 8 ? 58 : 46).u16()
  const claimed = file.u16()
  const namesAt = file.u16()
  const least = width === 8 ? 64 : 40
  if (at === 0 || at > file.length || size < least) return []
  const first = readSection(file.seek(at), width)
  // A file with too many sections for 16 bits keeps their number and that of the names in the first header.
  const count = file.seek(at).count(claimed === 0 ? first.size : claimed, size, MOST_SECTIONS)
  const headers = Array.from({ length: count }, (_, index) => readSection(file.seek(at + index * size), width))
  const names = headers[namesAt === 0xffff ? first.link : namesAt]
  return headers.map(({ nameAt, ...section }) => ({ ...section, name: names ? nameIn(file, names, nameAt) : '' }))
}

function readSection(file: Reader, width: 4 | 8): Omit<ElfSection, 'name'> & { nameAt: number } {
  const nameAt = file.u32()
  const type = file.u32()
  const word = (what: string): number => (width === 8 ? file.size64(what) : file.u32())
  const wordAsFlags = (): number => (width === 8 ? Number(file.u64() & 0xffff_ffffn) : file.u32())
  const flags = wordAsFlags()
  const address = width === 8 ? file.u64() : BigInt(file.u32())
  const [offset, size] = [word('section offset'), word('section size')]
  const link = file.u32()
  file.u32()
  wordAsFlags()
  return { nameAt, type, flags, address, offset, size, link, entrySize: word('section entry size') }
}

function nameIn(file: Reader, { offset, size }: { offset: number; size: number }, at: number): string {
  const from = offset + at
  if (at >= size || from >= file.length) return ''
  const end = file.bytes.indexOf(0, from)
  return Buffer.from(file.bytes.subarray(from, Math.min(end < 0 ? file.length : end, from + LONGEST_SECTION_NAME, offset + size))).toString('latin1')
}

function inflate(section: ElfSection, raw: Uint8Array, width: 4 | 8, most: number): Uint8Array {
  if ((section.flags & FLAG.compressed) !== 0) {
    const header = new Reader(raw)
    const type = header.u32()
    const size = width === 8 ? header.skip(4).size64('inflated size') : header.u32()
    const stream = raw.subarray(width === 8 ? 24 : 12)
    if (type !== 1 && type !== 2) throw new InputError('dump-malformed', `section ${section.name}: compression ${type}`)
    return unpack(section, type === 2 ? zstdDecompressSync : inflateSync, stream, size, most)
  }
  if (!section.name.startsWith('.zdebug_')) return raw
  if (Buffer.from(raw.subarray(0, 4)).toString('latin1') !== 'ZLIB') throw new InputError('dump-malformed', `section ${section.name}: no ZLIB header`)
  return unpack(section, inflateSync, raw.subarray(12), new Reader(raw, false, 4).size64('inflated size'), most)
}

function unpack({ name }: ElfSection, run: typeof inflateSync | typeof zstdDecompressSync, stream: Uint8Array, size: number, most: number): Uint8Array {
  if (size > most) throw new InputError('dump-malformed', `section ${name}: inflates to ${size} bytes, at most ${most} are read`)
  try {
    return run(stream, { maxOutputLength: Math.max(1, size) })
  } catch (error) {
    throw new InputError('dump-malformed', `section ${name}: ${error instanceof Error ? error.message : 'does not inflate'}`)
  }
}
