import type { IncomingMessage } from 'node:http'
import type { Accepted } from './accept.ts'
import { annotationsOf, claimsOf } from './annotations.ts'
import { readBody } from './body.ts'
import type { CarrierDeps } from './carrier.ts'
import type { Limits } from './config.ts'
import { CONTENT_TYPES, type AcceptedCrash } from './contract.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'
import { retryLater } from './quota.ts'
import type { Arrival } from './receive.ts'
import { spool } from './spool.ts'
import type { Transport } from './transport.ts'

/**
 * POST /v1/crashes with the dump itself as the body, from a connection that says who it is (transport.ts): for devices
 * that can do TLS and nothing else. What such a report says about itself stands in the query, under the names of
 * annotations. Whoever sends it is judged before a byte of the dump.
 */
export const bareType = ({ headers }: IncomingMessage): AcceptedCrash['contentType'] | undefined => {
  const type = headers['content-type']?.split(';', 1)[0]!.trim().toLowerCase()
  return BARE_TYPES.find((bare) => bare === type)
}
/** A storm digest speaks for thousands of crashes: it has to be signed. */
const BARE_TYPES = CONTENT_TYPES.filter((type) => type !== 'application/vnd.overrun.crash-storm+cbor')

export function createBare({ accept, transport, throttle, charge, blobs, budget, clock, logger, limits }: CarrierDeps & { transport: Transport }): (arrival: Arrival & { query: Record<string, unknown> }, contentType: AcceptedCrash['contentType']) => Promise<Accepted | Refusal> {
  return async function bare({ request, origin, requestId, goOn, query }, contentType) {
    const wait = throttle.source(origin)
    if (wait > 0) return retryLater('quota-source', 'too many refused requests came from this network', wait)
    const peer = judgeHeaders(request, limits) ?? transport.peerOf(request) ?? refuse('not-authenticated', 'a dump without a manifest, from a connection that shows no certificate and no token')
    if (isRefusal(peer)) {
      throttle.failed(origin)
      return peer
    }
    throttle.proved(origin)
    const later = charge(peer)
    if (later) return later
    goOn()
    const held = await spool(readBody(request, limits), {
      blobs, budget, logger, blobKey: `dumps/bare-${requestId}`, inlineBytes: limits.inlineBytes, maxBytes: limits.dumpBytes,
    })
    if (isRefusal(held)) return held
    const annotations = annotationsOf(new Map(), query)
    return accept.unsigned({ sender: { ...peer, level: 'transport-authenticated' }, source: origin.source, receivedAt: clock.now(), held, contentType, claims: claimsOf(annotations), annotations })
  }
}

function judgeHeaders({ headers }: IncomingMessage, limits: Limits): Refusal | null {
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') return refuse('content-encoding-refused', 'the body must not be encoded in transfer')
  if (headers['content-length'] === undefined) return refuse('length-missing', 'a Content-Length is required')
  const length = Number(headers['content-length'])
  if (length === 0) return refuse('dump-missing', 'the body is empty')
  return length <= limits.dumpBytes ? null : refuse('too-large', `body: ${length} bytes, the most is ${limits.dumpBytes}`)
}
