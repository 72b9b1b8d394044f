import { hash } from 'node:crypto'
import type { Clock } from '../infra/service/clock.ts'
import type { Append } from './append.ts'
import { encodeHeartbeat } from './contract.ts'
import type { IngestMetrics } from './metrics.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'
import type { Replay } from './replay.ts'
import type { ReceiveStatement, Statement } from './statement.ts'

/**
 * POST /v1/heartbeats: a device says that it is alive and on which version. The same manifest as a crash's, signed by the
 * same key, under a profile of its own (so that neither can be taken for the other), over nothing: size 0 and the SHA-256
 * of no bytes. It takes a number of the device's (bootcount, seq) like any report, and is fresh or a replay by it.
 *
 * A device sends one a day; more do no harm, since the table counts a device once a day (005-carriers.sql). The manifest
 * of a heartbeat is proof for this process only and is not archived.
 */
export interface Alive { status: 'queued' | 'duplicate' }

const NOTHING = hash('sha256', new Uint8Array(0), 'hex')

export function createHeartbeat({ statement, replay, append, clock, metrics }: {
  statement: ReceiveStatement
  replay: Replay
  append: Append
  clock: Clock
  metrics: IngestMetrics
}): (arrival: Statement) => Promise<Alive | Refusal> {
  return async function heartbeat(arrival) {
    const verified = await statement(arrival, 'heartbeat')
    if (isRefusal(verified)) return verified
    const { fleet, deviceId, deviceKeyId, epoch, claims, manifest } = verified
    const digest = Buffer.from(manifest.digest).toString('hex')
    if (claims.size !== 0) return refuse('size-mismatch', `heartbeat: claim -65538 (size) is ${claims.size}, 0 expected`)
    if (digest !== NOTHING) return refuse('digest-mismatch', 'heartbeat: the payload is not the SHA-256 of no bytes')

    const claim = await replay.claim({ fleet, deviceKeyId, epoch, bootcount: claims.bootcount, seq: claims.seq, digest })
    if (claim.kind === 'duplicate') return { status: 'duplicate' }
    if (claim.kind === 'reuse') return refuse('counter-reuse', `boot ${claims.bootcount}, report ${claims.seq} was used for a crash`)
    const receivedAt = clock.now()
    const standing = claim.kind === 'stale' ? 'stale-counter' : verified.pending ? 'pending' : 'counted'
    try {
      await append(verified, encodeHeartbeat({
        v: 1, type: 'heartbeat', fleet, receivedAt, authLevel: 'payload-signed', standing, deviceId, deviceKeyId, claims,
      }))
      metrics.heartbeats.inc({ standing })
      if (claim.kind === 'fresh') claim.keep(claim.previousEvent)
    } finally {
      if (claim.kind === 'fresh') claim.release()
    }
    return { status: 'queued' }
  }
}
