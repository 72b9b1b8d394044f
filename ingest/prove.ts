import type { Clock } from '../infra/service/clock.ts'
import { decodeManifest, type Profile } from './manifest.ts'
import type { IngestMetrics } from './metrics.ts'
import { REFUSED_SLUGS } from './contract.ts'
import { isRefusal, refuse, statusOf, type Refusal } from './outcome.ts'
import type { RefusedReports } from './refused.ts'
import type { Origin, Throttle } from './throttle.ts'
import type { Verified, Verifier } from './verify.ts'

/**
 * Whose manifest this is. Strangers queue: of what comes from addresses that have proven nothing yet, one manifest is
 * looked at in each turn of the event loop, so that a flood of forgeries waits for the devices and not they for it.
 * What a device tries to say after it was shut out is counted like what a quota keeps out: its key is in somebody's hands.
 */
export type Prove = (item: Uint8Array, origin: Origin, profile?: Profile) => Promise<Verified | Refusal>

/** Whether a refusal counts against where it came from. A leaf that was forgotten here (a restart) is nobody's fault, and to say so costs nothing. */
export const isBlamed = ({ slug }: Refusal): boolean => slug !== 'x5t-unknown' && statusOf(slug) < 500

/** Strangers that may wait; what comes beyond is told to come back. */
const QUEUE = 2_000

export function createProve({ verifier, throttle, refused, clock, metrics }: { verifier: Verifier; throttle: Throttle; refused: RefusedReports; clock: Clock; metrics: IngestMetrics }): Prove {
  const waiting: (() => void)[] = []

  function turn(): Promise<void> {
    return new Promise((resolve) => {
      waiting.push(resolve)
      if (waiting.length === 1) setImmediate(next)
    })
  }
  function next(): void {
    waiting[0]!()
    // Left in the queue until its turn is over, so that one who comes now queues behind it.
    setImmediate(() => {
      waiting.shift()
      if (waiting.length > 0) next()
    })
  }

  return async function prove(item, origin, profile) {
    const known = throttle.hasProven(origin)
    if (!known) {
      if (waiting.length >= QUEUE) return refuse('overloaded', 'too many manifests of strangers are waiting')
      await turn()
    }
    const manifest = decodeManifest(item, profile)
    if (isRefusal(manifest)) return manifest
    const started = performance.now()
    const verified = await verifier.verify(manifest, clock.now())
    metrics.verifySeconds.observe((performance.now() - started) / 1000)
    if (isRefusal(verified)) {
      const slug = REFUSED_SLUGS.find((counted) => counted === verified.slug)
      if (slug !== undefined && 'sender' in verified) refused.count(verified.sender, slug, Buffer.from(manifest.digest).toString('hex'))
    } else if (!known) throttle.proved(origin)
    return verified
  }
}
