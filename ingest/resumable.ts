import type { IncomingMessage } from 'node:http'
import type { Accepted } from './accept.ts'
import { readBody } from './body.ts'
import type { CarrierDeps } from './carrier.ts'
import type { UploadLimits } from './config.ts'
import { crashId } from './crash-id.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'
import { isBlamed, type Prove } from './prove.ts'
import { retryLater } from './quota.ts'
import { manifestOfText, type Arrival } from './receive.ts'
import type { Replay } from './replay.ts'
import { spool } from './spool.ts'
import type { Origin } from './throttle.ts'
import type { Upload, Uploads } from './uploads.ts'
import type { Verified } from './verify.ts'

/**
 * Dumps over slow and broken links, and dumps too large for one request: draft-ietf-httpbis-resumable-upload on /v1/uploads.
 *
 *   POST    the manifest in the header Crash-Manifest, judged before any byte of the dump; 201 and Location
 *   HEAD    Upload-Offset: where to go on
 *   PATCH   application/partial-upload from that offset; with `Upload-Complete: ?1` the answer is that of /v1/crashes
 *   DELETE  the sender gives up
 *
 * The interim answer 104 of the draft is not sent: a sender on a bad link creates the upload with no content, and has its
 * place before the first byte.
 *
 * A piece that breaks off is kept as far as it came. A newer request for an upload ends an older one, which hangs on a
 * connection that is dead without knowing it. Whole, the dump takes the way of every other (accept.ts): who signed it is
 * asked again, because a key may have been revoked since. When the log can't take it, the upload stays and the last PATCH
 * is sent again, with no content. A sender who lost the last answer begins anew and is told `duplicate`.
 */
export type Progress =
  | { kind: 'accepted'; accepted: Accepted }
  | { kind: 'created' | 'offset' | 'appended'; location: string; offset: number; size: number; limit: string }
  | { kind: 'cancelled' }
/** What a refusal tells beside its words. */
export type RefusedPiece = Refusal & { headers?: Record<string, string> }

export interface Resumable {
  create(piece: Arrival): Promise<Progress | RefusedPiece>
  look(piece: Arrival, token: string): Promise<Progress | RefusedPiece>
  append(piece: Arrival, token: string): Promise<Progress | RefusedPiece>
  cancel(piece: Arrival, token: string): Promise<Progress | RefusedPiece>
}

export function createResumable({ uploads, uploadLimits, accept, prove, replay, throttle, charge, blobs, budget, clock, logger, limits }: CarrierDeps & { uploads: Uploads; uploadLimits: UploadLimits; prove: Prove; replay: Replay }): Resumable {
  /** The request that works on an upload now, by token. */
  const working = new Map<string, { request: IncomingMessage; done: Promise<unknown> }>()

  async function open({ request, origin }: Arrival): Promise<Verified | Refusal> {
    if ((request.headers['content-encoding'] ?? 'identity') !== 'identity') return refuse('content-encoding-refused', 'the body must not be encoded in transfer')
    const said = request.headers['crash-manifest']
    if (said === undefined) return refuse('upload-malformed', 'an upload begins with the header Crash-Manifest')
    const item = manifestOfText(String(said))
    return isRefusal(item) ? item : prove(item, origin)
  }

  /** One request at a time works on an upload, the newest. */
  async function alone<T>(token: string, { request }: Arrival, work: () => Promise<T>): Promise<T> {
    for (let older = working.get(token); older; older = working.get(token)) {
      older.request.destroy()
      await older.done.catch(() => {})
    }
    const done = work()
    working.set(token, { request, done })
    try {
      return await done
    } finally {
      working.delete(token)
    }
  }

  const progressOf = (kind: 'created' | 'offset' | 'appended', upload: Upload): Progress =>
    ({ kind, location: `/v1/uploads/${upload.token}`, offset: upload.offset, size: upload.size, limit: limitOf(upload.createdAt) })
  const limitOf = (createdAt: number): string =>
    `max-size=${uploadLimits.dumpBytes}, max-age=${Math.max(0, Math.floor((createdAt + uploadLimits.expiryMs - clock.now()) / 1000))}`

  async function complete(upload: Upload, { origin, requestId }: Arrival): Promise<Progress | RefusedPiece> {
    const headers = { 'upload-complete': '?1' }
    const outcome = await finish(upload, origin, requestId)
    // Only what may be better later keeps the upload.
    if (!isRefusal(outcome) || outcome.slug !== 'overloaded') await uploads.remove(upload)
    return isRefusal(outcome) ? { ...outcome, headers } : { kind: 'accepted', accepted: outcome }
  }

  async function finish(upload: Upload, origin: Origin, requestId: string): Promise<Accepted | Refusal> {
    if (upload.offset !== upload.size) return refuse('size-mismatch', `dump: ${upload.offset} bytes came, the manifest signs ${upload.size}`)
    const verified = await prove(Buffer.from(upload.manifest, 'base64'), origin)
    if (isRefusal(verified)) return verified
    const held = await spool(readBody(uploads.read(upload), limits), {
      blobs, budget, logger, blobKey: `dumps/${upload.report}-${requestId}`, inlineBytes: limits.inlineBytes, maxBytes: uploadLimits.dumpBytes, size: upload.size,
    })
    if (isRefusal(held)) return held
    const signed = Buffer.from(verified.manifest.digest).toString('hex')
    if (held.digest === signed) return accept.signed({ verified, source: origin.source, receivedAt: clock.now(), held, annotations: {} })
    await held.discard()
    return refuse('digest-mismatch', `dump: SHA-256 is ${held.digest}, the manifest signs ${signed}`)
  }

  async function take(upload: Upload, piece: Arrival, last: boolean, kind: 'created' | 'appended'): Promise<Progress | RefusedPiece> {
    piece.goOn()
    const refusal = await uploads.append(upload, readBody(piece.request, limits))
    if (refusal) return { ...refusal, headers: { 'upload-offset': String(upload.offset) } }
    return last ? complete(upload, piece) : progressOf(kind, upload)
  }

  async function withUpload(token: string, piece: Arrival, work: (upload: Upload) => Promise<Progress | RefusedPiece>): Promise<Progress | RefusedPiece> {
    const wait = throttle.source(piece.origin)
    if (wait > 0) return retryLater('quota-source', 'too many refused requests came from this network', wait)
    return alone(token, piece, async () => {
      const upload = await uploads.find(token, clock.now())
      if (upload !== null) return work(upload)
      throttle.failed(piece.origin)
      return refuse('upload-unknown', 'upload: complete, expired, replaced or never begun')
    })
  }

  return {
    async create(piece) {
      const wait = throttle.source(piece.origin)
      if (wait > 0) return retryLater('quota-source', 'too many refused requests came from this network', wait)
      const last = booleanOf(piece.request.headers['upload-complete'])
      const verified = last === null ? refuse('upload-malformed', 'Upload-Complete is neither ?0 nor ?1') : await open(piece)
      if (isRefusal(verified)) {
        if (isBlamed(verified)) throttle.failed(piece.origin)
        return verified
      }
      const later = charge(verified)
      if (later) return later
      const { fleet, deviceId, deviceKeyId, epoch, claims, manifest } = verified
      const length = piece.request.headers['upload-length']
      if (length !== undefined && length !== String(claims.size)) return refuse('size-mismatch', `upload: Upload-Length is not the ${claims.size} bytes that the manifest signs`)
      const createdAt = clock.now()
      if (claims.size > uploadLimits.dumpBytes) {
        return { ...refuse('too-large', `dump: ${claims.size} bytes, the most is ${uploadLimits.dumpBytes}`), headers: { 'upload-limit': limitOf(createdAt) } }
      }
      const report = { fleet, deviceKeyId, epoch, bootcount: claims.bootcount, seq: claims.seq, digest: Buffer.from(manifest.digest).toString('hex') }
      const id = crashId(report)
      if (replay.look(report).kind === 'duplicate') return { kind: 'accepted', accepted: { status: 'duplicate', id, authLevel: 'payload-signed' } }
      const upload = await uploads.create({ fleet, deviceId, report: id, size: claims.size, createdAt, manifest: Buffer.from(manifest.item).toString('base64') })
      return isRefusal(upload) ? upload : alone(upload.token, piece, () => take(upload, piece, last === true, 'created'))
    },

    look: (piece, token) => withUpload(token, piece, async (upload) => {
      await uploads.sync(upload)
      return progressOf('offset', upload)
    }),

    append: (piece, token) => withUpload(token, piece, async (upload) => {
      const { headers } = piece.request
      const last = booleanOf(headers['upload-complete'])
      if (headers['content-type'] !== 'application/partial-upload') return refuse('content-type-unsupported', 'expected application/partial-upload')
      if ((headers['content-encoding'] ?? 'identity') !== 'identity') return refuse('content-encoding-refused', 'the body must not be encoded in transfer')
      if (last === null) return refuse('upload-malformed', 'Upload-Complete is neither ?0 nor ?1')
      if (headers['upload-offset'] === String(upload.offset)) return take(upload, piece, last, 'appended')
      await uploads.sync(upload)
      return { ...refuse('upload-offset', `upload: goes on at offset ${upload.offset}`), headers: { 'upload-offset': String(upload.offset) } }
    }),

    cancel: (piece, token) => withUpload(token, piece, async (upload) => {
      await uploads.remove(upload)
      return { kind: 'cancelled' }
    }),
  }
}

/** A boolean of RFC 9651 3.3.6. */
const booleanOf = (value: string | string[] | undefined): boolean | null => (value === '?1' ? true : value === '?0' ? false : null)
