/**
 * Unwind rules for ARM functions that no table describes. C libraries are often built without unwind tables (.ARM.exidx then
 * says "cannot unwind"), and abort, start_thread and most firmware are among them; gdb reads the first instructions of such a
 * function, and so do we: what it pushes, how far it moves the stack pointer, and whether r7 or r11 becomes its frame pointer
 * (Arm Architecture Reference Manual, A7.7 and F5.1; the encodings stand beside each case).
 *
 * Straight on until the first call or unconditional branch: a prologue ends before that. True from there to the end of the
 * function, where return addresses are; not in its epilogue.
 */
import { FLAG, SECTION, type ElfImage } from '../elf/elf.ts'
import { type ElfSymbols, sectionOffset } from '../elf/symbols.ts'
import type { Strings } from '../strings.ts'
import type { UnwindRows } from './frames.ts'
import { registerNames } from './registers.ts'

const MOST_INSTRUCTIONS = 48
const NAMES = registerNames('arm')
const [R7, R11, LR] = [7, 11, 14]

interface Prologue {
  /** From the stack pointer up to where it was on entry. */
  depth: number
  /** Register -> distance of its slot below that. */
  saved: Map<number, number>
  frame: { register: number; depth: number } | null
}
/** What one instruction does to the prologue: a change, nothing, or its end. */
type Step = 'changed' | 'same' | 'end'

/** The rule at a function's first instruction, and those that hold from an address on; `steps` is empty for one without a prologue. */
export interface ArmPrologue { start: number; size: number; entry: string; steps: { from: number; rules: string }[] }

/** Of every function that the symbol table knows, in the order of their addresses. */
export function armPrologues(image: ElfImage, symbols: ElfSymbols): ArmPrologue[] {
  if (image.cpu !== 'arm') return []
  const entry = rulesOf({ depth: 0, saved: new Map(), frame: null })
  return image.sections.filter(({ type, flags }) => type !== SECTION.nobits && (flags & FLAG.executable) !== 0).flatMap((section) => {
    const code = image.content(section)
    if (code === null) return []
    const view = new DataView(code.buffer, code.byteOffset, code.length)
    const base = sectionOffset(image, section)
    const found: ArmPrologue[] = []
    for (const [index, start] of symbols.starts.entries()) {
      const size = Math.min(symbols.sizes[index]!, base + code.length - start)
      if (start < base || size < 2) continue
      const steps: ArmPrologue['steps'] = []
      follow(view, start - base, size, symbols.thumb[index] === 1, (at, prologue) => steps.push({ from: base + at, rules: rulesOf(prologue) }))
      found.push({ start, size, entry, steps })
    }
    return found
  }).sort((a, b) => a.start - b.start)
}

/** Rows for all of them: for where no table says anything. */
export function readArmPrologues(prologues: readonly ArmPrologue[], strings: Strings, { cfi, deltas }: UnwindRows): void {
  for (const { start, size, entry, steps } of prologues) {
    const first = deltas.count
    for (const { from, rules } of steps) deltas.push(from, strings.add(rules))
    cfi.push(start, size, strings.add(entry), first, deltas.count)
  }
}

function follow(view: DataView, start: number, size: number, thumb: boolean, changed: (at: number, prologue: Prologue) => void): void {
  const prologue: Prologue = { depth: 0, saved: new Map(), frame: null }
  const end = start + size
  for (let at = start, count = 0; count < MOST_INSTRUCTIONS; count++) {
    const length = thumb ? (at + 2 <= end && view.getUint16(at, true) >>> 11 >= 0b11101 ? 4 : 2) : 4
    if (at + length > end) return
    const step = !thumb ? arm(prologue, view.getUint32(at, true)) : length === 2 ? thumb16(prologue, view.getUint16(at, true)) : thumb32(prologue, view.getUint16(at, true), view.getUint16(at + 2, true))
    if (step === 'end') return
    at += length
    if (step === 'changed' && at < end) changed(at, prologue)
  }
}

function rulesOf({ depth, saved, frame }: Prologue): string {
  const base = frame === null ? 'sp' : NAMES[frame.register]!
  const below = frame === null ? depth : frame.depth
  const rule = (slot: number): string => `${base} ${below - slot} + ^`
  const registers = Array.from(saved).filter(([register]) => register >= 4 && register <= R11).map(([register, slot]) => `${NAMES[register]}: ${rule(slot)}`)
  return [`.cfa: ${base} ${below} +`, `.ra: ${saved.has(LR) ? rule(saved.get(LR)!) : NAMES[LR]}`, ...registers].join(' ')
}

/** Lower registers go to lower addresses. */
function push(prologue: Prologue, registers: number): Step {
  for (let register = 15; register >= 0; register--) {
    if ((registers & (1 << register)) === 0) continue
    prologue.depth += 4
    if (!prologue.saved.has(register)) prologue.saved.set(register, prologue.depth)
  }
  return 'changed'
}

function move(prologue: Prologue, bytes: number): Step {
  prologue.depth += bytes
  return 'changed'
}

/** A register that was pushed before and now points into the frame stays there: the stack pointer may move on (alloca). */
function keep(prologue: Prologue, register: number, above: number): Step {
  if (prologue.saved.has(register)) prologue.frame ??= { register, depth: prologue.depth - above }
  return 'changed'
}

function thumb16(prologue: Prologue, code: number): Step {
  if ((code & 0xfe00) === 0xb400) return push(prologue, (code & 0xff) | (code & 0x100 ? 1 << LR : 0)) // push {..., lr}
  if ((code & 0xff80) === 0xb080) return move(prologue, (code & 0x7f) * 4) // sub sp, #imm
  if ((code & 0xff00) === 0xaf00) return keep(prologue, R7, (code & 0xff) * 4) // add r7, sp, #imm
  if (code === 0x466f) return keep(prologue, R7, 0) // mov r7, sp
  if ((code & 0xff00) === 0xbc00 || (code & 0xff00) === 0xbd00 || (code & 0xff80) === 0xb000) return 'end' // pop; add sp, #imm
  if ((code & 0xf800) === 0xe000 || (code & 0xff00) === 0x4700) return 'end' // b; bx, blx
  return 'same'
}

function thumb32(prologue: Prologue, code: number, second: number): Step {
  if (code === 0xe92d) return push(prologue, second) // stmdb sp!, {...}
  if (code === 0xf84d && (second & 0x0fff) === 0x0d04) return push(prologue, 1 << (second >>> 12)) // str rt, [sp, #-4]!
  if ((code & 0xffbf) === 0xed2d && (second & 0x0e00) === 0x0a00) return move(prologue, (second & 0xff) * 4) // vpush
  if ((code & 0xfbff) === 0xf1ad && (second & 0x8f00) === 0x0d00) return move(prologue, thumbImmediate(((code & 0x400) << 1) | ((second & 0x7000) >>> 4) | (second & 0xff))) // sub.w sp, sp, #const
  if ((code & 0xfbff) === 0xf2ad && (second & 0x8f00) === 0x0d00) return move(prologue, ((code & 0x400) << 1) | ((second & 0x7000) >>> 4) | (second & 0xff)) // subw sp, sp, #imm12
  if ((code & 0xf800) === 0xf000 && (second & 0xc000) === 0xc000) return 'end' // bl, blx
  if ((code & 0xf800) === 0xf000 && (second & 0xd000) === 0x9000) return 'end' // b.w
  return code === 0xe8bd ? 'end' : 'same' // ldmia sp!, {...}
}

/** ThumbExpandImm (A5.3.2). */
function thumbImmediate(value: number): number {
  const byte = value & 0xff
  if (value >>> 10 !== 0) {
    const rotation = value >>> 7
    const unrotated = 0x80 | (value & 0x7f)
    return ((unrotated >>> rotation) | (unrotated << (32 - rotation))) >>> 0
  }
  return [byte, byte * 0x10001, byte * 0x1000100, byte * 0x1010101][(value >>> 8) & 3]!
}

function arm(prologue: Prologue, code: number): Step {
  const high = code >>> 16
  if (high === 0xe92d) return push(prologue, code & 0xffff) // stmdb sp!, {...}
  if (((code & 0xffff0fff) >>> 0) === 0xe52d0004) return push(prologue, 1 << ((code >>> 12) & 15)) // str rt, [sp, #-4]!
  if (((code & 0xffbf0e00) >>> 0) === 0xed2d0a00) return move(prologue, (code & 0xff) * 4) // vpush
  if (((code & 0xfffff000) >>> 0) === 0xe24dd000) return move(prologue, armImmediate(code)) // sub sp, sp, #const
  if (((code & 0xfffff000) >>> 0) === 0xe28db000) return keep(prologue, R11, armImmediate(code)) // add r11, sp, #const
  if (((code & 0xfe000000) >>> 0) === 0xea000000 || ((code & 0x0fffffd0) >>> 0) === 0x012fff10 || high === 0xe8bd) return 'end' // b, bl; bx, blx; pop
  return 'same'
}

function armImmediate(code: number): number {
  const rotation = ((code >>> 8) & 15) * 2
  const byte = code & 0xff
  return rotation === 0 ? byte : ((byte >>> rotation) | (byte << (32 - rotation))) >>> 0
}
