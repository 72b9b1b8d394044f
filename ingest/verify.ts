import type { Anchor, ChainPolicy, ChainResult, ChainVerifier } from './chain.ts'
import { same } from './certificate.ts'
import type { AcceptedCrash } from './contract.ts'
import type { CrlSet } from './crl.ts'
import type { TcbInfo } from './dice.ts'
import type { Alg, Manifest } from './manifest.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'
import { verifySign1 } from './sign1.ts'

/**
 * Who sent this, and may they: the one place where a manifest becomes an identity.
 * The order is part of the promise. Chain, then algorithm against key, then the signature, and only when that is good what
 * is known of the device (revoked by its issuer or by people, disabled, not meant for signing): so nobody can ask us about a device, or use up its
 * standing, by sending its public certificate.
 */
/** `unknown`: never decided about, and taken. `pending`: taken too, but out of every baseline until somebody admits it. */
export type DeviceStatus = 'active' | 'disabled' | 'revoked' | 'pending' | 'unknown'
export type IssuerStatus = 'active' | 'disabled'

/** What the device registry tells the proof. Asked on every manifest, so that a revocation needs no cache to be emptied. */
export interface AnchorSource {
  /** The active anchors of all fleets. The same array object for as long as nothing changes. */
  anchors(): readonly Anchor[]
  policy(fleet: string): ChainPolicy
  /** Revocation lists of all fleets; the same object for as long as nothing changes. Absent: there are none. */
  crls?(): CrlSet
  /** Asked only after the signature is good. */
  deviceStatus(fleet: string, deviceId: string): DeviceStatus
  /** Which life of its counters a device is in; see contract.ts. Absent: all are in their first. */
  epochOf?(fleet: string, deviceId: string): number
  /** Asked at the same place, for the CA that signed the leaf. Absent: all are active. */
  issuerStatus?(fleet: string, issuer: string): IssuerStatus
}

/** Somebody whose key was proven and who may not speak: who that is, since it is counted (prove.ts). */
export type TurnedAway = Refusal & { readonly sender: { fleet: string; issuer: string; deviceId: string } }

/** Who it is, by a certificate whose key was proven, and that it may speak. */
export type Identity = {
  fleet: string
  deviceId: string
  deviceKeyId: string
  issuer: string
  /** SHA-256 of the anchor certificate, hex. */
  anchor: string
  keyProtection: AcceptedCrash['keyProtection']
  flags: string[]
  /** Nobody has admitted the device yet, and its fleet asks for that. */
  pending: boolean
  epoch: number
  /** Firmware that the certificate proves (TCG DICE). */
  tcb?: TcbInfo
}

export type Verified = Identity & {
  /** As signed; with the security version of `tcb`, where the device claims none. */
  claims: Manifest['claims']
  manifest: Manifest
}

export interface Verifier {
  /** `now` in ms since the epoch. The signature is checked in the thread pool. */
  verify(manifest: Manifest, now: number): Promise<Verified | Refusal | TurnedAway>
  /** The same for a chain whose key was proven elsewhere, by the handshake of a connection. */
  identify(chain: Uint8Array[], now: number): Identity | Refusal
}

const KEY_OF_ALG = { ES256: 'P-256', ES384: 'P-384', EdDSA: 'Ed25519' } as const satisfies Record<Alg, ChainResult['leafKeyType']>

export function createVerifier({ registry, chains }: { registry: AnchorSource; chains: ChainVerifier }): Verifier {
  const prove = (chain: Uint8Array[], now: number): ChainResult | Refusal => chains.verify(chain, registry.anchors(), (fleet) => registry.policy(fleet), now, registry.crls?.())

  /** Asked only when the key is proven. */
  function admit(proof: ChainResult): Identity | TurnedAway {
    const { fleet, deviceId, deviceKeyId, issuer, anchor, flags, tcb } = proof
    const status = registry.deviceStatus(fleet, deviceId)
    const refusal = proof.revoked ?? proof.unfit ?? issuing(registry.issuerStatus?.(fleet, issuer), issuer) ?? standing(status, deviceId)
    if (refusal) return { ...refusal, sender: { fleet, issuer, deviceId } }
    return {
      fleet, deviceId, deviceKeyId, issuer, anchor: anchor.sha256, keyProtection: anchor.keyProtection, flags,
      pending: status === 'pending', epoch: registry.epochOf?.(fleet, deviceId) ?? 0, ...(tcb && { tcb }),
    }
  }

  return {
    async verify(manifest, now) {
      const chain = 'x5chain' in manifest.chain ? manifest.chain.x5chain : chains.chainOf(manifest.chain.x5t)
      if (chain === undefined) return refuse('x5t-unknown', 'manifest: no chain with this leaf has been seen since the start: send x5chain')
      const proof = prove(chain, now)
      if (isRefusal(proof)) return proof
      if (KEY_OF_ALG[manifest.alg] !== proof.leafKeyType) return refuse('alg-key-mismatch', `manifest: ${manifest.alg} with a ${proof.leafKeyType} key`)
      if (!(await verifySign1({ ...manifest, payload: manifest.digest }, proof.leafKey))) return refuse('signature-bad', 'manifest: the signature does not verify with the key of the leaf')

      const identity = admit(proof)
      if (isRefusal(identity)) return identity
      return contradiction(manifest, proof) ?? { ...identity, claims: withProven(manifest.claims, proof.tcb), manifest }
    },
    identify(chain, now) {
      const proof = prove(chain, now)
      return isRefusal(proof) ? proof : admit(proof)
    },
  }
}

const issuing = (status: IssuerStatus | undefined, issuer: string): Refusal | undefined =>
  (status === 'disabled' ? refuse('issuer-disabled', `the devices of ${issuer} are disabled`) : undefined)

function standing(status: DeviceStatus, deviceId: string): Refusal | undefined {
  switch (status) {
    case 'active':
    case 'unknown':
    case 'pending':
      return undefined
    case 'revoked':
    case 'disabled':
      return refuse(`device-${status}`, `device ${deviceId} is ${status}`)
  }
}

/**
 * A security version that the certificate proves needs no claim; one that is made agrees with it by now. The firmware's digest
 * stands in for a build id where the device claims none: symbols are found by either.
 */
function withProven(claims: Manifest['claims'], tcb: TcbInfo | undefined): Manifest['claims'] {
  const buildId = claims.buildId ?? tcb?.fwids[0]?.digest
  return { ...claims, ...(tcb?.svn !== undefined && { svn: tcb.svn }), ...(buildId !== undefined && { buildId }) }
}

/** Identity and versions that the issuer wrote into the certificate outrank what the device says of itself. */
function contradiction({ claims, ueid }: Manifest, proof: ChainResult): Refusal | undefined {
  const svn = proof.tcb?.svn
  if (svn !== undefined && claims.svn !== undefined && claims.svn !== svn) {
    return refuse('claim-contradicts-certificate', `manifest: claim -65544 (svn) is ${claims.svn}, the certificate's TcbInfo says ${svn}`)
  }
  if (proof.ueid && ueid && !same(ueid, proof.ueid)) return refuse('claim-contradicts-certificate', "manifest: claim 256 (ueid) differs from the certificate's")
  return undefined
}
