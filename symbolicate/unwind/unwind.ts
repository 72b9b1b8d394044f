/**
 * Walks one thread's stack, from the frame that the registers describe to the thread's entry. For each frame the caller
 * is looked for by the most trustworthy means that gives an answer:
 *
 *   cfi            the symbol file's call-frame rules (on 32-bit Windows its frame data); and where those can't be, the rule
 *                  that holds at the first instruction of every function: the return address is at [sp] or in lr
 *   frame_pointer  the chain of saved frame pointers
 *   scan           the next word on the stack that points into known code
 *
 * Order, ranges and validation follow Breakpad and rust-minidump, so that stacks can be compared frame by frame. Where
 * this unwinder knows better it says so here:
 *   - A jump to a wild address (a call through a corrupted pointer): both peers try the frame pointer first and lose the
 *     function that made the call. The entry rule is tried first, when the word points behind a call.
 *   - The walk stops at the program's entry instead of scanning on.
 *   - A scanned word whose only name is a far-away PUBLIC without call-frame rules points at data, and is passed over.
 *   - Recursion is folded and frames are capped.
 * A frame's symbols are looked up at the instruction, for callers a byte inside of the call: the return address may be one
 * past the function when the callee never returns.
 */
import type { Trust } from '../contract.ts'
import type { Dump, DumpThread } from '../formats/dump.ts'
import type { ModuleSymbols } from '../symbols/source.ts'
import { type Arch, type Cursor, emptyRegisters, type Registers, wrap } from './arch/arch.ts'
import { archOf } from './arch/choice.ts'
import { callerByCfi } from './breakpad-cfi.ts'
import { pointsBehindCall } from './call-site.ts'
import { isEntry } from './entry.ts'
import { type Frame, type Stack, UNWIND_BUDGET, type UnwindBudget } from './frame.ts'
import { createModuleMap, type ModuleMap } from './module-map.ts'
import { type Known, knownAt, UNKNOWN } from './places.ts'
import { foldRecursion } from './recursion.ts'
import { callerByWindowsFrame } from './windows-frame.ts'
import { openStack, type StackWindow } from './stack.ts'

/** Words that a scan looks at; the frame that crashed is often in disorder and gets more. */
const SCAN_WORDS_FIRST = 160
/** Most functions are shorter: a link register that points this close, where nothing is known, is stale. */
const NEAR = 4096n
const MOST_STORED_ARGUMENTS = 8
const LOOK_AHEAD = 4
/** Handlers that interrupt handlers: as many as a processor has priorities, and no more. */
const MOST_EXCEPTIONS = 16

/** The symbols of a module of the dump; null when there are none. */
export type SymbolsOf = (module: number) => Promise<ModuleSymbols | null>

/** For the threads of one dump: they share the budget, and what is known of a place in a module. */
export function createUnwinder(dump: Dump, symbolsOf: SymbolsOf, budget: UnwindBudget = UNWIND_BUDGET): (thread: DumpThread) => Promise<Stack> {
  const arch = archOf(dump.cpu, dump.os)
  const shared: Shared = { dump, modules: createModuleMap(dump.modules), symbols: new Map(), left: { ...budget }, known: new Map() }

  return async function unwind(thread) {
    if (isSpent(shared.left)) return { frames: [], omitted: 0, end: 'budget' }
    const registers = arch && thread.registers && fromDump(arch, thread.registers)
    if (!arch || !registers || (registers[arch.ip] == null && registers[arch.sp] == null)) return { frames: [], omitted: 0, end: 'no-registers' }
    const walk = new Walk(shared, arch, openStack(dump, thread, registers[arch.sp] ?? 0n, arch.width), { registers, isContext: true })
    const goOn = (): Stack['end'] | SymbolsWanted => walk.untilWanted(() => (thread.given ? walk.list(thread.given) : walk.run()))
    let end = goOn()
    for (; end instanceof SymbolsWanted; end = goOn()) shared.symbols.set(end.module, await symbolsOf(end.module))
    const { frames, omitted } = foldRecursion(walk.frames)
    const kept = frames.slice(0, budget.kept)
    const cut = frames.length - kept.length
    return { frames: kept, omitted: omitted + cut, end: cut > 0 && end !== 'budget' ? 'frame-cap' : end }
  }
}

const isSpent = (left: UnwindBudget): boolean => left.walked <= 0 || left.candidates <= 0 || left.places <= 0

function fromDump(arch: Arch, registers: Map<string, bigint>): Registers {
  const all = emptyRegisters(arch)
  arch.names.forEach((name, index) => { all[index] = registers.get(name) ?? null })
  return all
}

/** `interrupted`: no call led there, the program counter is the instruction itself. */
interface Caller { registers: Registers; trust: Trust; interrupted?: boolean }
interface Place { module: number | null; offset: number }

/** What the threads of a dump have in common. `left` is used up; `known` is bounded by it. */
interface Shared { dump: Dump; modules: ModuleMap; symbols: Map<number, ModuleSymbols | null>; left: UnwindBudget; known: Map<number, Known> }

/**
 * Thrown where the symbols of a module are needed that nobody has asked for yet: the walk stops, and once they are there the
 * same step is done again. That happens once for each module, and all other steps never wait: to wait at each look-up, for
 * what was nearly always known, took more time than the walk. No Error, whose trace of the stack would cost a tenth of it.
 */
class SymbolsWanted {
  readonly module: number

  constructor(module: number) {
    this.module = module
  }
}

class Walk {
  readonly frames: Frame[] = []
  private readonly shared: Shared
  private readonly arch: Arch
  private readonly stack: StackWindow
  private exceptions = 0
  /** The frame that comes next, or whose caller does: it stands as the last of `frames` when `isPushed`. */
  private cursor: Cursor
  private trust: Trust = 'context'
  private isPushed = false
  /** Of the budget, at the beginning of a step. */
  private candidates = 0

  constructor(shared: Shared, arch: Arch, stack: StackWindow, first: Cursor) {
    this.shared = shared
    this.arch = arch
    this.stack = stack
    this.cursor = first
  }

  untilWanted(walk: () => Stack['end']): Stack['end'] | SymbolsWanted {
    try {
      return walk()
    } catch (error) {
      if (!(error instanceof SymbolsWanted)) throw error
      this.shared.left.candidates = this.candidates
      return error
    }
  }

  /** Goes on where it stopped. */
  run(): Stack['end'] {
    const { left } = this.shared
    this.candidates = left.candidates
    if (this.cursor.registers[this.arch.ip] === null) {
      const found = this.byScan(this.cursor)
      if (found === null) return 'no-registers'
      this.cursor = { registers: found.registers, isContext: false }
      this.trust = found.trust
    }
    for (;;) {
      this.candidates = left.candidates
      if (!this.isPushed) {
        this.push(this.cursor, this.trust)
        this.isPushed = true
        left.walked--
      }
      if (isSpent(left)) return 'budget'
      const { symbol } = this.frames.at(-1)!
      const atEntry = symbol !== null && !symbol.approximate && isEntry(symbol.function)
      const caller = this.caller(this.cursor, atEntry)
      if (caller === null) return isSpent(left) ? 'budget' : atEntry ? 'entry' : 'no-caller'
      this.cursor = { registers: caller.registers, isContext: caller.interrupted ?? false }
      this.trust = caller.trust
      this.isPushed = false
    }
  }

  /** Instructions that the device listed itself, innermost first; goes on where it stopped. */
  list(addresses: readonly bigint[]): Stack['end'] {
    const { left } = this.shared
    this.candidates = left.candidates
    for (const address of addresses.slice(this.frames.length)) {
      const registers = emptyRegisters(this.arch)
      registers[this.arch.ip] = address
      this.push({ registers, isContext: true }, this.frames.length === 0 ? 'context' : 'given')
      left.walked--
      if (isSpent(left)) return 'budget'
    }
    return 'no-caller'
  }

  private push(cursor: Cursor, trust: Trust): void {
    const address = this.instruction(cursor)
    const place = this.locate(address)
    const { symbol } = this.at(place)
    this.frames.push({ depth: this.frames.length, trust, ...place, address, symbol, repeats: 1 })
  }

  private caller(callee: Cursor, atEntry: boolean): Caller | null {
    const found = this.byEntryRule(callee) ?? this.byCfi(callee) ?? this.byLink(callee) ?? this.byFramePointer(callee) ?? (atEntry ? null : this.byScan(callee))
    const interrupted = found && this.interrupted(found.registers)
    if (interrupted) return { registers: interrupted, trust: 'cfi', interrupted: true }
    if (found === null || !this.goesOn(callee, found.registers)) return null
    // A program may have a function of its own called `start`: then its caller is found without guessing, and in code.
    return atEntry && !this.isReturnAddress(found.registers[this.arch.ip]!) ? null : found
  }

  /** Stacks grow down: a caller's stack pointer is higher. Only a leaf that keeps its return address in a register may leave it. */
  private goesOn(callee: Cursor, caller: Registers): boolean {
    const ip = caller[this.arch.ip] ?? 0n
    // A microcontroller's flash may begin at 0.
    if (ip < 2n || (ip < 4096n && this.locate(ip).module === null)) return false
    const before = callee.registers[this.arch.sp] ?? null
    const after = caller[this.arch.sp] ?? null
    if (before === null || after === null) return false
    return after > before || (after === before && callee.isContext && this.arch.link !== null)
  }

  /** Behind a handler stands the code that it interrupted, often on another stack: that its pointer is lower says nothing. */
  private interrupted(caller: Registers): Registers | null {
    const registers = this.arch.interrupted?.(caller, this.stack) ?? null
    return registers !== null && this.exceptions++ < MOST_EXCEPTIONS ? registers : null
  }

  /** A program counter outside of all code was jumped to: nothing has run there yet that could have moved the stack pointer. */
  private byEntryRule(callee: Cursor): Caller | null {
    const { arch } = this
    if (!callee.isContext || this.locate(this.instruction(callee)).module !== null) return null
    const entered = arch.beforeEntry?.(callee) ?? null
    if (entered !== null && this.isReturnAddress(entered[arch.ip]!)) return { registers: entered, trust: 'cfi' }
    const sp = callee.registers[arch.sp] ?? null
    const pushed = arch.link === null && sp !== null ? this.stack.word(sp) : null
    const returnAddress = arch.link === null ? pushed : (callee.registers[arch.link] ?? null)
    if (sp === null || returnAddress === null) return null
    const target = arch.strip(returnAddress)
    const behindCall = pointsBehindCall(this.shared.dump.memory, arch.cpu, target)
    if (behindCall === false || !this.isReturnAddress(target)) return null
    const registers = this.leafCaller(callee, target, arch.link === null ? sp + BigInt(arch.width) : sp)
    // Neither the code's bytes nor its symbols have confirmed it: then it is what a scan would have found.
    const { hasSymbols } = this.at(this.locate(target - 1n))
    return { registers, trust: behindCall || hasSymbols ? 'cfi' : 'scan' }
  }

  /**
   * ARM64 code without CFI: a leaf has pushed nothing, so the frame pointer's chain begins with its caller and lr is the
   * only trace of the direct one. After a call lr is stale and points into the function itself; in a function that has
   * pushed its frame and not called yet it repeats what is stored there.
   */
  private byLink(callee: Cursor): Caller | null {
    const { arch } = this
    if (!callee.isContext || arch.link === null) return null
    if (arch.linkIsKept) return this.byKeptLink(callee)
    if (arch.cpu !== 'arm64') return null
    const lr = callee.registers[arch.link] ?? null
    const fp = callee.registers[arch.names.indexOf('fp')] ?? null
    const sp = callee.registers[arch.sp] ?? null
    if (lr === null || fp === null || sp === null) return null
    const target = arch.strip(lr)
    const stored = this.stack.word(fp + BigInt(arch.width))
    if (stored === null || arch.strip(stored) === target || !this.isReturnAddress(target)) return null
    const here = this.instruction(callee)
    const [from, to] = [this.at(this.locate(here)).symbol, this.at(this.locate(target - arch.callSize)).symbol]
    const near = here - target < NEAR && target - here < NEAR
    const stale = from !== null && to !== null ? from.functionOffset === to.functionOffset && near : near
    return stale ? null : { registers: this.leafCaller(callee, target, sp), trust: 'frame_pointer' }
  }

  /** A small processor's leaf keeps lr; it says nothing where it points into the function itself, or where nothing is known and it is near. */
  private byKeptLink(callee: Cursor): Caller | null {
    const { arch } = this
    const [lr, sp, here] = [callee.registers[arch.link!] ?? null, callee.registers[arch.sp] ?? null, this.instruction(callee)]
    const place = this.locate(here)
    if (lr === null || sp === null || place.module === null || !this.isReturnAddress(lr)) return null
    const [from, to] = [this.at(place).symbol, this.at(this.locate(lr - arch.callSize)).symbol]
    const stale = from !== null && to !== null ? from.functionOffset === to.functionOffset : here - lr < NEAR && lr - here < NEAR
    return stale ? null : { registers: this.leafCaller(callee, lr, sp), trust: 'scan' }
  }

  /** The callee has changed no register that it must keep. */
  private leafCaller(callee: Cursor, ip: bigint, sp: bigint): Registers {
    const registers = emptyRegisters(this.arch)
    for (const index of this.arch.calleeSaved) registers[index] = callee.registers[index] ?? null
    registers[this.arch.ip] = ip
    registers[this.arch.sp] = sp
    return registers
  }

  private byCfi(callee: Cursor): Caller | null {
    if (this.arch.cpu === 'xtensa') return null
    const { rules, windows } = this.at(this.locate(this.instruction(callee)))
    const registers = (windows && callerByWindowsFrame(windows, this.arch, callee, this.pushedParameters(), this.stack))
      ?? (rules && callerByCfi(rules, this.arch, callee, this.stack))
    return registers && { registers, trust: 'cfi' }
  }

  /** What the frame before the newest one was called with still lies on the stack. */
  private pushedParameters(): number {
    const callee = this.frames.at(-2)
    return callee ? (this.at(callee).windows?.parameters ?? 0) : 0
  }

  private byFramePointer(callee: Cursor): Caller | null {
    const registers = this.arch.byFramePointer(callee, this.stack)
    return registers && { registers, trust: 'frame_pointer' }
  }

  private byScan(callee: Cursor): Caller | null {
    const sp = callee.registers[this.arch.sp] ?? null
    if (sp === null) return null
    const { modules, left } = this.shared
    let unlikely: Caller | null = null
    for (const { value, slot } of this.stack.words(sp, callee.isContext ? SCAN_WORDS_FIRST : this.arch.scanWords, (word) => modules.find(word) >= 0)) {
      if (--left.candidates <= 0) return null
      const address = BigInt(value)
      if (!this.isReturnAddress(address)) continue
      const found: Caller = { registers: this.arch.byScan(callee, this.stack, slot, address), trust: 'scan' }
      if (!this.arch.linkIsKept) return found
      const likely = this.thatLeadsToCode(found.registers)
      if (likely !== null) return { registers: likely, trust: 'scan' }
      unlikely ??= found
    }
    return unlikely
  }

  /**
   * Stacks of small processors are full of old return addresses and function pointers: the start of a function is one of the
   * latter, and where there are call-frame rules, they must give a caller in code. A function with variable arguments has
   * stored them above its return address, so the caller's stack may begin some words later.
   */
  private thatLeadsToCode(registers: Registers): Registers | null {
    const { arch } = this
    const behind = this.locate(registers[arch.ip]! & ~1n)
    const { symbol } = this.at(behind)
    if (symbol !== null && symbol.functionOffset === behind.offset) return null
    const { rules } = this.at(this.locate(this.instruction({ registers, isContext: false })))
    if (rules === null) return registers
    for (let words = 0; words <= MOST_STORED_ARGUMENTS; words++) {
      const moved = [...registers]
      moved[arch.sp] = registers[arch.sp]! + BigInt(words * arch.width)
      if (moved[arch.sp]! % BigInt(arch.stackAlignment ?? 1) !== 0n) continue
      if (this.chains({ registers: moved, isContext: false })) return moved
    }
    return null
  }

  /** Do call-frame rules lead from here through code, to an entry or to where there are no rules? */
  private chains(from: Cursor): boolean {
    let cursor = from
    for (let step = 0; step < LOOK_AHEAD; step++) {
      const { rules, symbol } = this.at(this.locate(this.instruction(cursor)))
      if (rules === null || (symbol !== null && isEntry(symbol.function))) return true
      const registers = callerByCfi(rules, this.arch, cursor, this.stack)
      if (registers === null || !this.isReturnAddress(registers[this.arch.ip]!)) return false
      cursor = { registers, isContext: false }
    }
    return true
  }

  /** Does the address lie in code that has a name? Without symbols for its module any place in it will do. */
  private isReturnAddress(address: bigint): boolean {
    if (!this.arch.isCode(address)) return false
    const place = this.locate(address - 1n)
    if (place.module === null) return false
    const { symbol, rules, hasSymbols } = this.at(place)
    if (!hasSymbols) return true
    return symbol !== null && !(symbol.approximate && rules === null && this.arch.unwindTables)
  }

  /** The program counter itself in the first frame, a byte inside of the call in its callers. */
  private instruction(cursor: Cursor): bigint {
    const ip = cursor.registers[this.arch.ip]!
    return cursor.isContext ? ip : wrap(ip - this.arch.callSize, this.arch.width)
  }

  private locate(address: bigint): Place {
    const low = address >= 0n && address <= 0x1f_ffff_ffff_ffffn ? Number(address) : -1
    const module = low < 0 ? -1 : this.shared.modules.find(low)
    return module < 0 ? { module: null, offset: 0 } : { module, offset: low - this.shared.modules.base(module) }
  }

  /** What the symbols say about a place; asked once for each, because recursion comes back. */
  private at({ module, offset }: Place): Known {
    if (module === null) return UNKNOWN
    const key = module * 0x1_0000_0000 + offset
    const remembered = this.shared.known.get(key)
    if (remembered) return remembered
    if (this.shared.left.places <= 0) return UNKNOWN
    const symbols = this.shared.symbols.get(module)
    if (symbols === undefined) throw new SymbolsWanted(module)
    this.shared.left.places--
    const known = symbols ? knownAt(symbols, offset, this.arch) : UNKNOWN
    this.shared.known.set(key, known)
    return known
  }
}
