/**
 * What a module's symbols say about a place in it, ready for the unwinder. A fleet crashes in the same few places again and
 * again, and to look them up and compile their rules was a third of the time of an ordinary dump: so it is remembered
 * beyond the dump, and forgotten all at once when it has grown too large. The answer is the same with or without.
 */
import type { ModuleSymbols, SymbolHit, WindowsFrame } from '../symbols/source.ts'
import type { Arch } from './arch/arch.ts'
import { compileRules, type CompiledRules } from './breakpad-cfi.ts'

export interface Known { symbol: SymbolHit | null; rules: CompiledRules | null; windows: WindowsFrame | null; hasSymbols: boolean }
export const UNKNOWN: Known = { symbol: null, rules: null, windows: null, hasSymbols: false }

/** In bytes, roughly; names and rules come from symbol files, which are hostile. */
const MOST_REMEMBERED = 16 * 1024 * 1024
const BYTES_PER_PLACE = 1024
/** Compiled, each character of a rule becomes about as much. */
const BYTES_PER_RULE_CHARACTER = 24

const remembered = new Map<Arch, WeakMap<ModuleSymbols, Map<number, Known>>>()
let bytes = 0

export function knownAt(symbols: ModuleSymbols, offset: number, arch: Arch): Known {
  const before = placesOf(symbols, arch).get(offset)
  if (before) return before
  const rules = symbols.cfi(offset)
  const windows = (arch.cpu === 'x86' && symbols.windowsFrame?.(offset)) || null
  const known = { symbol: symbols.lookup(offset), rules: rules && compileRules(rules, arch), windows, hasSymbols: true }
  bytes += BYTES_PER_PLACE + textOf(known.symbol) + (rules ? BYTES_PER_RULE_CHARACTER * [...rules.values()].join('').length : 0)
  if (bytes > MOST_REMEMBERED) {
    remembered.clear()
    bytes = 0
  }
  placesOf(symbols, arch).set(offset, known)
  return known
}

function placesOf(symbols: ModuleSymbols, arch: Arch): Map<number, Known> {
  const modules = remembered.get(arch) ?? new WeakMap<ModuleSymbols, Map<number, Known>>()
  remembered.set(arch, modules)
  const places = modules.get(symbols) ?? new Map<number, Known>()
  modules.set(symbols, places)
  return places
}

function textOf(symbol: SymbolHit | null): number {
  if (symbol === null) return 0
  return [symbol, ...symbol.inlines].reduce((sum, { function: name, file }) => sum + name.length + (file?.length ?? 0), 0)
}
