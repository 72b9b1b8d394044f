import type { KeyObject } from 'node:crypto'
import type { AcceptedCrash } from './contract.ts'
import type { Refusal } from './outcome.ts'

/** A certificate that a fleet trusts to issue device certificates. */
export type Anchor = {
  readonly der: Uint8Array
  /** SHA-256 of the DER, lower-case hex. */
  readonly sha256: string
  readonly keyProtection: AcceptedCrash['keyProtection']
  readonly fleet: string
  /**
   * Whose serial numbers these are, where a fleet has several manufacturers that number alike: device ids become
   * `scope/serial`. Anchors of one manufacturer share it, so that rotating an anchor renames no device.
   */
  readonly scope?: string
}

export type ChainPolicy = {
  /** How long after its end a leaf is still accepted, and flagged `certificate-expired`; 0 refuses. */
  readonly expiredLeafMs: number
  /** A leaf must have one of these extended key usages (OIDs), or 'any'. */
  readonly eku: readonly string[] | 'any'
}

export type LeafKeyType = 'P-256' | 'P-384' | 'Ed25519'

export type ChainResult = {
  leafKey: KeyObject
  leafKeyType: LeafKeyType
  /** SHA-256 of the leaf's SubjectPublicKeyInfo, lower-case hex: the replay domain. */
  deviceKeyId: string
  /** What people and detectors count. */
  deviceId: string
  /** Subject of the leaf's issuer, RFC 4514. */
  issuer: string
  anchor: Anchor
  fleet: string
  flags: string[]
  /** Why the leaf may not sign crash reports; told only once its signature is good. */
  usage?: Refusal
}
