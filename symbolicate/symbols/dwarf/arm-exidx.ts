/**
 * .ARM.exidx and .ARM.extab: ARM's own unwind tables (Exception Handling ABI for the Arm Architecture, sections 5 to 9).
 *
 *   index = *(function:prel31 (1 | data with bit 31 set | prel31 of an entry in .ARM.extab))
 *   entry = 1 0 0 0 index:4 ... (compact) | prel31 of a personality routine, then words:8 and instructions
 *
 * A function's instructions undo its prologue: they move a virtual stack pointer up and pop registers from there. So they
 * are true once the prologue is done, at calls above all, and not instruction by instruction as DWARF's; for the prologue
 * itself arm-prologue.ts reads the code.
 */
import { FLAG, SECTION, type ElfImage } from '../elf/elf.ts'
import { sectionOffset } from '../elf/symbols.ts'
import type { Strings } from '../strings.ts'
import { Cursor } from './cursor.ts'
import type { UnwindRows } from './frames.ts'
import type { ArmPrologue } from './arm-prologue.ts'
import { registerNames } from './registers.ts'

const CANNOT_UNWIND = 1
const MOST_INSTRUCTIONS = 1024

export function readArmExidx(image: ElfImage, prologues: readonly ArmPrologue[], strings: Strings, rows: UnwindRows): void {
  if (image.cpu !== 'arm') return
  for (const section of image.sections) {
    if (section.type !== SECTION.armExidx || (section.flags & FLAG.alloc) === 0) continue
    const bytes = image.content(section)
    if (bytes === null) continue
    const cursor = new Cursor(bytes, section.name)
    const place = sectionOffset(image, section)
    const count = Math.floor(bytes.length / 8)
    const startOf = (index: number): number => {
      const start = place + index * 8 + prel31(cursor.seek(index * 8).u32())
      return start - (start & 1)
    }
    for (let index = 0; index < count; index++) {
      const start = startOf(index)
      const codeEnd = start >= 0 ? image.space.codeEnd(start) : 0
      const next = index + 1 < count ? startOf(index + 1) : codeEnd
      const end = next > start ? Math.min(next, codeEnd) : codeEnd
      if (codeEnd === 0 || end <= start) continue
      const data = cursor.seek(index * 8 + 4).u32()
      // Built without tables: arm-prologue.ts looks at the code.
      if (data === CANNOT_UNWIND) continue
      const rules = rulesOf(image, data, place + index * 8 + 4)
      if (rules !== null) addRows(start, end, rules, prologues, strings, rows)
    }
  }
}

/** Linkers merge neighbours that unwind alike, so one entry may stand for several functions, each with a prologue of its own. */
function addRows(start: number, end: number, rules: string, prologues: readonly ArmPrologue[], strings: Strings, { cfi, deltas }: UnwindRows): void {
  let from = start
  const plain = (to: number): void => {
    if (to > from) cfi.push(from, to - from, strings.add(rules), deltas.count, deltas.count)
    from = Math.max(from, to)
  }
  for (let index = firstFrom(prologues, start); prologues[index] !== undefined && prologues[index]!.start < end; index++) {
    const { start: begin, size, entry, steps } = prologues[index]!
    if (begin < from || steps.length === 0) continue
    plain(begin)
    const first = deltas.count
    for (const [step, { from: at, rules: then }] of steps.entries()) deltas.push(at, strings.add(step === steps.length - 1 ? rules : then))
    from = Math.min(begin + size, end)
    cfi.push(begin, from - begin, strings.add(entry), first, deltas.count)
  }
  plain(end)
}

function firstFrom(prologues: readonly ArmPrologue[], start: number): number {
  let low = 0
  let high = prologues.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (prologues[middle]!.start < start) low = middle + 1
    else high = middle
  }
  return low
}

/** 31 bits, signed. */
const prel31 = (word: number): number => (word << 1) >> 1

function rulesOf(image: ElfImage, data: number, at: number): string | null {
  const instructions = data >>> 31 === 1 ? compact([data]) : fromTable(image, at + prel31(data))
  return instructions && undo(instructions)
}

/** Instructions are bytes from the top of each word down. */
function compact(words: readonly number[]): number[] | null {
  const bytes = words.flatMap((word) => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255])
  switch (bytes[0]! & 15) {
    case 0: return bytes.slice(1, 4)
    case 1: case 2: return bytes.slice(2, 4 + 4 * bytes[1]!)
    default: return null
  }
}

function fromTable(image: ElfImage, offset: number): number[] | null {
  for (const section of image.sections) {
    const start = sectionOffset(image, section)
    if (section.type === SECTION.nobits || (section.flags & FLAG.alloc) === 0 || offset < start || offset + 4 > start + section.size) continue
    const bytes = image.content(section)
    if (bytes === null) return null
    const cursor = new Cursor(bytes, section.name, offset - start)
    const first = cursor.u32()
    const isCompact = first >>> 31 === 1
    // GNU's personality routines keep the compact form's instructions behind their own address.
    const second = isCompact ? first : cursor.u32()
    const more = isCompact ? ((first >>> 24) & 15) === 0 ? 0 : (first >>> 16) & 255 : second >>> 24
    if (more * 4 > cursor.end - cursor.at) return null
    const words = [second, ...Array.from({ length: more }, () => cursor.u32())]
    if (isCompact) return compact(words)
    return words.flatMap((word) => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255]).slice(1)
  }
  return null
}

const NAMES = registerNames('arm')
const [SP, LR, PC] = [13, 14, 15]

/** The instructions as rules; null for what is refused or not understood (9.3: spare encodings, vector state other than VFP). */
function undo(instructions: readonly number[]): string | null {
  const saved = new Map<number, string>()
  let base = SP
  let offset = 0
  const pop = (mask: number, first: number): boolean => {
    for (let bit = 0; bit < 16; bit++) {
      if ((mask & (1 << bit)) === 0) continue
      saved.set(first + bit, `${NAMES[base]} ${offset} + ^`)
      offset += 4
    }
    // A stack pointer that was popped is where the caller's stack is: only the last instruction of odd code does that.
    return !saved.has(SP)
  }
  for (let at = 0, steps = 0; at < instructions.length && steps < MOST_INSTRUCTIONS; steps++) {
    const byte = instructions[at++]!
    const second = (): number => instructions[at++] ?? 0
    if (byte < 0x40) offset += (byte << 2) + 4
    else if (byte < 0x80) offset -= ((byte & 0x3f) << 2) + 4
    else if (byte < 0x90) {
      const mask = ((byte & 15) << 8) | second()
      if (mask === 0 || !pop(mask, 4)) return null
    } else if (byte < 0xa0) {
      const register = byte & 15
      if (register === SP || register === PC || saved.has(register)) return null
      base = register
      offset = 0
    } else if (byte < 0xb0) {
      pop((1 << ((byte & 7) + 1)) - 1, 4)
      if ((byte & 8) !== 0) pop(1, LR)
    } else if (byte === 0xb0) break
    else if (byte === 0xb1) {
      const mask = second()
      if (mask === 0 || mask > 15) return null
      pop(mask, 0)
    } else if (byte === 0xb2) {
      let value = 0
      let scale = 1
      let more = 0
      do {
        more = second()
        value += (more & 0x7f) * scale
        scale *= 128
      } while (more >= 0x80 && scale < 2 ** 28)
      offset += 0x204 + value * 4
    } else if (byte === 0xb3) offset += ((second() & 15) + 1) * 8 + 4
    else if (byte >= 0xb8 && byte < 0xc0) offset += ((byte & 7) + 1) * 8 + 4
    else if (byte === 0xc8 || byte === 0xc9) offset += ((second() & 15) + 1) * 8
    else if (byte >= 0xd0 && byte < 0xd8) offset += ((byte & 7) + 1) * 8
    else return null
  }
  const cfa = `${NAMES[base]} ${offset} +`
  const ra = saved.get(PC) ?? saved.get(LR) ?? NAMES[LR]
  const registers = Array.from(saved).filter(([register]) => register < SP && NAMES[register] !== undefined).map(([register, rule]) => `${NAMES[register]}: ${rule}`)
  return [`.cfa: ${cfa}`, `.ra: ${ra}`, ...registers].join(' ')
}
