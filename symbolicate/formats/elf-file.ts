/**
 * The parts of an ELF file that a core dump is made of (System V gABI, chapters 4 and 5): the header, the program headers
 * and the notes. Symbols are no business of this file.
 *
 *   header:  7F 'ELF', class (1: 32 bit, 2: 64), byte order (1: little), ..., type u16, machine u16, ..., program headers at
 *            28 (u32) or 32 (u64), their size and count as u16 at 42 and 44, or 54 and 56
 *   segment: type, [flags,] offset, address, physical address, size in the file, size in memory, [flags,] alignment
 *   note:    size of name u32, size of content u32, type u32, name, content, both padded to 4 bytes
 */
import { InputError, Reader } from '../reader.ts'
import type { Cpu } from './dump.ts'

export interface ElfSegment { type: number; flags: number; offset: number; address: bigint; physical: bigint; fileSize: number; memorySize: bigint }
export interface ElfFile {
  file: Reader
  width: 4 | 8
  type: number
  machine: number
  segments: ElfSegment[]
  /** How many segments the header claims; more than `segments` when the file ends before. */
  claimed: number
}
export interface ElfNote { name: string; type: number; content: Reader }

export const ELF = { core: 4, load: 1, dynamic: 2, note: 4, executable: 1, writable: 2, readable: 4 } as const

const HEADER = { 4: 52, 8: 64 }
const SEGMENT = { 4: 32, 8: 56 }
/** A file with this many segments or more keeps the count in its first section header. */
const COUNT_ELSEWHERE = 0xffff
const LONGEST_NAME = 64

/** Throws InputError; `most` bounds how many segments are read. */
export function readElf(bytes: Uint8Array, most: number): ElfFile {
  if (bytes.length < 20) throw new InputError('dump-truncated', `ELF header: ${bytes.length} of 52 bytes`)
  if (bytes[0] !== 0x7f || bytes[1] !== 0x45 || bytes[2] !== 0x4c || bytes[3] !== 0x46) throw new InputError('dump-malformed', 'not an ELF file')
  if (bytes[4] !== 1 && bytes[4] !== 2) throw new InputError('dump-malformed', `ELF class ${bytes[4]}`)
  const width = bytes[4] === 2 ? 8 : 4
  const file = new Reader(bytes, bytes[5] !== 2)
  file.need(0, HEADER[width], 'ELF header')
  const type = file.seek(16).u16()
  const machine = file.u16()
  const at = width === 8 ? file.seek(32).size64('program headers') : file.seek(28).u32()
  const entry = file.seek(width === 8 ? 54 : 42).u16()
  const counted = file.u16()
  const claimed = counted === COUNT_ELSEWHERE ? countInSection(file, width) : counted
  if (claimed > 0 && entry < SEGMENT[width]) throw new InputError('dump-malformed', `program headers of ${entry} bytes`)
  const count = at > bytes.length ? 0 : file.seek(at).count(claimed, entry, most)
  return { file, width, type, machine, claimed, segments: Array.from({ length: count }, (_, index) => readSegment(file.seek(at + index * entry), width)) }
}

/** `sh_info` of section header 0. */
function countInSection(file: Reader, width: 4 | 8): number {
  const sections = width === 8 ? file.seek(40).size64('section headers') : file.seek(32).u32()
  return file.seek(sections + (width === 8 ? 44 : 28)).u32()
}

function readSegment(file: Reader, width: 4 | 8): ElfSegment {
  if (width === 8) {
    const [type, flags] = [file.u32(), file.u32()]
    const offset = clamped(file.u64())
    const [address, physical] = [file.u64(), file.u64()]
    return { type, flags, offset, address, physical, fileSize: clamped(file.u64()), memorySize: file.u64() }
  }
  const [type, offset] = [file.u32(), file.u32()]
  const [address, physical] = [BigInt(file.u32()), BigInt(file.u32())]
  const fileSize = file.u32()
  return { type, offset, address, physical, fileSize, memorySize: BigInt(file.u32()), flags: file.u32() }
}

/** One lying segment must not cost the others: what no file can hold ends past every file. */
const clamped = (value: bigint): number => (value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value))

/** The notes of one segment, until one ends past it; the reason for that comes last. */
export function readNotes(file: Reader, most: number): { notes: ElfNote[]; broken: string | null } {
  const notes: ElfNote[] = []
  try {
    for (file.seek(0); file.left >= 12 && notes.length < most;) {
      const [nameSize, size, type] = [file.u32(), file.u32(), file.u32()]
      const name = text(file.slice(file.at, nameSize, 'note name').subarray(0, LONGEST_NAME))
      file.skip(padded(nameSize))
      // The last note of a file may lack its padding.
      notes.push({ name, type, content: file.part(file.at, size, `note ${name} ${type}`) })
      file.skip(padded(size))
    }
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    return { notes, broken: error.message }
  }
  return { notes, broken: null }
}

const padded = (size: number): number => Math.ceil(size / 4) * 4

/** Up to the first NUL. */
export function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return Buffer.from(bytes.buffer, bytes.byteOffset, end < 0 ? bytes.length : end).toString('utf8')
}

export function cpuOf(machine: number, width: 4 | 8): Cpu {
  switch (machine) {
    case 3: return 'x86'
    case 40: return 'arm'
    case 62: return 'x86-64'
    case 94: return 'xtensa'
    case 183: return 'arm64'
    case 243: return width === 8 ? 'riscv64' : 'riscv32'
    default: return 'unknown'
  }
}
