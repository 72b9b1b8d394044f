import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import type { Blobs } from '../infra/blobs/blobs.ts'
import { messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { BodyReader } from './body.ts'
import type { AcceptedCrash } from './contract.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'

/**
 * Holds a dump while it arrives: in memory up to `inlineBytes`, past that in the blob store, digested on the way. It goes
 * there while it comes, not by way of the disk: that would write every large dump twice, need room for all that are under
 * way, and keep nothing back, since the manifest is verified before the first byte and the digest only after the last.
 *
 * All dumps in memory share one budget; whoever would exceed it is told to come back later. A large dump takes what the store
 * needs for its stream, for as long as it comes; large ones leave a quarter of the budget to the others, because a few slow
 * links must not keep everybody's small dumps out.
 */
export interface Budget {
  /** `share`: refused when more than that part of the budget would be in use. */
  take(bytes: number, share?: number): boolean
  give(bytes: number): void
}

export interface Held {
  dump: AcceptedCrash['dump']
  size: number
  /** SHA-256, lower-case hex. */
  digest: string
  /** Ends the hold on memory; the blob stays. */
  release(): void
  /** Ends the hold and removes the blob: nothing points at it. */
  discard(): Promise<void>
}

export interface SpoolOptions {
  blobs: Blobs
  budget: Budget
  logger: Logger
  /** Where a dump above `inlineBytes` goes; never used twice. */
  blobKey: string
  inlineBytes: number
  maxBytes: number
  /** What the sender has signed for. */
  size?: number
}

const LARGE_SHARE = 0.75

export function createBudget(max: number, observe: (used: number) => void): Budget {
  let used = 0
  const change = (bytes: number) => observe(used += bytes)
  return {
    take(bytes, share = 1) {
      if (used + bytes > max * share) return false
      change(bytes)
      return true
    },
    give: (bytes) => change(-bytes),
  }
}

export async function spool(body: BodyReader, options: SpoolOptions): Promise<Held | Refusal> {
  const { budget, inlineBytes, blobs, maxBytes } = options
  const chunks: Buffer[] = []
  const hash = createHash('sha256')
  let size = 0
  let taken = 0
  const release = () => {
    budget.give(taken)
    taken = 0
  }
  for (;;) {
    const chunk = await body.next()
    if (chunk !== null && isRefusal(chunk)) {
      release()
      return chunk
    }
    if (chunk === null) {
      const bytes = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
      return { dump: { bytes }, size, digest: hash.digest('hex'), release, discard: async () => release() }
    }
    if (!budget.take(chunk.length)) {
      release()
      return refuse('overloaded', 'too many bytes of dumps in flight')
    }
    taken += chunk.length
    size += chunk.length
    hash.update(chunk)
    chunks.push(chunk)
    if (size > inlineBytes) {
      release()
      taken = Math.min(blobs.streamBytes, options.size ?? maxBytes) + chunk.length
      if (!budget.take(taken, LARGE_SHARE)) return refuse('overloaded', 'too many large dumps in flight')
      try {
        return await spoolToBlob(chunks, hash, size, body, options)
      } finally {
        release()
      }
    }
  }
}

/** What came so far and the rest, straight into the blob store; memory holds one chunk. */
async function spoolToBlob(
  head: Buffer[], hash: ReturnType<typeof createHash>, headSize: number, body: BodyReader, { blobs, blobKey, maxBytes, logger }: SpoolOptions,
): Promise<Held | Refusal> {
  let size = headSize
  let refusal: Refusal | undefined

  async function* chunks() {
    for (let chunk = head.shift(); chunk; chunk = head.shift()) yield chunk
    for (;;) {
      const chunk = size > maxBytes ? refuse('too-large', `dump: more than ${maxBytes} bytes`) : await body.next()
      if (chunk === null) return
      if (isRefusal(chunk)) {
        refusal = chunk
        throw new Error(chunk.slug)
      }
      size += chunk.length
      hash.update(chunk)
      yield chunk
    }
  }

  try {
    await blobs.put(blobKey, Readable.from(chunks(), { objectMode: false }))
  } catch (error) {
    if (refusal) return refusal
    throw error
  }
  return {
    dump: { blob: blobKey },
    size,
    digest: hash.digest('hex'),
    release() {},
    async discard() {
      // The answer is decided already; what stays behind is an orphan, and the log says which.
      await blobs.delete(blobKey).catch((error: unknown) => logger.warn({ blob: blobKey, reason: messageOf(error) }, 'orphaned blob'))
    },
  }
}
