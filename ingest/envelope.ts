import { z } from 'zod'
import { messageOf } from '../infra/service/errors.ts'
import type { Accepted } from './accept.ts'
import { annotationsOf, claimsOf } from './annotations.ts'
import type { BodyReader } from './body.ts'
import { inflated, judgeEncoding, orThrow, Refused } from './inflate.ts'
import { isRefusal, refuse, statusOf, type Refusal } from './outcome.ts'
import { retryLater, type Later } from './quota.ts'
import { spool, type Held } from './spool.ts'
import { senderOf, type SubmitDeps, type Upload } from './submit.ts'

/**
 * POST /api/{project}/envelope/: what Sentry's native clients send (develop.sentry.dev, Envelopes).
 *
 *   envelope = header LF { item-header LF payload [LF] }         ; headers are JSON, `length` says how long a payload is
 *
 * Taken is the item of type `attachment` and attachment_type `event.minidump`; all others are read over. There is room for
 * no manifest, so its sender is whom the connection proves, else the fleet of the project key. Nothing of the body is read
 * before one of the two is good.
 */
const itemSchema = z.object({ type: z.string(), length: z.int().nonnegative().optional(), attachment_type: z.string().optional() })

const LINE_BYTES = 16 * 1024
const MOST_ITEMS = 100
const LF = 0x0a

export function createEnvelope(deps: Pick<SubmitDeps, 'accept' | 'registry' | 'transport' | 'charge' | 'throttle' | 'blobs' | 'budget' | 'clock' | 'logger' | 'limits'>): (upload: Upload) => Promise<Accepted | Refusal> {
  const { accept, throttle, charge, clock, limits } = deps

  async function readDump({ request, requestId }: Upload): Promise<Held> {
    judgeEncoding(request)
    const reader = readerOf(inflated(request, limits))
    let held: Held | null = null
    try {
      jsonOf(await reader.line())
      for (let items = 0; ; items++) {
        const line = await reader.line()
        if (line === null) break
        if (line.length === 0) continue
        const item = itemSchema.safeParse(jsonOf(line))
        if (!item.success || items === MOST_ITEMS) throw malformed('an item whose header has no type, or too many items')
        const { type, length, attachment_type: kind } = item.data
        if (type !== 'attachment' || kind !== 'event.minidump') await reader.skip(length)
        else if (held !== null || length === undefined) throw malformed('a second minidump, or one without its length')
        else {
          held = orThrow(await spool(reader.payload(length), { ...deps, blobKey: `dumps/upload-${requestId}`, inlineBytes: limits.inlineBytes, maxBytes: limits.dumpBytes }))
        }
      }
      if (held === null) throw new Refused(refuse('dump-missing', 'no item with attachment_type event.minidump'))
      return held
    } catch (error) {
      await held?.discard()
      throw error
    }
  }

  return async function envelope(upload) {
    const { origin, query } = upload
    const wait = throttle.source(origin)
    if (wait > 0) return retryLater('quota-source', 'too many refused requests came from this network', wait)
    const sender = senderOf(upload, deps)
    if (isRefusal(sender)) {
      throttle.failed(origin)
      return sender
    }
    const later = sender.level === 'transport-authenticated' ? charge(sender) : laterIf(throttle.upload(origin.source))
    if (later) return later
    try {
      const held = await readDump(upload)
      const annotations = annotationsOf(new Map(), query)
      return await accept.unsigned({ sender, source: origin.source, receivedAt: clock.now(), held, contentType: 'application/x-minidump', claims: claimsOf(annotations), annotations })
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      if (statusOf(error.refusal.slug) < 500 && statusOf(error.refusal.slug) !== 408) throttle.failed(origin)
      return error.refusal
    }
  }
}

const laterIf = (wait: number): Later | null => (wait > 0 ? retryLater('quota-source', 'too many unsigned uploads came from this network', wait) : null)

/** Whoever holds what came so far must hear of a refusal as a value, to let go of it. */
const refusalOf = (error: unknown): Refusal => {
  if (error instanceof Refused) return error.refusal
  throw error
}

const malformed = (why: string) => new Refused(refuse('envelope-malformed', `envelope: ${why}`))

function jsonOf(line: Buffer | null): unknown {
  try {
    return JSON.parse(line?.toString('utf8') ?? '')
  } catch {
    throw malformed('a header is not JSON')
  }
}

interface Reader {
  /** The bytes before the next LF; null at the end. */
  line(): Promise<Buffer | null>
  skip(length: number | undefined): Promise<void>
  payload(length: number): BodyReader
}

function readerOf(source: AsyncIterable<Buffer>): Reader {
  const chunks = source[Symbol.asyncIterator]()
  let rest: Buffer = Buffer.alloc(0)

  /** False at the end. What gunzip throws is the sender's doing. */
  async function more(): Promise<boolean> {
    const next = await chunks.next().catch((error: unknown) => { throw error instanceof Refused ? error : malformed(messageOf(error)) })
    if (next.done) return false
    rest = rest.length === 0 ? next.value : Buffer.concat([rest, next.value])
    return true
  }

  async function line(): Promise<Buffer | null> {
    for (;;) {
      const end = rest.indexOf(LF)
      if (end >= 0) {
        const bytes = rest.subarray(0, end)
        rest = rest.subarray(end + 1)
        return bytes
      }
      if (rest.length > LINE_BYTES) throw malformed(`a line of more than ${LINE_BYTES} bytes`)
      if (await more()) continue
      const last = rest
      rest = Buffer.alloc(0)
      return last.length === 0 ? null : last
    }
  }

  function payload(length: number): BodyReader {
    let left = length
    return {
      async next() {
        if (left === 0) return null
        const there = rest.length > 0 || await more().catch(refusalOf)
        if (!there) return refuse('body-truncated', `envelope: ends ${left} bytes before its item does`)
        if (there !== true) return there
        const bytes = rest.subarray(0, left)
        rest = rest.subarray(bytes.length)
        left -= bytes.length
        return bytes
      },
    }
  }

  return {
    line,
    payload,
    async skip(length) {
      if (length === undefined) return void await line()
      const body = payload(length)
      for (let chunk = await body.next(); chunk !== null; chunk = await body.next()) orThrow(chunk)
    },
  }
}
