import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseBreakpadSym } from '../../symbolicate/symbols/breakpad-sym.ts'
import { openPrepared } from '../../symbolicate/symbols/prepared.ts'
import type { SymbolLookup, SymbolSource } from '../../symbolicate/symbols/source.ts'

/** Breakpad stores (NAME/DEBUGID/*.sym) as a worker has them: each file prepared once, opened from the prepared bytes. */
export function createSource(root: string, folders: string[]): SymbolSource {
  const known = new Map<string, SymbolLookup>()
  function read(name: string, debugId: string): SymbolLookup {
    for (const folder of folders) {
      const directory = join(root, folder, name, debugId)
      if (!existsSync(directory)) continue
      const parsed = parseBreakpadSym(readFileSync(join(directory, readdirSync(directory)[0]!)))
      if ('slug' in parsed) return { status: 'corrupt', reason: parsed.reason }
      return { status: 'found', symbols: openPrepared(parsed.serialize())! }
    }
    return { status: 'missing', reason: `no symbols for ${name} ${debugId}` }
  }
  return {
    async find({ debugFile, debugId }) {
      if (debugFile === null || debugId === null) return { status: 'no-id', reason: 'the module names no build' }
      const name = debugFile.split(/[/\\]/).at(-1)!
      const found = known.get(`${name} ${debugId}`) ?? read(name, debugId)
      known.set(`${name} ${debugId}`, found)
      return found
    },
  }
}
