import type { Readable } from 'node:stream'

/**
 * Blobs: large dumps, the worker's packs of small dumps, symbol files. Keys are slash-separated, made by us, never by
 * a device. put() resolves only when the bytes are durable; a second put of the same key replaces it whole.
 */
export interface Blobs {
  /** Most memory that the put of one stream holds, beside the chunk in hand. */
  readonly streamBytes: number
  put(key: string, body: Uint8Array | Readable, options?: { contentType?: string }): Promise<{ size: number }>
  /** `null` when there is no such key. `range` is [start, end) in bytes. */
  get(key: string, range?: { start: number; end: number }): Promise<Uint8Array | null>
  head(key: string): Promise<{ size: number; modifiedAt: number } | null>
  list(prefix: string): AsyncIterable<{ key: string; size: number; modifiedAt: number }>
  delete(key: string): Promise<void>
  /** Rejects with BrokenWorld when the store can't be reached. */
  check(): Promise<void>
}
