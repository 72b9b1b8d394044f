/**
 * A program's instructions, kept beside its tables: cores of Linux and dumps of microcontrollers hold data only, and whether
 * the access that failed read or wrote is told by the instruction. Only of processors whose instructions are decoded
 * (evidence/instruction.ts), and of files that have little code: it would be most of a large program's prepared form.
 */
import type { Cpu } from '../../formats/dump.ts'
import { Growing } from '../growing.ts'
import { SECTIONS } from '../tables.ts'
import { FLAG, type ElfImage } from './elf.ts'
import { sectionOffset } from './symbols.ts'

/** All sections together. */
const MOST_CODE = 4 * 2 ** 20
const MOST_SECTIONS = 256
const DECODED: ReadonlySet<Cpu> = new Set(['arm', 'arm64', 'x86', 'x86-64'])

/** Of the first file that has any: a debug file has none. Throws InputError. */
export function readCode(images: readonly ElfImage[]): { codeRanges: Uint32Array; code: Uint32Array } {
  for (const image of images) {
    const pieces = DECODED.has(image.cpu) ? piecesOf(image) : []
    if (pieces.length > 0) return laidOut(pieces)
  }
  return { codeRanges: new Uint32Array(), code: new Uint32Array() }
}

interface Piece { start: number; bytes: Uint8Array }

function piecesOf(image: ElfImage): Piece[] {
  const pieces = image.sections.filter(({ flags }) => (flags & FLAG.alloc) !== 0 && (flags & FLAG.executable) !== 0).slice(0, MOST_SECTIONS)
    .flatMap((section): Piece[] => {
      const [start, bytes] = [sectionOffset(image, section), image.content(section)]
      return bytes === null || start < 0 || start + bytes.length > 0xffff_fffe ? [] : [{ start, bytes }]
    })
  const total = pieces.reduce((sum, { bytes }) => sum + bytes.length, 0)
  return total > MOST_CODE ? [] : pieces.sort((a, b) => a.start - b.start)
}

function laidOut(pieces: readonly Piece[]): { codeRanges: Uint32Array; code: Uint32Array } {
  const words = pieces.reduce((sum, { bytes }) => sum + Math.ceil(bytes.length / 4), 0)
  const code = new Uint32Array(words)
  const target = new Uint8Array(code.buffer)
  const ranges = new Growing(SECTIONS.codeRanges)
  let word = 0
  for (const { start, bytes } of pieces) {
    ranges.push(start, bytes.length, word)
    target.set(bytes, word * 4)
    word += Math.ceil(bytes.length / 4)
  }
  return { codeRanges: ranges.done().slice(), code }
}
