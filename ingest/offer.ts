import type { Clock } from '../infra/service/clock.ts'
import type { Accept, Accepted } from './accept.ts'
import { crashId } from './crash-id.ts'
import type { KnownCrashes } from './known.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'
import type { Registry } from './registry.ts'
import type { Replay } from './replay.ts'
import type { ReceiveStatement, Statement } from './statement.ts'

/**
 * POST /v1/crashes/offer: the manifest of a crash without its dump, with the device's own fingerprint of the crash. A
 * thousand devices with one crash send one dump and a thousand manifests, and the counts are exact all the same.
 *
 *   `send`   nothing was kept: the device posts the whole report, under the same manifest, to /v1/crashes
 *   `known`  a crash with this fingerprint has sent its dump (known.ts). This one is in the log with standing `claimed`,
 *            the id of that crash and its own signed manifest, and will take the bucket of that crash
 *
 * What a device whose key was withdrawn has sent speaks for nobody else. A device that was told `known` and sends its dump
 * nevertheless is told `duplicate`: both are the same report, under one crash id.
 */
export type Offered = Accepted | { status: 'send'; id: string }

export function createOffer({ statement, accept, known, replay, registry, clock }: {
  statement: ReceiveStatement
  accept: Accept
  known: KnownCrashes
  replay: Replay
  registry: Registry
  clock: Clock
}): (arrival: Statement) => Promise<Offered | Refusal> {
  return async function offer(arrival) {
    const verified = await statement(arrival, 'crash-report')
    if (isRefusal(verified)) return verified
    const { fleet, deviceKeyId, epoch, claims, manifest } = verified
    if (claims.fingerprint === undefined) return refuse('claim-missing', 'manifest: an offer needs claim -65546 (fingerprint)')

    const digest = Buffer.from(manifest.digest).toString('hex')
    const report = { fleet, deviceKeyId, epoch, bootcount: claims.bootcount, seq: claims.seq, digest }
    const id = crashId(report)
    if (replay.look(report).kind === 'duplicate') return { status: 'duplicate', id, authLevel: 'payload-signed' }
    const receivedAt = clock.now()
    const same = known.find({ fleet, contentType: manifest.contentType, claims }, receivedAt)
    if (same === null || !trusted(registry.deviceStatus(fleet, same.deviceId))) return { status: 'send', id }

    const held = { dump: { bytes: new Uint8Array(0) }, size: claims.size, digest, release() {}, async discard() {} }
    return accept.signed({ verified, source: arrival.origin.source, receivedAt, held, annotations: {}, claimedOf: same.id })
  }
}

const trusted = (status: ReturnType<Registry['deviceStatus']>): boolean => status === 'active' || status === 'unknown'
