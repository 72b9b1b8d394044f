import type { IncomingMessage } from 'node:http'
import { readBody } from './body.ts'
import type { Limits } from './config.ts'
import { MANIFEST_LIMITS, type Profile } from './manifest.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'
import { isBlamed, type Prove } from './prove.ts'
import { retryLater, type ChargeQuota } from './quota.ts'
import type { Origin, Throttle } from './throttle.ts'
import type { Verified } from './verify.ts'

/**
 * A request whose whole body is one manifest (`application/cose`, RFC 9052): what an offer and a heartbeat send. Judged
 * in the order of cost like a crash (receive.ts): the network, the head of the request, the manifest, the quotas.
 */
export interface Statement { request: IncomingMessage; origin: Origin; goOn(): void }
export type ReceiveStatement = (statement: Statement, profile: Profile) => Promise<Verified | Refusal>

export function createReceiveStatement({ prove, throttle, charge, limits }: {
  prove: Prove
  throttle: Throttle
  charge: ChargeQuota
  limits: Limits
}): ReceiveStatement {
  async function open({ request, origin, goOn }: Statement, profile: Profile): Promise<Verified | Refusal> {
    const refusal = judgeHeaders(request)
    if (refusal) return refusal
    goOn()
    const item = await readAll(request, limits)
    if (isRefusal(item)) return item
    return prove(item, origin, profile)
  }

  return async function receiveStatement(statement, profile) {
    const wait = throttle.source(statement.origin)
    if (wait > 0) return retryLater('quota-source', 'too many refused requests came from this network', wait)
    const verified = await open(statement, profile)
    if (isRefusal(verified)) {
      if (isBlamed(verified)) throttle.failed(statement.origin)
      return verified
    }
    return charge(verified) ?? verified
  }
}

function judgeHeaders({ headers }: IncomingMessage): Refusal | undefined {
  const type = headers['content-type']?.split(';', 1)[0]!.trim().toLowerCase()
  if (type !== 'application/cose') return refuse('content-type-unsupported', 'expected application/cose')
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') return refuse('content-encoding-refused', 'the body must not be encoded in transfer')
  if (headers['content-length'] === undefined) return refuse('length-missing', 'a Content-Length is required')
  if (Number(headers['content-length']) > MANIFEST_LIMITS.bytes) return refuse('manifest-too-large', `body: ${headers['content-length']} bytes, the most is ${MANIFEST_LIMITS.bytes}`)
  return undefined
}

async function readAll(request: IncomingMessage, limits: Limits): Promise<Buffer | Refusal> {
  const body = readBody(request, limits)
  const chunks: Buffer[] = []
  for (let chunk = await body.next(); chunk !== null; chunk = await body.next()) {
    if (isRefusal(chunk)) return chunk
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
