import { readFileSync } from 'node:fs'
import { LRUCache } from 'lru-cache'
import { openPrepared } from '../symbols/prepared.ts'
import type { SymbolLookup } from '../symbols/source.ts'

/** Prepared symbols that this child has open; a path names its content, so an opened one never goes stale. */
const opened = new LRUCache<string, Extract<SymbolLookup, { status: 'found' }>>({ maxSize: 64 * 2 ** 20, maxEntrySize: 64 * 2 ** 20 })

export function openCached(path: string): SymbolLookup {
  const known = opened.get(path)
  if (known !== undefined) return known
  let bytes: Uint8Array
  try {
    bytes = readFileSync(path)
  } catch {
    return { status: 'missing', reason: 'the prepared symbols are gone from the cache; they are prepared again for the next dump' }
  }
  const symbols = openPrepared(bytes)
  if (symbols === null) return { status: 'corrupt', reason: 'the prepared symbols in the cache are not readable' }
  const found = { status: 'found' as const, symbols }
  opened.set(path, found, { size: Math.max(1, bytes.length) })
  return found
}
