import type { Append } from './append.ts'
import { encodeAcceptedCrash, type AcceptedCrash } from './contract.ts'
import { crashId, unsignedCrashId } from './crash-id.ts'
import type { KnownCrashes } from './known.ts'
import type { IngestMetrics } from './metrics.ts'
import { refuse, type Refusal } from './outcome.ts'
import type { Replay } from './replay.ts'
import type { Held } from './spool.ts'
import type { Peer } from './transport.ts'
import type { Verified } from './verify.ts'

/**
 * Promise: `queued` is returned only after log.append() has resolved, so a 2xx means durable. When the log can't, or
 * not before the deadline, BrokenWorld is thrown and the device is told 503: the message may or may not be in the log,
 * the device sends again, and the equal crash id makes it one crash.
 *
 * The blob of a large dump is durable before the message that points at it, and outlives an append of unknown outcome:
 * a message without its dump would be worse than a dump without its message.
 */
export interface Accepted { status: 'queued' | 'duplicate'; id: string; authLevel: AcceptedCrash['authLevel'] }

export interface SignedReport {
  verified: Verified
  source: string
  receivedAt: number
  held: Held
  annotations: AcceptedCrash['annotations']
  /** Set when the dump stayed on the device: the crash that has the same fingerprint (offer.ts). */
  claimedOf?: string
}

/** Whom the connection proves, or the fleet whose project key came along. */
export type UnsignedSender = { level: 'transport-authenticated' } & Peer | { level: 'project-key'; fleet: string }

export interface UnsignedReport {
  sender: UnsignedSender
  source: string
  receivedAt: number
  held: Held
  contentType: AcceptedCrash['contentType']
  claims: AcceptedCrash['claims']
  annotations: AcceptedCrash['annotations']
}

export interface Accept {
  /** Takes over `held`: it is released, and its blob kept or removed, whatever comes out. */
  signed(report: SignedReport): Promise<Accepted | Refusal>
  unsigned(report: UnsignedReport): Promise<Accepted>
}

const LATE_MS = 6 * 60 * 60 * 1000
/** Older than that is no clock to believe, and would open a partition of the table for every month that a device invents. */
const OLDEST_MS = 400 * 24 * 60 * 60 * 1000

export function createAccept({ append, replay, known, metrics }: { append: Append; replay: Replay; known: KnownCrashes; metrics: IngestMetrics }): Accept {
  async function keep(crash: AcceptedCrash): Promise<void> {
    await append(crash, encodeAcceptedCrash(crash))
    metrics.accepted.inc({ auth_level: crash.authLevel, standing: crash.standing })
    if (crash.claimedOf === undefined) metrics.bytes.inc(crash.size)
    known.learn(crash)
  }

  async function signed({ verified, source, receivedAt, held, annotations, claimedOf }: SignedReport): Promise<Accepted | Refusal> {
    const { fleet, deviceKeyId, epoch, claims, manifest } = verified
    const { bootcount, seq } = claims
    const report = { fleet, deviceKeyId, epoch, bootcount, seq, digest: held.digest }
    const id = crashId(report)
    const claim = await replay.claim(report)
    if (claim.kind === 'duplicate') {
      await held.discard()
      return { status: 'duplicate', id, authLevel: 'payload-signed' }
    }
    const eventTime = eventTimeOf(claims.iat, claim.previousEvent, receivedAt)
    const crash: AcceptedCrash = {
      v: 1, id, fleet, receivedAt, eventTime, authLevel: 'payload-signed',
      standing: standingOf(claim.kind, verified.pending, claimedOf !== undefined),
      deviceId: verified.deviceId, deviceKeyId, ...(epoch === 0 ? {} : { epoch }), issuer: verified.issuer, anchor: verified.anchor, keyProtection: verified.keyProtection,
      flags: receivedAt - eventTime > LATE_MS ? [...verified.flags, 'late'] : verified.flags,
      source, contentType: manifest.contentType, digest: held.digest, size: held.size, claims, annotations,
      manifest: manifest.item, dump: held.dump, ...(claimedOf === undefined ? {} : { claimedOf }),
    }
    try {
      await keep(crash)
      if (claim.kind === 'fresh') claim.keep(eventTime)
    } finally {
      if (claim.kind === 'fresh') claim.release()
      held.release()
    }
    if (claim.kind === 'reuse') return refuse('counter-reuse', `boot ${bootcount}, report ${seq} was used for another dump; this one is kept aside`)
    return { status: 'queued', id, authLevel: crash.authLevel }
  }

  async function unsigned({ sender, source, receivedAt, held, contentType, claims, annotations }: UnsignedReport): Promise<Accepted> {
    const { level, fleet } = sender
    const { id, who } = level === 'project-key' ? strangersReport(fleet, source, held.digest) : peersReport(sender, held.digest)
    try {
      await keep({
        v: 1, id, fleet, receivedAt, eventTime: receivedAt, authLevel: level, ...who, source, contentType, digest: held.digest, size: held.size,
        claims, annotations, dump: held.dump,
      })
    } finally {
      held.release()
    }
    return { status: 'queued', id, authLevel: level }
  }

  return { signed, unsigned }
}

type Who = Pick<AcceptedCrash, 'deviceId' | 'deviceKeyId' | 'issuer' | 'anchor' | 'keyProtection' | 'flags' | 'standing' | 'epoch'>

function strangersReport(fleet: string, source: string, digest: string): { id: string; who: Who } {
  const { id, deviceId } = unsignedCrashId({ fleet, source, digest })
  return { id, who: { deviceId, keyProtection: 'unknown', flags: [], standing: 'counted' } }
}

/** The device stands where the network of a stranger would: two devices behind one address may send equal dumps. */
function peersReport({ fleet, deviceId, deviceKeyId, issuer, anchor, keyProtection, flags, pending, epoch }: Peer, digest: string): { id: string; who: Who } {
  const { id } = unsignedCrashId({ fleet, source: `device ${deviceId}`, digest })
  const proven = { ...(deviceKeyId !== undefined && { deviceKeyId }), ...(anchor !== undefined && { anchor }), ...(epoch > 0 && { epoch }) }
  return { id, who: { deviceId, ...proven, issuer, keyProtection, flags, standing: pending ? 'pending' : 'counted' } }
}

function standingOf(freshness: 'fresh' | 'stale' | 'reuse', pending: boolean, claimed: boolean): AcceptedCrash['standing'] {
  if (freshness === 'stale') return 'stale-counter'
  if (freshness === 'reuse') return 'counter-reuse'
  return pending ? 'pending' : claimed ? 'claimed' : 'counted'
}

/**
 * What the device says, clamped to [the previous event of its key, now] and to the last 400 days; detectors use it.
 * `iat` is never a reason to refuse.
 */
function eventTimeOf(iat: number | undefined, previousEvent: number, receivedAt: number): number {
  if (iat === undefined) return receivedAt
  return Math.min(Math.max(Math.floor(iat * 1000), previousEvent, receivedAt - OLDEST_MS), receivedAt)
}
