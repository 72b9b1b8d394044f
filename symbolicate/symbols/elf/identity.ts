/**
 * Which build an ELF file is: what a dump of the machine that runs it may name it by.
 *
 *   build id: note NT_GNU_BUILD_ID (type 3, owner "GNU"), written by the linker with --build-id
 *   debug id: Breakpad's, from the first 16 bytes of the build id as a GUID in little-endian fields, then the age 0;
 *             without a build id the first page of .text, folded by XOR into 16 bytes (Breakpad's file_id.cc);
 *             ESP-IDF's code is in .flash.text and others, then it is the first section of code
 */
import { createHash } from 'node:crypto'
import { InputError, Reader } from '../../reader.ts'
import { FLAG, LOAD, SECTION, type ElfImage } from './elf.ts'

const PAGE = 4096
const GNU_BUILD_ID = 3
const NOTE_SEGMENT = 4
const LONGEST_BUILD_ID = 64
/** No microcontroller has more flash. */
const LARGEST_IMAGE = 64n * 1024n * 1024n

/** Lower-case hex; null when the linker wrote none. */
export function buildIdOf(image: ElfImage): string | null {
  const sections = image.sections.filter(({ type }) => type === SECTION.note).map((section) => image.content(section))
  const segments = image.segments.filter(({ type, fileSize }) => type === NOTE_SEGMENT && fileSize > 0)
    .map(({ offset, fileSize }) => image.bytes.subarray(offset, offset + fileSize))
  for (const notes of [...sections, ...segments]) {
    const id = notes && buildIdIn(notes)
    if (id) return id
  }
  return null
}

function buildIdIn(notes: Uint8Array): string | null {
  const reader = new Reader(notes)
  try {
    while (reader.left >= 12) {
      const [nameSize, size, type] = [reader.u32(), reader.u32(), reader.u32()]
      const name = reader.slice(reader.at, nameSize, 'note name')
      const at = reader.at + padded(nameSize)
      if (type === GNU_BUILD_ID && nameSize === 4 && name[0] === 0x47 && name[1] === 0x4e && name[2] === 0x55 && size > 0 && size <= LONGEST_BUILD_ID) {
        return hex(reader.slice(at, size, 'build id'))
      }
      reader.seek(at + padded(size))
    }
  } catch (error) {
    if (!(error instanceof InputError)) throw error
  }
  return null
}

const padded = (size: number): number => Math.ceil(size / 4) * 4
const hex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')

/** 33 upper-case hex digits. */
export function debugIdOfBuild(buildId: string): string {
  const guid = Buffer.alloc(16)
  Buffer.from(buildId, 'hex').copy(guid, 0, 0, 16)
  return `${hex(Uint8Array.of(guid[3]!, guid[2]!, guid[1]!, guid[0]!, guid[5]!, guid[4]!, guid[7]!, guid[6]!, ...guid.subarray(8))).toUpperCase()}0`
}

/** null for a file without code of its own: a debug file of a program without a build id. */
export function debugIdOfCode(image: ElfImage): string | null {
  const text = image.read('.text') ?? image.content(image.sections.find(({ type, flags }) => type === SECTION.progbits && (flags & FLAG.executable) !== 0) ?? null)
  if (text === null) return null
  const folded = Buffer.alloc(16)
  for (let at = 0; at < Math.min(text.length, PAGE); at++) folded[at % 16]! ^= text[at]!
  return debugIdOfBuild(folded.toString('hex'))
}

/** Digests of the image as it is written into flash (`objcopy -O binary`), which DICE measures; SHA-256, SHA-384, SHA-512. */
export function imageDigests(image: ElfImage): string[] {
  const pieces = image.sections.flatMap((section) => {
    const segment = image.segments.find(({ type, address, memorySize }) => type === LOAD && section.address >= address && section.address < address + memorySize)
    const bytes = (section.flags & FLAG.alloc) !== 0 && segment ? image.content(section) : null
    return bytes && segment ? [{ at: section.address - segment.address + segment.physical, bytes }] : []
  }).sort((a, b) => (a.at < b.at ? -1 : 1))
  const [first, last] = [pieces[0], pieces.at(-1)]
  if (!first || !last || last.at - first.at > LARGEST_IMAGE) return []
  const flat = Buffer.alloc(pieces.reduce((end, { at, bytes }) => Math.max(end, Number(at - first.at) + bytes.length), 0))
  for (const { at, bytes } of pieces) flat.set(bytes, Number(at - first.at))
  return digestsOf(flat)
}

export const digestsOf = (bytes: Uint8Array): string[] => ['sha256', 'sha384', 'sha512'].map((algorithm) => createHash(algorithm).update(bytes).digest('hex'))

/** What `.gnu_debuglink` or `.gnu_debugaltlink` names: a file beside this one, by its CRC-32 or its build id. */
export function debugLink(image: ElfImage): { name: string; crc: number } | null {
  const section = image.read('.gnu_debuglink')
  const end = section?.indexOf(0) ?? -1
  if (!section || end < 1 || padded(end + 1) + 4 > section.length) return null
  return { name: text(section.subarray(0, end)), crc: new Reader(section, true, padded(end + 1)).u32() }
}

export function debugAltLink(image: ElfImage): { name: string; buildId: string } | null {
  const section = image.read('.gnu_debugaltlink')
  const end = section?.indexOf(0) ?? -1
  if (!section || end < 1 || end + 1 >= section.length) return null
  return { name: text(section.subarray(0, end)), buildId: hex(section.subarray(end + 1, end + 1 + LONGEST_BUILD_ID)) }
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(0, 1024)).toString('utf8')
