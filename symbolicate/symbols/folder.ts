import { open, readdir, readFile, stat } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import type { SymbolFiles } from '../process.ts'
import type { Pool } from '../sandbox/pool.ts'
import type { Located } from '../sandbox/wire.ts'
import { openFileCache } from './cache.ts'

/**
 * Symbols from a folder of this machine, for `overrun explain`: a Breakpad store (NAME/DEBUGID/NAME.sym) or any files
 * below it. Only each file's first line is read here; the rest is for a parser's child, once a dump asks for it.
 *
 *   MODULE os cpu DEBUGID name          ; first line of a Breakpad symbol file
 */
const MODULE_LINE = /^MODULE \S+ \S+ ([0-9A-Fa-f]{33,40}) (\S.*?)\s*$/m
const MAX_FILES = 100_000
const NOBODY = { symbols: async () => ({ status: 'missing' as const, reason: 'not asked while preparing' }), map: async () => null }

export async function openSymbolFolder({ directory, cacheDirectory, pool }: { directory: string | null; cacheDirectory: string; pool: Pool }): Promise<SymbolFiles> {
  const cache = openFileCache({ directory: cacheDirectory, maxBytes: Number.MAX_SAFE_INTEGER })
  const files = directory === null ? [] : await filesBelow(directory)
  const native = new Map<string, string>()
  const maps: string[] = []
  for (const path of files) {
    if (path.endsWith('.map')) maps.push(path)
    else if (path.endsWith('.sym')) {
      const [, id, name] = MODULE_LINE.exec(await firstKilobyte(path)) ?? []
      if (id !== undefined && name !== undefined) native.set(identity(name, id), path)
    }
  }
  const prepare = async (path: string) => pool.run(async () => ({ t: 'prepare', bytes: await readFile(path), name: basename(path) }), NOBODY).end
  const prepared = new Map<string, Promise<Located>>()
  let mapsById: Promise<Map<string, string>> | null = null

  async function prepareSymbols(path: string): Promise<Located> {
    const end = await prepare(path)
    if (end.t !== 'prepared' || end.prepared.kind === 'source-map') return { status: 'corrupt', reason: `${path}: ${'reason' in end ? end.reason : 'not a symbol file'}` }
    return { status: 'found', path: await cache.put(cacheName(path), end.prepared.bytes) }
  }

  async function indexMaps(): Promise<Map<string, string>> {
    const byId = new Map<string, string>()
    for (const path of maps) {
      const end = await prepare(path)
      if (end.t === 'prepared' && end.prepared.kind === 'source-map') byId.set(end.prepared.debugId, path)
    }
    return byId
  }

  return {
    generation: () => 0,
    async locate({ debugFile, debugId }): Promise<Located> {
      if (debugFile === null || debugId === null) return { status: 'no-id', reason: 'the dump names no debug id for this module' }
      const path = native.get(identity(debugFile, debugId))
      if (path === undefined) return { status: 'missing', reason: `no symbols for ${basename(debugFile)} ${debugId}` }
      const located = prepared.get(path) ?? prepareSymbols(path)
      prepared.set(path, located)
      return located
    },
    async locateMap(debugId) {
      mapsById ??= indexMaps()
      const path = (await mapsById).get(debugId.toLowerCase().replaceAll('-', ''))
      return path === undefined ? null : cache.put(cacheName(path), await readFile(path))
    },
  }
}

/** A file itself, or what lies below a folder, in the order of names. */
export async function filesBelow(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path]
  const found = await readdir(path, { withFileTypes: true, recursive: true })
  return found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name)).toSorted().slice(0, MAX_FILES)
}

async function firstKilobyte(path: string): Promise<string> {
  const handle = await open(path)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(1024), 0, 1024, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await handle.close()
  }
}

const identity = (debugFile: string, debugId: string): string => `${debugFile.split(/[\\/]/).at(-1)} ${debugId.toUpperCase()}`
const cacheName = (path: string): string => createHash('sha256').update(path).digest('hex')
