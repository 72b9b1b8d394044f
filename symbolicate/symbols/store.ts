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
import { elfPrefix, prefixIn } from './elf-name.ts'
import { debugIdOfBuild, digestsOf } from './elf/identity.ts'
import type { ModuleIdentity } from './source.ts'

/**
 * Symbol files: kept as they were uploaded, used in a prepared form.
 *
 *   symbols/DEBUG_FILE/DEBUG_ID/SHA256.sym     ; Breakpad's identity; the newest counts, none is ever replaced
 *   elf/SHA256.elf                             ; programs, libraries, firmware, and their debug files
 *   elf-ids/DEBUG_ID/SHA256.(build | code | digest) ; empty: which ELF files are of this build; `code`: without a build id;
 *                                                `digest`: a certificate's firmware digest in the place of a build id
 *   maps/DEBUG_ID/SHA256.map                   ; JavaScript source maps
 *
 * ELF files with one build id complement each other (a stripped program and its debug file) and are prepared as one. Files
 * without a build id are told apart by their code's first page, which two builds may share: then it is ambiguous.
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
  /** `elfSha256`: a dump may name the file by how this begins; `digestIds`: or a certificate by these. */
  | { status: 'stored'; already: boolean; key: string; prepared: Described; elfSha256?: string; digestIds?: string[] }
  | { status: 'unusable'; reason: string }
export type Described = Prepared extends infer P ? (P extends { bytes: Uint8Array } ? Omit<P, 'bytes'> : P) : never

/** In the names of cached files: prepared forms of another version are not found and go as the least used. */
const FORM = 'v3'
const NOBODY = { symbols: async () => ({ status: 'missing' as const, reason: 'not asked while preparing' }), map: async () => null }

/** How long a parser may go on with what it heard: a question costs it a tenth of a dump, and most dumps ask the same. */
const GENERATION_MS = 1_000

/** The child that prepares is ended when nobody needed it for so long. */
const IDLE_MS = 5_000

/** Files of one build that are read together: the program, its debug file, what dwz took out of it. */
const MOST_FILES = 4
/** Of what lies below a prefix the newest count. */
const MOST_KEYS = 16

/** What is prepared as one; null when it was found by its digest. */
interface Found { keys: readonly string[]; debugId: string | null }

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
  /** The keys below each prefix that was asked for, the newest last; other processes upload too, so they are believed for a while only. */
  const listed = new LRUCache<string, readonly string[]>({ max: 50_000, ttl: settings.relistMs })
  const unusable = new LRUCache<string, Extract<Located, { reason: string }>>({ max: 1_000 })
  const preparing = new Map<string, Promise<Located>>()
  /** How often a file was found or put that an earlier answer may not have known. */
  let arrivals = 0

  async function keysBelow(prefix: string): Promise<readonly string[]> {
    const known = listed.get(prefix)
    if (known !== undefined) return known
    const found: { key: string; modifiedAt: number }[] = []
    for await (const blob of blobs.list(prefix)) {
      found.push(blob)
      if (found.length > 2 * MOST_KEYS) keepNewest(found)
    }
    keepNewest(found)
    const keys = found.map(({ key }) => key)
    listed.set(prefix, keys)
    if (keys.length > 0) arrivals++
    return keys
  }

  async function prepare(bytes: Uint8Array, name: string, others?: { name: string; size: number }[]): Promise<{ prepared: Prepared } | { reason: string }> {
    const end = await pool.run(async () => ({ t: 'prepare', bytes, name, ...(others && { others }) }), NOBODY).end
    return end.t === 'prepared' ? { prepared: end.prepared } : { reason: end.t === 'analysis' ? 'not a symbol file' : end.reason }
  }

  /** From the blobs to a file in the cache. */
  async function fetch({ keys, debugId }: Found): Promise<Located> {
    const files: { key: string; bytes: Uint8Array }[] = []
    let size = 0
    for (const key of keys) {
      const bytes = await blobs.get(key)
      if (bytes === null) return { status: 'missing', reason: `${key} is no longer in the store` }
      size += bytes.length
      if (files.length === 0 || size <= settings.maxFileBytes) files.push({ key, bytes })
    }
    const [key, others] = [keys[0]!, files.slice(1).map((file) => ({ name: file.key, size: file.bytes.length }))]
    const result = await prepare(others.length === 0 ? files[0]!.bytes : Buffer.concat(files.map(({ bytes }) => bytes)), key, others)
    if ('reason' in result) return { status: 'corrupt', reason: `${key}: ${result.reason}` }
    const { prepared } = result
    if (prepared.kind === 'source-map') return { status: 'corrupt', reason: `${key} is a ${prepared.kind}` }
    if (debugId !== null && prepared.debugId !== debugId) return { status: 'mismatched', reason: `${key} is for ${prepared.debugId}` }
    return { status: 'found', path: await cache.put(cacheName(keys), prepared.bytes) }
  }

  async function locate(module: ModuleIdentity): Promise<Located> {
    const located = await find(module)
    if (located.status !== 'found') metrics.request(located.status)
    return located
  }

  async function find(module: ModuleIdentity): Promise<Located> {
    const found = await filesFor(module)
    if ('status' in found) return found
    const name = cacheName(found.keys)
    const known = unusable.get(name)
    if (known !== undefined) return known
    const path = await cache.use(name)
    if (path !== null) {
      metrics.request('cached')
      return { status: 'found', path }
    }
    const work = preparing.get(name) ?? fetch(found).finally(() => preparing.delete(name))
    preparing.set(name, work)
    const located = await work
    if (located.status === 'found') metrics.request('prepared')
    else unusable.set(name, located)
    return located
  }

  /** A Breakpad file goes before an ELF file: somebody made it for this. */
  async function filesFor({ debugFile, debugId, elfSha256 }: ModuleIdentity): Promise<Found | Extract<Located, { reason: string }>> {
    const prefix = elfPrefix(elfSha256)
    if (prefix !== null) return byDigest(prefix)
    if (debugId === null) return { status: 'no-id', reason: 'the dump names no debug id for this module' }
    const id = debugId.toUpperCase()
    const newest = debugFile === null ? undefined : (await keysBelow(symbolPrefix(debugFile, id))).at(-1)
    if (newest !== undefined) return { keys: [newest], debugId: id }
    const files = await keysBelow(elfIdPrefix(id))
    if (files.length === 0) return { status: 'missing', reason: `no symbols for ${debugFile === null ? '' : `${baseName(debugFile)} `}${id}` }
    const withoutBuildId = files.filter((key) => key.endsWith('.code'))
    if (withoutBuildId.length > 1) return { status: 'ambiguous', reason: `${files.length} ELF files without a build id begin with the same code (${id}); link with --build-id` }
    const keys = files.toReversed().slice(0, MOST_FILES).map((key) => elfKey(/([0-9a-f]{64})\.\w+$/.exec(key)?.[1] ?? ''))
    return { keys, debugId: files.some((key) => key.endsWith('.digest')) ? null : id }
  }

  async function byDigest(prefix: string): Promise<Found | Extract<Located, { reason: string }>> {
    const keys = await keysBelow(`elf/${prefix}`)
    if (keys.length === 0) return { status: 'missing', reason: `no ELF file whose SHA-256 begins with ${prefix}` }
    if (keys.length > 1) return { status: 'ambiguous', reason: `the SHA-256 of ${keys.length} ELF files begins with ${prefix}` }
    return { keys, debugId: null }
  }

  async function putElf(bytes: Uint8Array, prepared: Described & { kind: 'elf' }): Promise<PutSymbols> {
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const key = elfKey(sha256)
    const digestIds = [...digestsOf(bytes), ...prepared.digests].map(debugIdOfBuild)
    const markers = [...digestIds.map((id) => `${elfIdPrefix(id)}${sha256}.digest`), `${elfIdPrefix(prepared.debugId)}${sha256}.${prepared.codeId === null ? 'code' : 'build'}`]
    // The file before what leads to it, and the name that says that all are there last.
    const already = (await blobs.head(markers.at(-1)!)) !== null
    if (!already) await blobs.put(key, bytes)
    if (!already) for (const marker of markers) await blobs.put(marker, new Uint8Array())
    for (const prefix of listed.keys()) if ([key, ...markers].some((name) => name.startsWith(prefix))) listed.delete(prefix)
    arrivals++
    return { status: 'stored', already, key, prepared, elfSha256: sha256, digestIds }
  }

  return {
    cacheDirectory,
    generation: () => arrivals + Math.floor(Date.now() / GENERATION_MS),
    locate,
    async locateMap(debugId) {
      const key = (await keysBelow(mapPrefix(debugId))).at(-1)
      if (key === undefined) return null
      const path = await cache.use(cacheName([key]))
      if (path !== null) return path
      const bytes = await blobs.get(key)
      return bytes === null ? null : cache.put(cacheName([key]), bytes)
    },
    async put(bytes, { name }) {
      if (bytes.length > settings.maxFileBytes) return { status: 'unusable', reason: `${name}: ${bytes.length} bytes, at most ${settings.maxFileBytes} are taken` }
      const result = await prepare(bytes, name)
      if ('reason' in result) return { status: 'unusable', reason: `${name}: ${result.reason}` }
      const prepared = describe(result.prepared)
      if (isElf(prepared)) return putElf(bytes, prepared)
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      const prefix = prepared.kind === 'breakpad-sym' ? symbolPrefix(prepared.debugFile, prepared.debugId) : mapPrefix(prepared.debugId)
      const key = `${prefix}${sha256}.${prepared.kind === 'breakpad-sym' ? 'sym' : 'map'}`
      const already = (await blobs.head(key)) !== null
      if (!already) await blobs.put(key, bytes)
      listed.delete(prefix)
      arrivals++
      return { status: 'stored', already, key, prepared }
    },
    forget(debugId) {
      const ending = `/${segment(debugId)}/`
      const digest = prefixIn(debugId)
      for (const prefix of listed.keys()) if (prefix.endsWith(ending) || prefix === mapPrefix(debugId) || prefix === `elf/${digest}`) listed.delete(prefix)
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
const isElf = (prepared: Described): prepared is Described & { kind: 'elf' } => prepared.kind === 'elf'
const elfKey = (sha256: string): string => `elf/${sha256}.elf`
const elfIdPrefix = (debugId: string): string => `elf-ids/${segment(debugId)}/`
const symbolPrefix = (debugFile: string, debugId: string): string => `symbols/${segment(baseName(debugFile))}/${segment(debugId)}/`
const mapPrefix = (debugId: string): string => `maps/${segment(debugId.toLowerCase().replaceAll('-', ''))}/`
const cacheName = (keys: readonly string[]): string => `${createHash('sha256').update([FORM, ...keys].join(' ')).digest('hex')}.prepared`

function keepNewest(found: { key: string; modifiedAt: number }[]): void {
  found.sort((a, b) => a.modifiedAt - b.modifiedAt || (a.key < b.key ? -1 : 1)).splice(0, found.length - MOST_KEYS)
}
