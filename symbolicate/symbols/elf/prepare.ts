/**
 * An ELF file becomes prepared symbols: the tables that a Breakpad file becomes, made from its DWARF, symbol table and unwind
 * tables. Files that belong together are read as one: a stripped program has the unwind tables, its debug file the lines.
 *
 * What covers an address, the first that does:
 *   functions   DWARF's; then the symbol table's functions, with the lines that DWARF has for them (assembly)
 *   names       labels and functions without a size
 *   unwinding   .debug_frame, .eh_frame, then .ARM.exidx, which is only true at calls, then what ARM functions begin with
 * DWARF that is damaged half-way gives what came before it, and a problem that says so.
 */
import { messageOf } from '../../../infra/service/errors.ts'
import { InputError } from '../../reader.ts'
import { readArmExidx } from '../dwarf/arm-exidx.ts'
import { armPrologues, type ArmPrologue, readArmPrologues } from '../dwarf/arm-prologue.ts'
import { Cursor } from '../dwarf/cursor.ts'
import { createUnwindRows, readFrames, type UnwindRows } from '../dwarf/frames.ts'
import { collectFunctions, createCollected } from '../dwarf/functions.ts'
import { isSplit, splitUnits } from '../dwarf/split.ts'
import { openDebugInfo, type DebugInfo, type DwarfSections, type Unit } from '../dwarf/units.ts'
import { Growing } from '../growing.ts'
import { Strings } from '../strings.ts'
import { dropOverlaps, lastRow, NONE, SECTIONS, sortRows, type Tables, uniquePublics } from '../tables.ts'
import { readCode } from './code.ts'
import { FLAG, openElf, type ElfImage } from './elf.ts'
import { buildIdOf, debugAltLink, debugIdOfBuild, debugIdOfCode, imageDigests } from './identity.ts'
import type { Space } from './space.ts'
import { readSymbols, symbolAt, type ElfSymbols } from './symbols.ts'
import { readThreadInfo } from './thread-info.ts'

export interface ElfFile { name: string; bytes: Uint8Array }

export interface ElfPrepared {
  tables: Tables
  buildId: string | null
  debugId: string
  /** Of the image in flash: what a DICE certificate may name it by. */
  digests: string[]
  arch: string
  problems: string[]
}

/** `others` belong to the first: debug files, and what dwz took out of several. */
export function prepareElf(first: ElfFile, others: readonly ElfFile[] = []): ElfPrepared | { reason: string } {
  let image: ElfImage
  try {
    image = openElf(first.bytes)
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    return { reason: error.message }
  }
  const problems: string[] = []
  const images = [image, ...others.flatMap((file) => openOther(file, image, problems))]
  const buildId = images.map((one) => attempt(problems, 'build id', () => buildIdOf(one))).find((id) => id != null) ?? null
  const debugId = buildId === null ? attempt(problems, '.text', () => debugIdOfCode(image)) : debugIdOfBuild(buildId)
  if (debugId == null) return { reason: 'ELF file: neither a build id nor code, so nothing tells which build it is' }
  const tables = buildTables(images, problems, { debugId, name: first.name })
  const digests = attempt(problems, 'flash image', () => imageDigests(image)) ?? []
  return { tables, buildId, debugId, digests, arch: image.cpu, problems }
}

function openOther({ name, bytes }: ElfFile, image: ElfImage, problems: string[]): ElfImage[] {
  const other = attempt(problems, name, () => openElf(bytes))
  if (!other) return []
  // A file without code (of dwz, .dwo) lies nowhere.
  if (other.machine === image.machine && (other.space.base === image.space.base || !other.sections.some(({ flags }) => (flags & FLAG.executable) !== 0))) return [other]
  problems.push(`${name}: for another machine or address`)
  return []
}

function buildTables(images: readonly ElfImage[], problems: string[], { debugId, name }: { debugId: string; name: string }): Tables {
  const [image] = images
  const strings = new Strings()
  const base = image!.space.base
  const identity = Uint32Array.of(...[`elf`, image!.cpu, debugId, name].map((text) => strings.add(text)), Number(base & 0xffff_ffffn), Number(base >> 32n))
  // The symbols first: whether address 0 is code is told by them.
  // A stripped program still has the few that it exports, its debug file has all.
  const symbols = images.map((one) => attempt(problems, 'symbol table', () => readSymbols(one)) ?? NO_SYMBOLS).reduce((most, found) => (found.starts.length > most.starts.length ? found : most))
  const mangledAt = (start: number): string | null => {
    const symbol = symbolAt(symbols, start)
    return symbol !== null && /^(?:_Z|_R)/.test(symbol) ? symbol : null
  }
  const collected = createCollected()
  const split = new Map<string, (skeleton: Unit) => DebugInfo>()
  for (const one of images.filter(isSplit)) attempt(problems, 'split DWARF', () => splitUnits(one, split))
  const absent = new Set<string>()
  const openSplit = (skeleton: Unit): DebugInfo | null => {
    const open = split.get(skeleton.dwoId ?? '')
    if (!open) absent.add(skeleton.dwoName ?? '')
    return open?.(skeleton) ?? null
  }
  for (const one of images) {
    attempt(problems, 'DWARF', () => {
      const info = debugInfoOf(one, sharedWith(one, images, problems))
      if (info !== null) collectFunctions(info, strings, collected, mangledAt, openSplit)
    })
  }
  if (absent.size > 0) problems.push(`split DWARF: ${absent.size} files that hold functions and inlined calls are not here (${[...absent].slice(0, 3).join(', ')})`)
  const lines = orderedLines(collected.lines)
  const covered = ordered(collected.functions.done(), SECTIONS.functions)
  const functions = withSymbols(covered, symbols, lines, image!.space, strings)
  giveLines(functions, lines)
  const { cfi, deltas } = unwindTables(images, symbols, strings, problems)
  return {
    identity, functions, lines, inlines: collected.inlines.done(), publics: labels(functions, symbols, strings), cfi, deltas,
    programs: new Uint32Array(), fpo: new Uint32Array(), ...(attempt(problems, 'code', () => readCode(images)) ?? NO_CODE),
    threadInfo: attempt(problems, 'thread info', () => readThreadInfo(images)) ?? new Uint32Array(), ...strings.done(),
  }
}

const NO_CODE = { codeRanges: new Uint32Array(), code: new Uint32Array() }
const NO_SYMBOLS: ElfSymbols = { starts: new Uint32Array(), sizes: new Uint32Array(), names: [], labels: [], thumb: new Uint8Array() }

/** What dwz took out of this file, if its debugging information says so and it is at hand. */
function sharedWith(image: ElfImage, images: readonly ElfImage[], problems: string[]): DebugInfo | null {
  const link = attempt(problems, '.gnu_debugaltlink', () => debugAltLink(image))
  if (!link) return null
  const shared = images.find((one) => one !== image && attempt(problems, 'build id', () => buildIdOf(one)) === link.buildId)
  if (!shared) problems.push(`.gnu_debugaltlink: ${link.name} (build id ${link.buildId}) is not here: names that several programs share are missing`)
  return shared ? debugInfoOf(shared, null) : null
}

function debugInfoOf(image: ElfImage, alt: DebugInfo | null): DebugInfo | null {
  const section = (name: string): Cursor | null => {
    const bytes = image.read(`.debug_${name}`)
    return bytes && new Cursor(bytes, `.debug_${name}`)
  }
  const [info, abbrev] = [image.read('.debug_info'), image.read('.debug_abbrev')]
  if (info === null || abbrev === null) return null
  const sections: DwarfSections = {
    info, abbrev, line: section('line'), str: section('str'), lineStr: section('line_str'), strOffsets: section('str_offsets'), addr: section('addr'),
    ranges: section('ranges'), rnglists: section('rnglists'),
  }
  return openDebugInfo(sections, image.space, alt)
}

/** Sorted by start; of functions that overlap the first stays (one body for several that are equal). */
function ordered(rows: Uint32Array, stride: number): Uint32Array {
  sortRows(rows, stride, [0, 1])
  return rows.subarray(0, dropOverlaps(rows, stride) * stride)
}

/** Sequences ascend, so they are put in order as a whole; rows are only sorted where two overlap. */
function orderedLines({ rows, sequences }: ReturnType<typeof createCollected>['lines']): Uint32Array {
  const order = sequences.done()
  sortRows(order, 3, [0, 1])
  const source = rows.done()
  const lines = new Uint32Array(source.length)
  let at = 0
  for (let index = 0; index < order.length; index += 3) {
    const sequence = source.subarray(order[index + 1]! * SECTIONS.lines, order[index + 2]! * SECTIONS.lines)
    lines.set(sequence, at)
    at += sequence.length
  }
  sortRows(lines, SECTIONS.lines, [0])
  return lines.subarray(0, dropOverlaps(lines, SECTIONS.lines) * SECTIONS.lines)
}

/** Functions that only the symbol table knows, where DWARF has none; cut off where the next begins. */
function withSymbols(functions: Uint32Array, symbols: ElfSymbols, lines: Uint32Array, space: Space, strings: Strings): Uint32Array {
  const { starts, names } = symbols
  const added = new Growing(SECTIONS.functions)
  let end = 0
  for (let index = 0; index < starts.length; index++) {
    const start = starts[index]!
    const size = sizeOf(symbols, index, lines, space)
    const before = lastRow(functions, SECTIONS.functions, start)
    const nextStart = functions[(before + 1) * SECTIONS.functions] ?? NONE
    const isCovered = before >= 0 && start < functions[before * SECTIONS.functions]! + functions[before * SECTIONS.functions + 1]!
    if (size === 0 || start < end || isCovered) continue
    end = Math.min(start + size, nextStart)
    added.push(start, end - start, strings.add(names[index]!), 0, 0, 0, 0)
  }
  return merged(functions, added.done(), SECTIONS.functions)
}

/** A function without a size reaches to the next symbol, if it has lines. */
function sizeOf({ starts, sizes, labels }: ElfSymbols, index: number, lines: Uint32Array, space: Space): number {
  const start = starts[index]!
  if (sizes[index] !== 0 || labels[index]) return sizes[index]!
  const line = lastRow(lines, SECTIONS.lines, start) * SECTIONS.lines
  const hasLines = line >= 0 && start < lines[line]! + lines[line + 1]!
  return hasLines ? Math.min(starts[index + 1] ?? NONE, space.codeEnd(start)) - start : 0
}

/** Two tables that don't overlap. */
function merged(one: Uint32Array, other: Uint32Array, stride: number): Uint32Array {
  if (other.length === 0) return one.slice()
  const all = new Uint32Array(one.length + other.length)
  all.set(one)
  all.set(other, one.length)
  sortRows(all, stride, [0])
  return all
}

/** Lines are in one order, so those of a function are one stretch; the first may begin before it. */
function giveLines(functions: Uint32Array, lines: Uint32Array): void {
  for (let at = 0; at < functions.length; at += SECTIONS.functions) {
    const [start, size] = [functions[at]!, functions[at + 1]!]
    functions[at + 3] = Math.max(0, lastRow(lines, SECTIONS.lines, start))
    functions[at + 4] = Math.max(functions[at + 3]!, lastRow(lines, SECTIONS.lines, start + size - 1) + 1)
  }
}

function labels(functions: Uint32Array, { starts, sizes, names }: ElfSymbols, strings: Strings): Uint32Array {
  const publics = new Growing(SECTIONS.publics)
  for (let index = 0; index < starts.length; index++) {
    if (sizes[index] !== 0) continue
    const at = lastRow(functions, SECTIONS.functions, starts[index]!) * SECTIONS.functions
    if (at < 0 || starts[index]! >= functions[at]! + functions[at + 1]!) publics.push(starts[index]!, strings.add(names[index]!))
  }
  return uniquePublics(publics.done(), strings)
}

function unwindTables(images: readonly ElfImage[], symbols: ElfSymbols, strings: Strings, problems: string[]): { cfi: Uint32Array; deltas: Uint32Array } {
  const deltas = new Growing(SECTIONS.deltas)
  let cfi: Uint32Array = new Uint32Array()
  const found = new Map<ElfImage, ArmPrologue[]>()
  const prologues = (image: ElfImage): ArmPrologue[] => {
    const known = found.get(image) ?? armPrologues(image, symbols)
    found.set(image, known)
    return known
  }
  const sources: ((image: ElfImage, into: UnwindRows) => void)[] = [
    (image, into) => readFrames(image, '.debug_frame', strings, into), (image, into) => readFrames(image, '.eh_frame', strings, into), (image, into) => readArmExidx(image, prologues(image), strings, into), (image, into) => readArmPrologues(prologues(image), strings, into),
  ]
  for (const read of sources) {
    const rows = createUnwindRows(deltas)
    for (const image of images) attempt(problems, 'unwind tables', () => read(image, rows))
    cfi = fillGaps(cfi, ordered(rows.cfi.done(), SECTIONS.cfi), SECTIONS.cfi)
  }
  return { cfi, deltas: deltas.done().slice() }
}

/** `one`, and of the other those rows that begin where it has none, up to where it has. */
function fillGaps(one: Uint32Array, other: Uint32Array, stride: number): Uint32Array {
  const added = new Growing(stride)
  for (let at = 0; at < other.length; at += stride) {
    const start = other[at]!
    const before = lastRow(one, stride, start)
    if (before >= 0 && start < one[before * stride]! + one[before * stride + 1]!) continue
    const end = Math.min(start + other[at + 1]!, one[(before + 1) * stride] ?? NONE)
    added.push(start, end - start, ...other.subarray(at + 2, at + stride))
  }
  return merged(one, added.done(), stride)
}

/** null when it is damaged: the rest of the file is still of use. */
function attempt<T>(problems: string[], what: string, work: () => T): T | null {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    problems.push(`${what}: ${messageOf(error)}`)
    return null
  }
}
