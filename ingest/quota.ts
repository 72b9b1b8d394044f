import { refuse, type Refusal, type Slug } from './outcome.ts'
import type { RefusedReports } from './refused.ts'
import type { Sender, Throttle } from './throttle.ts'
import type { Verified } from './verify.ts'

/** Charges a proven sender for one report, or says when to come back; what is refused is counted, with its digest where one was signed. */
export type ChargeQuota = (sender: Sender & Partial<Pick<Verified, 'manifest'>>) => Later | null

/** A refusal that also says when to come back, in seconds. */
export type Later = Refusal & { retryAfter: number }

const WHOSE = { 'quota-device': 'the device', 'quota-issuer': 'the issuer of the device', 'quota-fleet': 'the fleet' } as const

export function createChargeQuota({ throttle, refused }: { throttle: Throttle; refused: RefusedReports }): ChargeQuota {
  return function charge(sender) {
    const exhausted = throttle.report(sender)
    if (exhausted === null) return null
    const { slug, seconds } = exhausted
    refused.count(sender, slug, sender.manifest && Buffer.from(sender.manifest.digest).toString('hex'))
    return retryLater(slug, `more reports came than the quota of ${WHOSE[slug]} allows`, seconds)
  }
}

export function retryLater(slug: Slug & `quota-${string}`, detail: string, retryAfter: number): Later {
  return { ...refuse(slug, detail), retryAfter }
}
