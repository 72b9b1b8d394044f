import { BrokenWorld, messageOf } from '../service/errors.ts'

/** The closed table of what can be wrong with a blob store. */
export const BLOB_TROUBLE = {
  'blobs-unreachable': { retryable: true },
  'blobs-disk-full': { retryable: true },
  'blobs-refused': { retryable: false },
  'blobs-too-large': { retryable: false },
} as const satisfies Record<string, { retryable: boolean }>

export type BlobTrouble = keyof typeof BLOB_TROUBLE

export const blobsBroken = (code: BlobTrouble, what: string, cause?: unknown): BrokenWorld =>
  new BrokenWorld(code, `blobs: ${what}${cause === undefined ? '' : `: ${messageOf(cause)}`}`, { retryable: BLOB_TROUBLE[code].retryable, cause })
