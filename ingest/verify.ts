import type { Anchor, ChainPolicy } from './chain.ts'
import type { AcceptedCrash } from './contract.ts'
import type { Manifest } from './manifest.ts'
import type { Refusal } from './outcome.ts'

export type DeviceStatus = 'active' | 'disabled' | 'revoked' | 'pending' | 'unknown'

/** What the device registry tells the proof. Asked on every manifest, so that a revocation needs no cache to be emptied. */
export interface AnchorSource {
  /** The active anchors of all fleets. The same array object as long as nothing changed. */
  anchors(): readonly Anchor[]
  policy(fleet: string): ChainPolicy
  /** Asked only after the signature is good. `unknown` is a first sight and is accepted. */
  deviceStatus(fleet: string, deviceId: string): DeviceStatus
}

export type Verified = {
  fleet: string
  deviceId: string
  deviceKeyId: string
  issuer: string
  /** SHA-256 of the anchor certificate, hex. */
  anchor: string
  keyProtection: AcceptedCrash['keyProtection']
  flags: string[]
  claims: Manifest['claims']
  manifest: Manifest
}

export interface Verifier {
  /** `now` in ms since the epoch. The signature is checked in the thread pool. */
  verify(manifest: Manifest, now: number): Promise<Verified | Refusal>
}
