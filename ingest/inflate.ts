import type { IncomingMessage } from 'node:http'
import { PassThrough, pipeline, type Transform } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { readBody, type BodyReader } from './body.ts'
import type { Limits } from './config.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'

/** The bodies of clients that know nothing of manifests: perhaps gzip, perhaps chunked, inflated within a budget. */

/** Carries a refusal out of a stream; the route that reads the stream gives it back as a value. */
export class Refused extends Error {
  readonly refusal: Refusal
  constructor(refusal: Refusal) {
    super(refusal.slug)
    this.refusal = refusal
  }
}

export function orThrow<T extends object>(value: T | Refusal): Exclude<T, Refusal> {
  if (isRefusal(value)) throw new Refused(value)
  return value as Exclude<T, Refusal>
}

export function judgeEncoding({ headers }: IncomingMessage): void {
  if (!['gzip', 'identity', undefined].includes(headers['content-encoding'])) throw new Refused(refuse('content-encoding-refused', 'expected gzip or none'))
}

/** The body as a stream of its own, so that giving up on it leaves the socket open for the answer. */
export async function* chunksOf(body: BodyReader): AsyncGenerator<Buffer> {
  for (let chunk = await body.next(); chunk !== null; chunk = await body.next()) yield orThrow(chunk)
}

export const inflateOf = ({ headers }: IncomingMessage): Transform => (headers['content-encoding'] === 'gzip' ? createGunzip() : new PassThrough())

/** `most` is asked again with each chunk. */
export const atMost = (most: () => number) => async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let size = 0
  for await (const chunk of source) {
    size += chunk.length
    if (size > most()) throw new Refused(refuse('content-inflated-too-large', `body: more than ${most()} bytes`))
    yield chunk
  }
}

/** The inflated body, chunk by chunk. What went wrong on the way is thrown by the one who reads. */
export function inflated(request: IncomingMessage, limits: Limits): AsyncIterable<Buffer> {
  const inflate = inflateOf(request)
  pipeline(chunksOf(readBody(request, limits)), inflate, () => {})
  return atMost(() => limits.inflatedBytes)(inflate)
}
