/**
 * .eh_frame and .debug_frame: how to find a function's caller from any of its instructions (DWARF 5, section 6.4; the LSB's
 * chapter on exception frames), as the rules of Breakpad's STACK CFI records.
 *
 *   entry = length id:offset (CIE | FDE)
 *   CIE   = version:u8 augmentation:text [v4: address-size:u8 segment-size:u8] code-align:uleb data-align:sleb
 *           return-register:(v1: u8, else uleb) ['z': length:uleb augmentation data] *instruction
 *   FDE   = start length ['z': length:uleb data] *instruction
 *
 * The id tells them apart: of a CIE it is 0 (.eh_frame) or all ones (.debug_frame), of an FDE it leads to its CIE: backwards
 * from here, or from the section's start. Instructions are a machine over rules by register; each place where rules
 * change becomes a row with what changed. A register that gets back the value that it had has the rule `$rbx: $rbx`.
 */
import type { Strings } from '../strings.ts'
import { Growing } from '../growing.ts'
import { NONE, SECTIONS } from '../tables.ts'
import type { ElfImage } from '../elf/elf.ts'
import { sectionOffset } from '../elf/symbols.ts'
import { Cursor } from './cursor.ts'
import { translate } from './expression.ts'
import { readPointer, type PointerContext } from './pointer.ts'
import { registerNames } from './registers.ts'

export interface UnwindRows { cfi: Growing; deltas: Growing }
export const createUnwindRows = (deltas: Growing): UnwindRows => ({ cfi: new Growing(SECTIONS.cfi), deltas })

const MOST_ROWS = 20_000_000
const MOST_CIES = 65_536
const DEEPEST_REMEMBERED = 64

const CFA = {
  advance: 0x40, offset: 0x80, restore: 0xc0, nop: 0x00, setLoc: 0x01, advance1: 0x02, advance2: 0x03, advance4: 0x04, offsetExtended: 0x05, restoreExtended: 0x06,
  undefined: 0x07, sameValue: 0x08, register: 0x09, remember: 0x0a, restoreState: 0x0b, defCfa: 0x0c, defCfaRegister: 0x0d, defCfaOffset: 0x0e, defCfaExpression: 0x0f,
  expression: 0x10, offsetExtendedSf: 0x11, defCfaSf: 0x12, defCfaOffsetSf: 0x13, valOffset: 0x14, valOffsetSf: 0x15, valExpression: 0x16, negateRaState: 0x2d,
  argsSize: 0x2e, negativeOffset: 0x2f,
} as const

interface Cie { context: PointerContext; codeAlign: number; dataAlign: number; returnRegister: number; hasData: boolean; instructions: number; end: number }

/** `.cfa` and each register's rule, by name; without a rule a register keeps its value. */
interface Rules { cfaRegister: string | null; cfaOffset: number; cfa: string | null; registers: Map<string, string> }

export function readFrames(image: ElfImage, sectionName: '.eh_frame' | '.debug_frame', strings: Strings, rows: UnwindRows): void {
  const section = image.find(sectionName)
  const bytes = image.content(section)
  const names = registerNames(image.cpu)
  if (section === null || bytes === null || names.length === 0) return
  const isEh = sectionName === '.eh_frame'
  const cursor = new Cursor(bytes, sectionName)
  const cies = new Map<number, Cie | null>()
  const place = sectionOffset(image, section)
  while (cursor.at < cursor.end) {
    const { length, offsetSize } = cursor.initialLength()
    // A length of 0 ends .eh_frame; a linker may have put more behind it.
    if (length === 0) continue
    const idAt = cursor.at
    const end = idAt + length
    if (end > cursor.end) cursor.malformed(`entry of ${length} bytes`)
    const id = cursor.unsigned(isEh ? 4 : offsetSize)
    const isCie = isEh ? id === 0 : id === 0xffff_ffff || id >= 2 ** 63
    if (!isCie) {
      const cieAt = isEh ? idAt - id : id
      let cie = cies.get(cieAt)
      if (cie === undefined && cies.size < MOST_CIES) cies.set(cieAt, cie = readCie(new Cursor(bytes, sectionName, cieAt), image, isEh, place))
      if (cie) readFde(new Cursor(bytes, sectionName, cursor.at, end), end, cie, image, names, strings, rows)
    }
    cursor.seek(end)
  }
}

function readCie(cursor: Cursor, image: ElfImage, isEh: boolean, place: number): Cie | null {
  const { length, offsetSize } = cursor.initialLength()
  const end = cursor.at + length
  if (end > cursor.end) cursor.malformed(`entry of ${length} bytes`)
  cursor.unsigned(isEh ? 4 : offsetSize)
  const version = cursor.u8()
  const augmentation = cursor.text()
  const context: PointerContext = { space: image.space, encoding: 0, size: image.width, place }
  if (version !== 1 && version !== 3 && version !== 4) return null
  if (version === 4) {
    const size = cursor.u8()
    cursor.u8()
    if (size !== 4 && size !== 8) return null
    context.size = size
  }
  const [codeAlign, dataAlign] = [cursor.uleb(), cursor.sleb()]
  const returnRegister = version === 1 ? cursor.u8() : cursor.uleb()
  const hasData = augmentation.startsWith('z')
  // Without 'z' only the letters themselves are known, and GCC 2's "eh" has a pointer behind them.
  if (augmentation !== '' && !hasData) return null
  let instructions = cursor.at
  if (hasData) {
    const size = cursor.uleb()
    instructions = cursor.at + size
    for (const letter of augmentation.slice(1)) {
      if (letter === 'R') context.encoding = cursor.u8()
      else if (letter === 'L') cursor.u8()
      else if (letter === 'P') readPointer(cursor, { ...context, encoding: cursor.u8() & 0x7f })
      else if (letter !== 'S' && letter !== 'B' && letter !== 'G') return null
    }
  }
  return instructions > end ? null : { context, codeAlign, dataAlign, returnRegister, hasData, instructions, end }
}

function readFde(cursor: Cursor, end: number, cie: Cie, image: ElfImage, names: readonly string[], strings: Strings, rows: UnwindRows): void {
  const start = readPointer(cursor, cie.context)
  // The length has the pointer's size, and is relative to nothing.
  const length = readPointer(cursor, { ...cie.context, encoding: cie.context.encoding & 0x0f, isLength: true })
  const codeEnd = start >= 0 ? image.space.codeEnd(start) : 0
  if (codeEnd === 0 || !(length > 0)) return
  if (cie.hasData) cursor.skip(cursor.uleb())
  const stop = Math.min(start + length, codeEnd)
  const machine = new Machine(cie, names, image, strings, rows)
  machine.begin(start, cursor)
  const row = rows.cfi.count
  const first = rows.deltas.count
  rows.cfi.push(start, stop - start, machine.initial(), first, first)
  machine.run(cursor, end, stop)
  rows.cfi.set(row, 4, rows.deltas.count)
  if (rows.deltas.count > MOST_ROWS) cursor.malformed(`more than ${MOST_ROWS} rules`)
}

class Machine {
  private readonly cie: Cie
  private readonly names: readonly string[]
  private readonly image: ElfImage
  private readonly strings: Strings
  private readonly rows: UnwindRows
  private readonly remembered: Rules[] = []
  private rules: Rules = { cfaRegister: null, cfaOffset: 0, cfa: null, registers: new Map() }
  private start: Rules = this.rules
  private written = new Map<string, string>()
  private location = 0

  constructor(cie: Cie, names: readonly string[], image: ElfImage, strings: Strings, rows: UnwindRows) {
    this.cie = cie
    this.names = names
    this.image = image
    this.strings = strings
    this.rows = rows
  }

  /** Runs the CIE's instructions, which every function of its kind begins with. */
  begin(location: number, cursor: Cursor): void {
    this.location = location
    this.execute(new Cursor(cursor.bytes, 'CIE', this.cie.instructions, this.cie.end), this.cie.end, NONE)
    this.start = copy(this.rules)
    this.rules = copy(this.rules)
  }

  /** The rules that hold at the function's first instruction: those of the CIE. */
  initial(): number {
    this.written = this.current()
    return this.strings.add(Array.from(this.written, ([name, rule]) => `${name}: ${rule}`).join(' '))
  }

  run(cursor: Cursor, end: number, stop: number): void {
    this.execute(cursor, end, stop)
    this.write()
  }

  private execute(cursor: Cursor, end: number, stop: number): void {
    const { cie } = this
    while (cursor.at < end) {
      const opcode = cursor.u8()
      const operand = opcode & 0x3f
      switch (opcode & 0xc0) {
        case CFA.advance: this.advance(operand * cie.codeAlign); break
        case CFA.offset: this.saveAt(operand, cursor.uleb() * cie.dataAlign); break
        case CFA.restore: this.restore(operand); break
        default: if (!this.extended(opcode, cursor)) return
      }
      if (this.location >= stop) return
    }
  }

  /** false for an instruction that is not known: what follows can't be read. */
  private extended(opcode: number, cursor: Cursor): boolean {
    const { cie, rules } = this
    switch (opcode) {
      case CFA.nop: case CFA.negateRaState: return true
      case CFA.setLoc: {
        const location = readPointer(cursor, cie.context)
        if (!(location >= this.location)) return false
        this.advance(location - this.location)
        return true
      }
      case CFA.advance1: this.advance(cursor.u8() * cie.codeAlign); return true
      case CFA.advance2: this.advance(cursor.u16() * cie.codeAlign); return true
      case CFA.advance4: this.advance(cursor.u32() * cie.codeAlign); return true
      case CFA.offsetExtended: this.saveAt(cursor.uleb(), cursor.uleb() * cie.dataAlign); return true
      case CFA.offsetExtendedSf: this.saveAt(cursor.uleb(), cursor.sleb() * cie.dataAlign); return true
      case CFA.negativeOffset: this.saveAt(cursor.uleb(), -cursor.uleb() * cie.dataAlign); return true
      case CFA.restoreExtended: this.restore(cursor.uleb()); return true
      case CFA.undefined: this.set(cursor.uleb(), '.undef'); return true
      case CFA.sameValue: this.forget(cursor.uleb()); return true
      case CFA.register: { const register = cursor.uleb(); this.set(register, this.names[cursor.uleb()] ?? '.undef'); return true }
      case CFA.remember:
        if (this.remembered.length < DEEPEST_REMEMBERED) this.remembered.push(copy(rules))
        return true
      case CFA.restoreState: {
        const state = this.remembered.pop()
        if (state) this.rules = state
        return state !== undefined
      }
      case CFA.defCfa: this.defineCfa(this.names[cursor.uleb()] ?? null, cursor.uleb()); return true
      case CFA.defCfaSf: this.defineCfa(this.names[cursor.uleb()] ?? null, cursor.sleb() * cie.dataAlign); return true
      case CFA.defCfaRegister: this.defineCfa(this.names[cursor.uleb()] ?? null, rules.cfaOffset); return true
      case CFA.defCfaOffset: this.defineCfa(rules.cfaRegister, cursor.uleb()); return true
      case CFA.defCfaOffsetSf: this.defineCfa(rules.cfaRegister, cursor.sleb() * cie.dataAlign); return true
      case CFA.defCfaExpression: rules.cfa = this.expression(cursor, null); return true
      case CFA.expression: { const register = cursor.uleb(); const at = this.expression(cursor, '.cfa'); this.set(register, at === null ? '.undef' : `${at} ^`); return true }
      case CFA.valExpression: { const register = cursor.uleb(); this.set(register, this.expression(cursor, '.cfa') ?? '.undef'); return true }
      case CFA.valOffset: this.set(cursor.uleb(), `.cfa ${cursor.uleb() * cie.dataAlign} +`); return true
      case CFA.valOffsetSf: this.set(cursor.uleb(), `.cfa ${cursor.sleb() * cie.dataAlign} +`); return true
      case CFA.argsSize: cursor.uleb(); return true
      default: return false
    }
  }

  private expression(cursor: Cursor, first: string | null): string | null {
    const size = cursor.uleb()
    const end = cursor.at + size
    if (end > cursor.end) cursor.malformed(`expression of ${size} bytes`)
    const text = translate(cursor, end, this.names, this.image.width, first)
    cursor.seek(end)
    return text
  }

  private advance(by: number): void {
    if (by === 0) return
    this.write()
    this.location += by
  }

  private defineCfa(register: string | null, offset: number): void {
    Object.assign(this.rules, { cfaRegister: register, cfaOffset: offset, cfa: register === null ? null : `${register} ${offset} +` })
  }

  private saveAt(register: number, offset: number): void {
    this.set(register, `.cfa ${offset} + ^`)
  }

  private set(register: number, rule: string): void {
    const name = this.nameOf(register)
    if (name !== undefined) this.rules.registers.set(name, rule)
  }

  private forget(register: number): void {
    const name = this.nameOf(register)
    if (name !== undefined) this.rules.registers.delete(name)
  }

  private restore(register: number): void {
    const name = this.nameOf(register)
    if (name === undefined) return
    const rule = this.start.registers.get(name)
    if (rule === undefined) this.rules.registers.delete(name)
    else this.rules.registers.set(name, rule)
  }

  private nameOf(register: number): string | undefined {
    return register === this.cie.returnRegister ? '.ra' : this.names[register]
  }

  private current(): Map<string, string> {
    const { cfa, registers } = this.rules
    const all = new Map([['.cfa', cfa ?? '.undef'], ...registers])
    // Where no rule says otherwise, the return address is where the call left it.
    if (!all.has('.ra')) all.set('.ra', this.names[this.cie.returnRegister] ?? '.undef')
    return all
  }

  /** What has changed since the last row, as a row that holds from here on. */
  private write(): void {
    const current = this.current()
    const changes: string[] = []
    for (const [name, rule] of current) if (this.written.get(name) !== rule) changes.push(`${name}: ${rule}`)
    for (const name of this.written.keys()) if (!current.has(name)) changes.push(`${name}: ${name}`)
    if (changes.length === 0) return
    this.rows.deltas.push(this.location, this.strings.add(changes.join(' ')))
    for (const name of this.written.keys()) if (!current.has(name)) current.set(name, name)
    this.written = current
  }
}

const copy = (rules: Rules): Rules => ({ ...rules, registers: new Map(rules.registers) })
