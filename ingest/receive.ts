import { hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { readBody, type BodyReader } from './body.ts'
import type { Accepted } from './accept.ts'
import type { CarrierDeps } from './carrier.ts'
import type { Limits } from './config.ts'
import { crashId } from './crash-id.ts'
import { scanManifest } from './manifest.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'
import { isBlamed, type Prove } from './prove.ts'
import { retryLater } from './quota.ts'
import type { Replay } from './replay.ts'
import { spool, type Budget, type Held } from './spool.ts'
import type { Origin } from './throttle.ts'
import type { Verified } from './verify.ts'

/**
 * POST /v1/crashes, `application/cbor-seq` (RFC 8742): item 1 the manifest, item 2 one definite-length byte string, the
 * dump. The order of judging is the order of cost, and no step is taken for a sender who failed the one before:
 *
 *   type, encoding and length of the request; whether its network fails too often
 *   the manifest, as soon as it is there: shape, chain, signature, device
 *   the quotas of the device, its issuer and its fleet
 *   the head of the dump against the signed size, the length of the request against both
 *   whether this report is durable already (then the rest of its dump is read and dropped)
 *   the dump: digested as it comes, held in memory or, if it is large, in the blob store
 *   its digest against the signed one; then accept.ts
 *
 * A device that sends `Expect: 100-continue` is told to go on after the first step, or after the second when the
 * manifest came as the header `Crash-Manifest` (a byte sequence of RFC 8941) and can be judged before the body.
 */
export interface ReceiveDeps extends CarrierDeps { prove: Prove; replay: Replay }

export interface Arrival {
  request: IncomingMessage
  /** Where it came from; `source` alone is kept. */
  origin: Origin
  requestId: string
  /** Tells a sender who waits for it to send the body. */
  goOn(): void
}

/** manifest.ts refuses larger ones; here it only bounds what a request may announce. */
const MANIFEST_BYTES = 8 * 1024
/** Bytes that the head of the dump's byte string may take. */
const MAX_HEAD = 9

export function createReceive(deps: ReceiveDeps): (arrival: Arrival) => Promise<Accepted | Refusal> {
  const { accept, prove, replay, throttle, charge, blobs, budget, clock, logger, limits } = deps

  /** Everything up to a proven sender; its failures are charged to where it came from. */
  async function open({ request, origin, goOn }: Arrival): Promise<Proven | Refusal> {
    const length = judgeHeaders(request, limits)
    if (typeof length !== 'number') return length

    const early = request.headers['crash-manifest']
    const told = early === undefined ? null : manifestOfText(String(early))
    if (told !== null && isRefusal(told)) return told
    const toldVerified = told === null ? null : await prove(told, origin)
    if (toldVerified !== null && isRefusal(toldVerified)) return toldVerified
    goOn()

    const body = readBody(request, limits)
    const opening = await readManifest(body)
    if (isRefusal(opening)) return opening
    const item = opening.bytes.subarray(0, opening.end)
    if (told !== null && Buffer.compare(told, item) !== 0) return refuse('header-mismatch', 'Crash-Manifest and the first item of the body differ')
    const verified = toldVerified ?? await prove(item, origin)
    if (isRefusal(verified)) return verified
    return { verified, body, rest: opening.bytes.subarray(opening.end), left: length - opening.end }
  }

  return async function receive(arrival) {
    const { origin, requestId } = arrival
    const wait = throttle.source(origin)
    if (wait > 0) return retryLater('quota-source', 'too many refused requests came from this network', wait)

    const proven = await open(arrival)
    if (isRefusal(proven)) {
      if (isBlamed(proven)) throttle.failed(origin)
      return proven
    }
    const { verified } = proven
    const { fleet, deviceKeyId, epoch, claims, manifest } = verified

    const later = charge(verified)
    if (later) return later

    const digest = Buffer.from(manifest.digest.buffer, manifest.digest.byteOffset, manifest.digest.byteLength).toString('hex')
    const rest = await readDumpHead(proven, claims.size, limits)
    if (isRefusal(rest)) return rest
    const whole = rest.length === claims.size && claims.size <= limits.inlineBytes
    const report = { fleet, deviceKeyId, epoch, bootcount: claims.bootcount, seq: claims.seq, digest }
    // Only where more is to come does it save anything to know by now that the report is durable already. The rest is read
    // all the same: many clients look for an answer only when they have sent everything, and this one must hear it.
    if (!whole && replay.look(report).kind === 'duplicate') {
      await readToEnd(proven.body)
      return { status: 'duplicate', id: crashId(report), authLevel: 'payload-signed' }
    }
    const held = whole ? holdWhole(rest, budget) : await spool(startingWith(rest, proven.body), {
      blobs, budget, logger, blobKey: `dumps/${crashId(report)}-${requestId}`, inlineBytes: limits.inlineBytes, maxBytes: limits.dumpBytes, size: claims.size,
    })
    if (isRefusal(held)) return held
    if (held.digest !== digest) {
      await held.discard()
      return refuse('digest-mismatch', `dump: SHA-256 is ${held.digest}, the manifest signs ${digest}`)
    }
    return accept.signed({ verified, source: origin.source, receivedAt: clock.now(), held, annotations: {} })
  }
}

interface Proven {
  verified: Verified
  body: BodyReader
  /** What came of the body behind the manifest so far. */
  rest: Buffer
  /** Bytes of the body behind the manifest, by Content-Length. */
  left: number
}

/** Content-Length, when type, encoding and length of the request are acceptable. */
function judgeHeaders({ headers }: IncomingMessage, limits: Limits): number | Refusal {
  const type = headers['content-type']?.split(';', 1)[0]!.trim().toLowerCase()
  if (type !== 'application/cbor-seq') return refuse('content-type-unsupported', 'expected application/cbor-seq')
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
    return refuse('content-encoding-refused', 'the body must not be encoded in transfer')
  }
  if (headers['content-length'] === undefined) return refuse('length-missing', 'a Content-Length is required')
  const length = Number(headers['content-length'])
  const most = MANIFEST_BYTES + MAX_HEAD + limits.dumpBytes
  return length <= most ? length : refuse('too-large', `body: ${length} bytes, the most is ${most}`)
}

/** `:base64:` (RFC 8941 3.3.5), one whole manifest. */
export function manifestOfText(value: string): Buffer | Refusal {
  const [, base64] = /^\s*:([A-Za-z0-9+/]*={0,2}):\s*$/.exec(value) ?? []
  if (base64 === undefined) return refuse('cbor-malformed', 'the manifest is not a byte sequence in colons')
  const item = Buffer.from(base64, 'base64')
  const scan = scanManifest(item)
  if ('slug' in scan) return scan
  if (scan.kind === 'incomplete' || scan.end !== item.length) return refuse('cbor-malformed', 'the manifest is not exactly one item')
  return item
}

/** Reads until the manifest is whole; what came behind it comes along. */
async function readManifest(body: BodyReader): Promise<{ bytes: Buffer; end: number } | Refusal> {
  let bytes: Buffer = Buffer.alloc(0)
  for (;;) {
    const chunk = await body.next()
    if (chunk === null) return refuse('manifest-truncated', `body: ends after ${bytes.length} bytes, inside the manifest`)
    if (isRefusal(chunk)) return chunk
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
    const scan = scanManifest(bytes)
    if ('slug' in scan) return scan
    if (scan.kind === 'complete') return { bytes, end: scan.end }
  }
}

/**
 * Checks the head of item 2 against the signed size and the length of the request; gives the bytes of the dump that
 * are there already.
 *   head = 0x40 + n (n < 24) | 0x58 u8 | 0x59 u16 | 0x5a u32      major type 2, definite, shortest form
 */
async function readDumpHead({ body, rest, left }: Proven, size: number, limits: Limits): Promise<Buffer | Refusal> {
  if (size > limits.dumpBytes) return refuse('too-large', `dump: ${size} bytes, the most is ${limits.dumpBytes}`)
  let bytes = rest
  for (;;) {
    const head = parseHead(bytes)
    if (head === 'malformed') return refuse('body-malformed', 'item 2 is not a byte string with a definite length in its shortest form')
    if (head !== 'incomplete') {
      if (head.length !== size) return refuse('size-mismatch', `dump: its head says ${head.length} bytes, the manifest signs ${size}`)
      const expected = head.end + size
      if (left < expected) return refuse('body-truncated', `body: ends ${expected - left} bytes before the dump does`)
      if (left > expected) return refuse('trailing-bytes', `body: goes on for ${left - expected} bytes behind the dump`)
      return bytes.subarray(head.end)
    }
    const chunk = await body.next()
    if (chunk === null) return refuse('body-truncated', 'body: ends before the head of the dump')
    if (isRefusal(chunk)) return chunk
    bytes = Buffer.concat([bytes, chunk])
  }
}

function parseHead(bytes: Buffer): { length: number; end: number } | 'incomplete' | 'malformed' {
  const initial = bytes[0]
  if (initial === undefined) return 'incomplete'
  const low = initial & 31
  if (initial >> 5 !== 2 || low > 26) return 'malformed'
  if (low < 24) return { length: low, end: 1 }
  const width = 1 << (low - 24)
  if (bytes.length < 1 + width) return 'incomplete'
  const length = bytes.readUIntBE(1, width)
  const shortest = length >= (width === 1 ? 24 : 2 ** (4 * width))
  return shortest ? { length, end: 1 + width } : 'malformed'
}

/** The common case: the dump lies whole in the chunk that brought the manifest, and is digested in one go. */
function holdWhole(bytes: Buffer, budget: Budget): Held | Refusal {
  if (!budget.take(bytes.length)) return refuse('overloaded', 'too many bytes of dumps in flight')
  const release = () => budget.give(bytes.length)
  return { dump: { bytes }, size: bytes.length, digest: hash('sha256', bytes, 'hex'), release, discard: async () => release() }
}

async function readToEnd(body: BodyReader): Promise<void> {
  for (let chunk = await body.next(); chunk !== null && !isRefusal(chunk);) chunk = await body.next()
}

function startingWith(first: Buffer, body: BodyReader): BodyReader {
  let pending: Buffer | null = first.length > 0 ? first : null
  return {
    async next() {
      const chunk = pending
      pending = null
      return chunk ?? body.next()
    },
  }
}
