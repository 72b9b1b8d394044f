/** Symbols straight from ELF files, for tests: what a store would answer that had got these files. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { prepareElf } from '../../symbolicate/symbols/elf/prepare.ts'
import { preparedOf } from '../../symbolicate/symbols/prepared.ts'
import type { ModuleSymbols, SymbolSource } from '../../symbolicate/symbols/source.ts'

interface Known { name: string; buildId: string | null; sha256: string; symbols: ModuleSymbols }

/** By build id, by the beginning of the file's SHA-256, and for a dump that names neither by the file's name; `only` answers for whatever names no build. */
export function elfSymbols(paths: readonly string[], { only = false } = {}): SymbolSource {
  const known = paths.map((path): Known => {
    const bytes = readFileSync(path)
    const prepared = prepareElf({ name: basename(path), bytes })
    if ('reason' in prepared) throw new Error(`${path}: ${prepared.reason}`)
    return { name: basename(path), buildId: prepared.buildId, sha256: createHash('sha256').update(bytes).digest('hex'), symbols: preparedOf(prepared.tables) }
  })
  return {
    async find({ codeId, elfSha256, debugFile }) {
      const found = known.find(({ buildId, sha256, name }) =>
        elfSha256 ? sha256.startsWith(elfSha256) : codeId ? buildId === codeId : only ? !debugFile?.endsWith('-rom') : name === debugFile?.split('/').at(-1))
      return found ? { status: 'found', symbols: found.symbols } : { status: 'missing', reason: `nothing for ${debugFile}` }
    },
  }
}
