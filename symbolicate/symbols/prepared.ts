/**
 * Symbols of one module, ready to be asked: what every kind of symbol file becomes. A Breakpad file (breakpad-sym.ts) and an
 * ELF file with its DWARF (elf-prepare.ts) fill the same tables, so look-up, cache, store and unwinder know one form only.
 */
import { createLookup, identityOf, type SymbolIdentity } from './lookup.ts'
import type { ModuleSymbols } from './source.ts'
import { openTables, type Tables, writeTables } from './tables.ts'

export interface PreparedSymbols extends ModuleSymbols {
  identity: SymbolIdentity
  /** The whole module in its prepared form; `openPrepared` reads it back. */
  serialize(): Uint8Array
}

/** null when the bytes are not a prepared file of this version, or were changed. */
export function openPrepared(bytes: Uint8Array): PreparedSymbols | null {
  const tables = openTables(bytes)
  return tables && preparedOf(tables)
}

export function preparedOf(tables: Tables): PreparedSymbols {
  return { ...createLookup(tables), identity: identityOf(tables), serialize: () => writeTables(tables) }
}
