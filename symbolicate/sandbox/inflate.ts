import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import { messageOf } from '../../infra/service/errors.ts'
import type { Refusal } from './wire.ts'

/**
 * The signed claim `encoding` says how the dump was compressed; only here, inside the child, is it believed.
 * The output is bounded before it is made, so that a bomb costs its budget and not the machine.
 */
export function inflate(bytes: Uint8Array, encoding: 'gzip' | 'zstd' | undefined, maxBytes: number): { bytes: Uint8Array } | { status: Refusal; reason: string } {
  if (encoding === undefined) return { bytes }
  const decompress = encoding === 'gzip' ? gunzipSync : zstdDecompressSync
  try {
    return { bytes: decompress(bytes, { maxOutputLength: maxBytes }) }
  } catch (error) {
    if (error instanceof RangeError) return { status: 'budget-exceeded', reason: `dump: ${bytes.length} bytes of ${encoding} inflate to more than ${maxBytes} bytes` }
    return { status: 'encoding-invalid', reason: `dump: claimed ${encoding}, ${bytes.length} bytes: ${messageOf(error)}` }
  }
}
