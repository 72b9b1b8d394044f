import { hash } from 'node:crypto'
import { same } from './certificate.ts'
import { createChainVerifier, type Anchor, type ChainPolicy } from './chain.ts'
import { decodeManifest } from './manifest.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'
import { createVerifier, type Verified } from './verify.ts'

/**
 * Checks a kept report again, years later and far from any server: the same decoder, path validation and signature check
 * that let it in, over nothing but the bytes that were signed, the anchors that somebody trusts, and a moment in time.
 * What is known of the device today (disabled, revoked) is left out: it does not change who signed what.
 */
export interface KeptReport {
  manifest: Uint8Array
  /** null where it stayed on the device: who signed its digest is checked all the same. */
  dump: Uint8Array | null
  /** The certificates, leaf first, for a manifest that names its leaf by hash only (x5t). */
  chain?: readonly Uint8Array[]
}

export interface Terms {
  anchors: readonly Anchor[]
  policy: ChainPolicy
  /** When the certificates have to have been valid: ms since the epoch, the time of receipt where it is known. */
  at: number
}

export async function recheck({ manifest: item, dump, chain }: KeptReport, { anchors, policy, at }: Terms): Promise<Verified | Refusal> {
  const manifest = decodeManifest(item)
  if (isRefusal(manifest)) return manifest
  if ('x5t' in manifest.chain) {
    const leaf = chain?.[0]
    if (leaf === undefined) return refuse('x5t-unknown', 'manifest: it names its certificate by hash only: the chain is needed too')
    if (!same(hash('sha256', leaf, 'buffer'), manifest.chain.x5t)) return refuse('x5t-unknown', 'manifest: it names another certificate than the leaf of the chain')
    manifest.chain = { x5chain: [...chain!] }
  }
  const registry = { anchors: () => anchors, policy: () => policy, deviceStatus: () => 'active' as const }
  const verified = await createVerifier({ registry, chains: createChainVerifier({ cacheSize: 1 }) }).verify(manifest, at)
  if (isRefusal(verified)) return verified
  if (dump === null) return verified
  if (dump.length !== manifest.claims.size) return refuse('size-mismatch', `dump: ${dump.length} bytes, the manifest signs ${manifest.claims.size}`)
  const digest = hash('sha256', dump, 'buffer')
  if (!same(digest, manifest.digest)) return refuse('digest-mismatch', `dump: SHA-256 is ${digest.toString('hex')}, the manifest signs ${Buffer.from(manifest.digest).toString('hex')}`)
  return verified
}
