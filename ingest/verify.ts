import { verify as cryptoVerify, type KeyObject } from 'node:crypto'
import type { Anchor, ChainPolicy, ChainResult, ChainVerifier } from './chain.ts'
import { same } from './certificate.ts'
import type { AcceptedCrash } from './contract.ts'
import type { Alg, Manifest } from './manifest.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'

/**
 * Who sent this, and may they: the one place where a manifest becomes an identity.
 * The order is part of the promise. Chain, then algorithm against key, then the signature, and only when that is good what
 * is known of the device (revoked, disabled, not meant for signing): so nobody can ask us about a device, or use up its
 * standing, by sending its public certificate.
 */
export type DeviceStatus = 'active' | 'disabled' | 'revoked' | 'pending' | 'unknown'

/** What the device registry tells the proof. Asked on every manifest, so that a revocation needs no cache to be emptied. */
export interface AnchorSource {
  /** The active anchors of all fleets. The same array object for as long as nothing changes. */
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

const KEY_OF_ALG = { ES256: 'P-256', ES384: 'P-384', EdDSA: 'Ed25519' } as const satisfies Record<Alg, ChainResult['leafKeyType']>

export function createVerifier({ registry, chains }: { registry: AnchorSource; chains: ChainVerifier }): Verifier {
  return {
    async verify(manifest, now) {
      const chain = 'x5chain' in manifest.chain ? manifest.chain.x5chain : chains.chainOf(manifest.chain.x5t)
      if (chain === undefined) return refuse('x5t-unknown', 'manifest: no chain with this leaf has been seen since the start: send x5chain')
      const proof = chains.verify(chain, registry.anchors(), registry.policy, now)
      if (isRefusal(proof)) return proof
      if (KEY_OF_ALG[manifest.alg] !== proof.leafKeyType) return refuse('alg-key-mismatch', `manifest: ${manifest.alg} with a ${proof.leafKeyType} key`)
      if (!(await isSigned(manifest, proof.leafKey))) return refuse('signature-bad', 'manifest: the signature does not verify with the key of the leaf')

      const { fleet, deviceId, deviceKeyId, issuer, anchor, flags } = proof
      const refusal = proof.unfit ?? standing(registry.deviceStatus(fleet, deviceId), deviceId) ?? contradiction(manifest, proof)
      if (refusal) return refusal
      return { fleet, deviceId, deviceKeyId, issuer, anchor: anchor.sha256, keyProtection: anchor.keyProtection, flags, claims: manifest.claims, manifest }
    },
  }
}

function standing(status: DeviceStatus, deviceId: string): Refusal | undefined {
  switch (status) {
    case 'active':
    case 'unknown':
      return undefined
    case 'revoked':
    case 'disabled':
    case 'pending':
      return refuse(`device-${status}`, `device ${deviceId} is ${status}`)
  }
}

/** Identity and versions that the issuer wrote into the certificate outrank what the device says of itself. */
function contradiction({ claims, ueid }: Manifest, proof: ChainResult): Refusal | undefined {
  if (proof.tcbSvn !== undefined && claims.svn !== undefined && claims.svn !== proof.tcbSvn) {
    return refuse('claim-contradicts-certificate', `manifest: claim -65544 (svn) is ${claims.svn}, the certificate's TcbInfo says ${proof.tcbSvn}`)
  }
  if (proof.ueid && ueid && !same(ueid, proof.ueid)) return refuse('claim-contradicts-certificate', "manifest: claim 256 (ueid) differs from the certificate's")
  return undefined
}

/** The callback form runs in the thread pool; asking node for raw r||s signatures (dsaEncoding) would cost a third of the rate. */
function isSigned(manifest: Manifest, key: KeyObject): Promise<boolean> {
  const digest = manifest.alg === 'ES256' ? 'sha256' : manifest.alg === 'ES384' ? 'sha384' : null
  const signature = digest === null ? manifest.signature : derSignature(manifest.signature)
  return new Promise((resolve, reject) => {
    cryptoVerify(digest, sigStructure(manifest.protectedBytes, manifest.digest), key, signature, (error, good) => (error ? reject(error) : resolve(good)))
  })
}

/** What is signed (RFC 9052 4.4): ["Signature1", protected: bstr, external_aad: h'', payload: bstr]. */
export function sigStructure(protectedBytes: Uint8Array, payload: Uint8Array): Uint8Array {
  return Buffer.concat([SIGNATURE1, byteStringHead(protectedBytes.length), protectedBytes, NO_AAD, byteStringHead(payload.length), payload])
}
const SIGNATURE1 = Buffer.from('\x84\x6aSignature1', 'latin1')
const NO_AAD = Buffer.from([0x40])

function byteStringHead(length: number): Uint8Array {
  return length < 24 ? Uint8Array.of(0x40 | length) : length < 256 ? Uint8Array.of(0x58, length) : Uint8Array.of(0x59, length >> 8, length & 255)
}

/** r || s of equal length to SEQUENCE { INTEGER r, INTEGER s }, each in its shortest form. At most 104 bytes, so short lengths do. */
function derSignature(raw: Uint8Array): Uint8Array {
  const half = raw.length / 2
  const r = derInteger(raw.subarray(0, half))
  const s = derInteger(raw.subarray(half))
  return Buffer.concat([Uint8Array.of(0x30, r.length + s.length), r, s])
}

function derInteger(big: Uint8Array): Uint8Array {
  let start = 0
  while (start < big.length - 1 && big[start] === 0) start++
  const sign = big[start]! >= 0x80 ? 1 : 0
  const integer = new Uint8Array(2 + sign + big.length - start)
  integer[0] = 0x02
  integer[1] = integer.length - 2
  integer.set(big.subarray(start), 2 + sign)
  return integer
}
