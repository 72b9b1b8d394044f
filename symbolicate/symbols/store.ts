import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Blobs } from '../../infra/blobs/blobs.ts'
import type { Logger } from '../../infra/service/logger.ts'
import type { Metrics } from '../../infra/service/metrics.ts'
import { symbolSettingsSchema, type SymbolSettings } from '../config.ts'
import { createSymbolMetrics } from '../metrics.ts'
import type { SymbolFiles } from '../process.ts'
import { createPool } from '../sandbox/pool.ts'
import type { Located, Prepared } from '../sandbox/wire.ts'
import { openFileCache } from './cache.ts'
import type { ModuleIdentity } from './source.ts'

/**
 * Symbol files: kept as they were uploaded, used in a prepared form.
 *
 *   symbols/DEBUG_FILE/DEBUG_ID/SHA256.sym     ; Breakpad's identity; the newest counts, none is ever replaced
 *   maps/DEBUG_ID/SHA256.map                   ; JavaScript source maps
 *
 * A symbol file is as hostile as a dump: it is read by a parser's child, which hands back who it is for and its prepared
 * form; only what is usable is kept. A missing, corrupt or mismatched file is a status on the module, never a failure.
 */
export interface SymbolStore extends SymbolFiles {
  /** Where prepared forms lie: what a parser's child may read. */
  readonly cacheDirectory: string
  /** Idempotent: the same bytes again are `already` there. */
  put(bytes: Uint8Array, file: { name: string }): Promise<PutSymbols>
  /** Another process took symbols of this module: what is known of them no longer holds. */
  forget(debugId: string): void
  stop(): Promise<void>
}

export type PutSymbols =
  | { status: 'stored'; already: boolean; key: string; prepared: Described }
  | { status: 'unusable'; reason: string }
export type Described = Prepared extends infer P ? (P extends { bytes: Uint8Array } ? Omit<P, 'bytes'> : P) : never

/** In the names of cached files: prepared forms of another version are not found and go as the least used. */
const FORM = 'v1'
const NOBODY = { symbols: async () => ({ status: 'missing' as const, reason: 'not asked while preparing' }), map: async () => null }

/** How long a parser may go on with what it heard: a question costs it a tenth of a dump, and most dumps ask the same. */
const GENERATION_MS = 1_000

/** The child that prepares is ended when nobody needed it for so long. */
const IDLE_MS = 5_000

export function createSymbolStore({ blobs, cacheDirectory, settings = symbolSettingsSchema.parse({}), logger, metrics: registry }: {
  blobs: Blobs
  cacheDirectory: string
  settings?: SymbolSettings
  logger: Logger
  metrics: Metrics
}): SymbolStore {
  const metrics = createSymbolMetrics(registry)
  // A pool of its own: a dump that asks for symbols waits for this one while it holds a child of the other.
  const pool = createPool({
    size: 1, idleMs: IDLE_MS, timeMs: settings.prepareMs, patienceMs: settings.prepareMs, memoryBytes: settings.prepareMemoryBytes,
    answerBytes: 2 * settings.maxFileBytes, cacheDirectory: null, logger, onKill: () => {},
  })
  const cache = openFileCache({ directory: cacheDirectory, maxBytes: settings.cacheBytes })
  /** The key of each identity that was asked for; other processes upload too, so it is believed for a while only. */
  const keys = new LRUCache<string, { key: string | null }>({ max: 50_000, ttl: settings.relistMs })
  const unusable = new LRUCache<string, Extract<Located, { reason: string }>>({ max: 1_000 })
  const preparing = new Map<string, Promise<Located>>()
  /** How often a file was found or put that an earlier answer may not have known. */
  let arrivals = 0

  async function newestKey(prefix: string): Promise<string | null> {
    const known = keys.get(prefix)
    if (known !== undefined) return known.key
    let newest: { key: string; modifiedAt: number } | null = null
    for await (const found of blobs.list(prefix)) {
      if (newest === null || found.modifiedAt > newest.modifiedAt || (found.modifiedAt === newest.modifiedAt && found.key > newest.key)) newest = found
    }
    keys.set(prefix, { key: newest?.key ?? null })
    if (newest !== null) arrivals++
    return newest?.key ?? null
  }

  async function prepare(bytes: Uint8Array, name: string): Promise<{ prepared: Prepared } | { reason: string }> {
    const end = await pool.run(async () => ({ t: 'prepare', bytes, name }), NOBODY).end
    return end.t === 'prepared' ? { prepared: end.prepared } : { reason: end.t === 'analysis' ? 'not a symbol file' : end.reason }
  }

  /** From the blob to a file in the cache. */
  async function fetch(key: string, debugId: string): Promise<Located> {
    const bytes = await blobs.get(key)
    if (bytes === null) return { status: 'missing', reason: `${key} is no longer in the store` }
    const result = await prepare(bytes, key)
    if ('reason' in result) return { status: 'corrupt', reason: `${key}: ${result.reason}` }
    const { prepared } = result
    if (prepared.kind !== 'breakpad-sym') return { status: 'corrupt', reason: `${key} is a ${prepared.kind}` }
    if (prepared.debugId !== debugId) return { status: 'mismatched', reason: `${key} is for ${prepared.debugId}` }
    return { status: 'found', path: await cache.put(cacheName(key), prepared.bytes) }
  }

  async function locate(module: ModuleIdentity): Promise<Located> {
    const located = await find(module)
    if (located.status !== 'found') metrics.request(located.status)
    return located
  }

  async function find({ debugFile, debugId }: ModuleIdentity): Promise<Located> {
    if (debugFile === null || debugId === null) return { status: 'no-id', reason: 'the dump names no debug id for this module' }
    const id = debugId.toUpperCase()
    const key = await newestKey(symbolPrefix(debugFile, id))
    if (key === null) return { status: 'missing', reason: `no symbols for ${baseName(debugFile)} ${id}` }
    const known = unusable.get(key)
    if (known !== undefined) return known
    const path = await cache.use(cacheName(key))
    if (path !== null) {
      metrics.request('cached')
      return { status: 'found', path }
    }
    const work = preparing.get(key) ?? fetch(key, id).finally(() => preparing.delete(key))
    preparing.set(key, work)
    const located = await work
    if (located.status === 'found') metrics.request('prepared')
    else unusable.set(key, located)
    return located
  }

  return {
    cacheDirectory,
    generation: () => arrivals + Math.floor(Date.now() / GENERATION_MS),
    locate,
    async locateMap(debugId) {
      const key = await newestKey(mapPrefix(debugId))
      if (key === null) return null
      const path = await cache.use(cacheName(key))
      if (path !== null) return path
      const bytes = await blobs.get(key)
      return bytes === null ? null : cache.put(cacheName(key), bytes)
    },
    async put(bytes, { name }) {
      if (bytes.length > settings.maxFileBytes) return { status: 'unusable', reason: `${name}: ${bytes.length} bytes, at most ${settings.maxFileBytes} are taken` }
      const result = await prepare(bytes, name)
      if ('reason' in result) return { status: 'unusable', reason: `${name}: ${result.reason}` }
      const { prepared } = result
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      const prefix = prepared.kind === 'breakpad-sym' ? symbolPrefix(prepared.debugFile, prepared.debugId) : mapPrefix(prepared.debugId)
      const key = `${prefix}${sha256}.${prepared.kind === 'breakpad-sym' ? 'sym' : 'map'}`
      const already = (await blobs.head(key)) !== null
      if (!already) await blobs.put(key, bytes)
      keys.delete(prefix)
      arrivals++
      return { status: 'stored', already, key, prepared: describe(prepared) }
    },
    forget(debugId) {
      const ending = `/${segment(debugId)}/`
      for (const prefix of keys.keys()) if (prefix.endsWith(ending) || prefix === mapPrefix(debugId)) keys.delete(prefix)
      arrivals++
    },
    stop: () => pool.stop(),
  }
}

export function describe(prepared: Prepared): Described {
  if (prepared.kind === 'source-map') return prepared
  const { bytes: _, ...described } = prepared
  return described
}

const baseName = (path: string): string => path.split(/[\\/]/).at(-1) || path

/**
 * Names come from symbol files and dumps, that is from anybody, and have to be segments of a blob's key: bytes other than
 * letters, digits, `.`, `_` and `-` (and a dot in front) become `=XX`, a long name is cut and made distinct by its digest.
 */
export function segment(name: string): string {
  const encoded = Array.from(Buffer.from(name, 'utf8').subarray(0, 1024), (byte, index) => {
    const char = String.fromCharCode(byte)
    return (index === 0 ? /[A-Za-z0-9_]/ : /[A-Za-z0-9._-]/).test(char) ? char : `=${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }).join('')
  const first = /^[A-Za-z0-9_]/.test(encoded) ? encoded : `_${encoded}`
  return first.length <= 120 ? first : `${first.slice(0, 48)}=${createHash('sha256').update(name).digest('hex')}`
}
const symbolPrefix = (debugFile: string, debugId: string): string => `symbols/${segment(baseName(debugFile))}/${segment(debugId)}/`
const mapPrefix = (debugId: string): string => `maps/${segment(debugId.toLowerCase().replaceAll('-', ''))}/`
const cacheName = (key: string): string => `${createHash('sha256').update(`${FORM} ${key}`).digest('hex')}.prepared`
