import { decode } from 'cborg'
import { scanItem, type Scan, type ScanLimits } from './cbor-scan.ts'
import { MAX_CERTIFICATES } from './chain.ts'
import { decodeClaims, isBytes, shown } from './claims.ts'
import { CONTENT_TYPES, type AcceptedCrash, type Claims } from './contract.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'

/**
 * The signed statement that comes before every dump: COSE_Sign1 (RFC 9052) as a hash envelope (RFC 9995) with CWT claims
 * in its protected header (RFC 9597) and the certificate chain beside them (RFC 9360).
 *
 *   manifest  = 18([ protected: bstr .cbor header, unprotected: {}, payload: bstr .size 32, signature: bstr ])
 *   header    = { 1 alg, 15 claims, (33 x5chain // 34 x5t), 258 payload hash alg, 259 content type of the dump }
 *   x5chain   = leaf: bstr / [1*3 bstr]            at most 4 KiB, the anchor is not sent
 *   x5t       = [-16, SHA-256 of the leaf]         once the chain has been seen
 *
 * Everything is closed: an unknown label, claim or algorithm is refused, and nothing unsigned exists to be read.
 * Decoding says nothing about truth: identity and signature are verify.ts.
 */
export type Alg = 'ES256' | 'ES384' | 'EdDSA'
/** What is signed: a dump, or (over nothing) that the device is alive. */
export type Profile = 'crash-report' | 'heartbeat'

/** One decoded manifest. */
export type Manifest = {
  /** The COSE_Sign1 item, byte for byte: what is kept. */
  item: Uint8Array
  /** Content of the protected header's byte string: what is signed, with the digest. */
  protectedBytes: Uint8Array
  profile: Profile
  alg: Alg
  claims: Claims & Required<Pick<Claims, 'bootcount' | 'seq' | 'size'>>
  /** The EAT ueid claim: never an identity, only compared with the certificate's. */
  ueid?: Uint8Array
  /** Certificates in DER, leaf first, or the SHA-256 of a leaf whose chain was sent before. */
  chain: { x5chain: Uint8Array[] } | { x5t: Uint8Array }
  contentType: AcceptedCrash['contentType']
  /** SHA-256 of the dump as transmitted, 32 bytes. */
  digest: Uint8Array
  /** r || s, or the Ed25519 signature: 64 or 96 bytes. */
  signature: Uint8Array
}

export const MANIFEST_LIMITS: ScanLimits = { bytes: 8192, depth: 8, entries: 32, text: 256 }
const CHAIN_BYTES = 4096

export const CRASH_PROFILE = 'tag:overrun.example,2026:crash-report/1'
export const HEARTBEAT_PROFILE = 'tag:overrun.example,2026:heartbeat/1'

const PROFILES: Record<Profile, string> = { 'crash-report': CRASH_PROFILE, heartbeat: HEARTBEAT_PROFILE }

/** COSE header labels (IANA), by name. */
export const HEADER = { alg: 1, claims: 15, x5chain: 33, x5t: 34, payloadHashAlg: 258, contentType: 259 } as const
const LABELS: ReadonlySet<unknown> = new Set(Object.values(HEADER))
export const SHA_256 = -16

/** RFC 9053 identifiers, and the fully specified ones of RFC 9864. The key's curve is checked against this in verify.ts. */
const ALGS: ReadonlyMap<unknown, Alg> = new Map<number, Alg>([
  [-7, 'ES256'], [-9, 'ES256'], [-8, 'EdDSA'], [-19, 'EdDSA'], [-35, 'ES384'], [-51, 'ES384'],
])
const SIGNATURE_BYTES: Record<Alg, number> = { ES256: 64, EdDSA: 64, ES384: 96 }

const TAG_18 = 0xd2
const ARRAY_OF_4 = 0x84
const EMPTY_MAP = 0xa0

/**
 * Looks at the first bytes of a body: where the manifest ends, that more bytes are needed, or why it is refused already.
 * Safe on anything, in time linear in what it read; may be called again when more bytes have come.
 */
export function scanManifest(bytes: Uint8Array, limits: ScanLimits = MANIFEST_LIMITS): Scan | Refusal {
  if (bytes.length > 0 && bytes[0] !== TAG_18) return refuse('manifest-shape', `manifest: starts with 0x${bytes[0]!.toString(16)}, not with tag 18`)
  if (bytes.length > 1 && bytes[1] !== ARRAY_OF_4) return refuse('manifest-shape', 'manifest: tag 18 is not followed by an array of 4')
  if (bytes.length > 2 && bytes[2]! >> 5 !== 2) return refuse('manifest-shape', 'manifest: the protected header is not a byte string')
  if (bytes.length < 2) return { kind: 'incomplete' }
  const outer = scanItem(bytes, 1, { ...limits, bytes: limits.bytes - 1 })
  if (isRefusal(outer) || outer.kind === 'incomplete') return outer

  // The signed part is CBOR inside a byte string: held to the same rules, within what is left of the depth (tag, array).
  const header = byteStringAt(bytes, 2)
  const inner = scanItem(header, 0, { ...limits, depth: limits.depth - 2 })
  if (isRefusal(inner)) return refuse(inner.slug, inner.detail.replace('manifest:', 'manifest: protected header:'))
  if (inner.kind === 'incomplete') return refuse('cbor-malformed', 'manifest: the protected header ends inside an item')
  if (inner.end !== header.length) return refuse('cbor-malformed', `manifest: ${header.length - inner.end} bytes after the protected header's map`)
  return outer
}

/** `item` is exactly one manifest of the expected profile, as scanManifest found it; the result's byte strings may be views of it. */
export function decodeManifest(item: Uint8Array, expected: Profile = 'crash-report'): Manifest | Refusal {
  const scan = scanManifest(item)
  if (isRefusal(scan)) return scan
  if (scan.kind === 'incomplete') return refuse('manifest-truncated', `manifest: ends after ${item.length} bytes, inside an item`)
  if (scan.end !== item.length) return refuse('manifest-shape', `manifest: ${item.length - scan.end} bytes after its end`)

  const [protectedBytes, , payload, signature] = decode(item.subarray(1), { strict: true, useMaps: true }) as [Uint8Array, unknown, unknown, unknown]
  const unprotectedAt = protectedBytes.length + 2 + headBytes(protectedBytes.length)
  if (item[unprotectedAt] !== EMPTY_MAP) return refuse('unprotected-not-empty', `manifest: byte ${unprotectedAt} is not 0xa0`)
  if (!isBytes(payload) || payload.length !== 32) return refuse('payload-invalid', 'manifest: the payload is not a byte string of 32')
  if (!isBytes(signature)) return refuse('manifest-shape', 'manifest: the signature is not a byte string')

  const header: unknown = decode(protectedBytes, { strict: true, useMaps: true })
  if (!(header instanceof Map)) return refuse('manifest-shape', 'manifest: the protected header is not a map')
  for (const label of header.keys()) {
    if (!LABELS.has(label)) return refuse('header-unknown', `manifest: protected header ${shown(label)} is not part of the profile`)
  }
  const alg = ALGS.get(header.get(HEADER.alg))
  if (!header.has(HEADER.alg)) return refuse('header-missing', 'manifest: header 1 (alg) is missing')
  if (alg === undefined) return refuse('alg-not-allowed', `manifest: algorithm ${shown(header.get(HEADER.alg))} is not ES256, EdDSA or ES384`)
  if (signature.length !== SIGNATURE_BYTES[alg]) {
    return refuse('signature-malformed', `manifest: a signature of ${signature.length} bytes, ${SIGNATURE_BYTES[alg]} expected for ${alg}`)
  }
  if (header.get(HEADER.payloadHashAlg) !== SHA_256) return refuse('payload-hash-unsupported', 'manifest: header 258 is not -16 (SHA-256)')
  const contentType = CONTENT_TYPES.find((known) => known === header.get(HEADER.contentType))
  if (contentType === undefined) return refuse('preimage-type-unsupported', 'manifest: header 259 names no dump format of the list')
  const chain = decodeChain(header)
  if (isRefusal(chain)) return chain

  const decoded = decodeClaims(header.get(HEADER.claims))
  if (isRefusal(decoded)) return decoded
  const { profile, ueid, claims } = decoded
  if (profile === HEARTBEAT_PROFILE && expected === 'crash-report') return refuse('heartbeat-unexpected', 'manifest: eat_profile is that of a heartbeat')
  if (profile !== PROFILES[expected]) return refuse('profile-unknown', `manifest: eat_profile is not ${PROFILES[expected]}`)
  const { bootcount, seq, size } = claims
  if (bootcount === undefined || seq === undefined || size === undefined) {
    const missing = bootcount === undefined ? '267 (bootcount)' : seq === undefined ? '-65537 (seq)' : '-65538 (size)'
    return refuse('claim-missing', `manifest: claim ${missing} is missing`)
  }
  return {
    item, protectedBytes, profile: expected, alg, claims: { ...claims, bootcount, seq, size }, ...(ueid && { ueid }),
    chain, contentType, digest: payload, signature,
  }
}

function decodeChain(header: Map<unknown, unknown>): Manifest['chain'] | Refusal {
  const x5chain = header.get(HEADER.x5chain)
  const x5t = header.get(HEADER.x5t)
  if (x5chain !== undefined && x5t !== undefined) return refuse('chain-malformed', 'manifest: both x5chain and x5t')
  if (x5t !== undefined) {
    const [hashAlg, hash, ...rest] = Array.isArray(x5t) ? x5t : []
    if (hashAlg !== SHA_256 || !isBytes(hash) || hash.length !== 32 || rest.length > 0) return refuse('chain-malformed', 'manifest: x5t is not [-16, 32 bytes]')
    return { x5t: hash }
  }
  if (x5chain === undefined) return refuse('header-missing', 'manifest: neither x5chain nor x5t')
  const certificates: unknown[] = Array.isArray(x5chain) ? x5chain : [x5chain]
  if (certificates.length === 0 || certificates.length > MAX_CERTIFICATES) {
    return refuse('chain-malformed', `manifest: x5chain of ${certificates.length} certificates, 1 to ${MAX_CERTIFICATES} expected`)
  }
  if (!certificates.every(isBytes)) return refuse('chain-malformed', 'manifest: x5chain holds something that is not a byte string')
  const total = certificates.reduce((sum, certificate) => sum + certificate.length, 0)
  if (total > CHAIN_BYTES) return refuse('chain-malformed', `manifest: x5chain of ${total} bytes, at most ${CHAIN_BYTES}`)
  return { x5chain: certificates }
}

const headBytes = (length: number): number => (length < 24 ? 1 : length < 256 ? 2 : 3)

/** The content of the byte string whose head is at `at`; the scanner has been over it. */
function byteStringAt(bytes: Uint8Array, at: number): Uint8Array {
  const low = bytes[at]! & 31
  const length = low < 24 ? low : low === 24 ? bytes[at + 1]! : (bytes[at + 1]! << 8) | bytes[at + 2]!
  const start = at + headBytes(length)
  return bytes.subarray(start, start + length)
}
