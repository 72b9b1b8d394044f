import { readFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import type { SymbolFiles } from '../process.ts'
import type { Pool } from '../sandbox/pool.ts'
import type { Located } from '../sandbox/wire.ts'
import { openFileCache } from './cache.ts'
import { createElfFolder } from './elf-folder.ts'
import { isElf } from './elf/elf.ts'
import { filesBelow, firstKilobyte } from './files.ts'
import type { ModuleIdentity } from './source.ts'

/**
 * Symbols from a folder of this machine, for `overrun explain`: a Breakpad store (NAME/DEBUGID/NAME.sym), ELF programs and
 * their debug files, source maps, or any of them below it. Of each file only the beginning is read here, and of an ELF file
 * what it is (elf-folder.ts); the rest is for a parser's child, once a dump asks for it.
 *
 *   MODULE os cpu DEBUGID name          ; first line of a Breakpad symbol file
 */
const MODULE_LINE = /^MODULE \S+ \S+ ([0-9A-Fa-f]{33,40}) (\S.*?)\s*$/m
const NOBODY = { symbols: async () => ({ status: 'missing' as const, reason: 'not asked while preparing' }), map: async () => null }

export async function openSymbolFolder({ directory, cacheDirectory, pool }: { directory: string | null; cacheDirectory: string; pool: Pool }): Promise<SymbolFiles> {
  const cache = openFileCache({ directory: cacheDirectory, maxBytes: Number.MAX_SAFE_INTEGER })
  const native = new Map<string, string>()
  const maps: string[] = []
  const programs: string[] = []
  for (const path of directory === null ? [] : await filesBelow(directory)) {
    if (path.endsWith('.map')) maps.push(path)
    else if (path.endsWith('.sym')) {
      const [, id, name] = MODULE_LINE.exec((await firstKilobyte(path)).toString('utf8')) ?? []
      if (id !== undefined && name !== undefined) native.set(identity(name, id), path)
    } else if (isElf(await firstKilobyte(path))) programs.push(path)
  }
  const elf = createElfFolder(programs)
  const prepared = new Map<string, Promise<Located>>()
  let mapsById: Promise<Map<string, string>> | null = null

  async function prepare(paths: readonly string[]) {
    const order = async () => {
      const files = await Promise.all(paths.map(async (path) => ({ path, bytes: await readFile(path) })))
      const others = files.slice(1).map(({ path, bytes }) => ({ name: basename(path), size: bytes.length }))
      return { t: 'prepare' as const, bytes: Buffer.concat(files.map(({ bytes }) => bytes)), name: basename(paths[0]!), others }
    }
    return pool.run(order, NOBODY).end
  }

  async function prepareSymbols(paths: readonly string[]): Promise<Located> {
    const end = await prepare(paths)
    if (end.t !== 'prepared' || end.prepared.kind === 'source-map') return { status: 'corrupt', reason: `${paths[0]}: ${'reason' in end ? end.reason : 'not a symbol file'}` }
    return { status: 'found', path: await cache.put(cacheName(paths), end.prepared.bytes) }
  }

  async function indexMaps(): Promise<Map<string, string>> {
    const byId = new Map<string, string>()
    for (const path of maps) {
      const end = await prepare([path])
      if (end.t === 'prepared' && end.prepared.kind === 'source-map') byId.set(end.prepared.debugId, path)
    }
    return byId
  }

  async function filesFor(module: ModuleIdentity): Promise<readonly string[] | Extract<Located, { reason: string }>> {
    const { debugFile, debugId } = module
    const breakpad = debugFile === null || debugId === null ? undefined : native.get(identity(debugFile, debugId))
    return breakpad === undefined ? elf.find(module) : [breakpad]
  }

  return {
    generation: () => 0,
    async locate(module): Promise<Located> {
      const paths = await filesFor(module)
      if ('status' in paths) return paths
      const name = cacheName(paths)
      const located = prepared.get(name) ?? prepareSymbols(paths)
      prepared.set(name, located)
      return located
    },
    async locateMap(debugId) {
      mapsById ??= indexMaps()
      const path = (await mapsById).get(debugId.toLowerCase().replaceAll('-', ''))
      return path === undefined ? null : cache.put(cacheName([path]), await readFile(path))
    },
  }
}

const identity = (debugFile: string, debugId: string): string => `${debugFile.split(/[\\/]/).at(-1)} ${debugId.toUpperCase()}`
const cacheName = (paths: readonly string[]): string => createHash('sha256').update(paths.join('\0')).digest('hex')
