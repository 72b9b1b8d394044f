import { hash, sign, type KeyObject } from 'node:crypto'
import { encode, rfc8949EncodeOptions } from 'cborg'
import { CLAIM, CONTEXT } from '../claims.ts'
import type { AcceptedCrash, Claims } from '../contract.ts'
import { CRASH_PROFILE, HEADER, HEARTBEAT_PROFILE, SHA_256 } from '../manifest.ts'
import { sigStructure } from '../sign1.ts'

/**
 * The reference signer: what a device does with a dump. The protected header is a function of its arguments, byte for
 * byte the same as overrun-send.sh writes it (test/device/vectors holds both to it); only an ECDSA signature differs
 * from one call to the next.
 */
export type Report = {
  dump: Uint8Array
  contentType: AcceptedCrash['contentType']
  /** `size` is that of the dump and need not be given. */
  claims: Claims & { bootcount: number; seq: number }
  /** Private key of the leaf: P-256, P-384 or Ed25519. */
  key: KeyObject
  /** DER, leaf first, without the anchor. */
  chain: readonly Uint8Array[]
}

/** `manifest` is the COSE_Sign1 item, `body` what is posted as application/cbor-seq: the manifest, then the dump as a byte string. */
export function signReport(report: Report): { manifest: Uint8Array; body: Uint8Array } {
  const manifest = signStatement(report, CRASH_PROFILE)
  return { manifest, body: Buffer.concat([manifest, cbor(report.dump)]) }
}

/** A heartbeat is about no bytes, so its content type is any of the list; it is told from a crash by its profile. */
export const signHeartbeat = (alive: Omit<Report, 'dump' | 'contentType'>): Uint8Array =>
  signStatement({ ...alive, dump: new Uint8Array(0), contentType: 'text/plain' }, HEARTBEAT_PROFILE)

function signStatement({ dump, contentType, claims, key, chain }: Report, profile: string): Uint8Array {
  const algorithm = algorithmOf(key)
  const digest = hash('sha256', dump, 'buffer')
  const protectedBytes = cbor(new Map<number, unknown>([
    [HEADER.alg, algorithm.id],
    [HEADER.claims, claimsMap({ ...claims, size: dump.length }, profile)],
    [HEADER.x5chain, chain.length === 1 ? chain[0] : chain],
    [HEADER.payloadHashAlg, SHA_256],
    [HEADER.contentType, contentType],
  ]))
  const signature = sign(algorithm.digest, sigStructure(protectedBytes, digest), { key, dsaEncoding: 'ieee-p1363' })
  return Buffer.concat([TAG_18, cbor([protectedBytes, new Map(), digest, signature])])
}

const TAG_18 = Uint8Array.of(0xd2)
const cbor = (value: unknown): Uint8Array => encode(value, rfc8949EncodeOptions)

function algorithmOf(key: KeyObject): { id: number; digest: string | null } {
  const curve = key.asymmetricKeyDetails?.namedCurve
  if (key.asymmetricKeyType === 'ed25519') return { id: -8, digest: null }
  if (curve === 'prime256v1') return { id: -7, digest: 'sha256' }
  if (curve === 'secp384r1') return { id: -35, digest: 'sha384' }
  throw new TypeError(`a key of type ${key.asymmetricKeyType} ${curve ?? ''} signs no reports: P-256, P-384 or Ed25519 is needed`)
}

function claimsMap(claims: Claims, profile: string): Map<number, unknown> {
  const context = present([
    [CONTEXT.process, claims.process],
    [CONTEXT.lastInputAgeMs, claims.lastInputAgeMs],
    [CONTEXT.peer, claims.peer && peerBytes(claims.peer)],
    [CONTEXT.listenerPort, claims.listenerPort],
  ])
  return present([
    [CLAIM.iat, claims.iat],
    [CLAIM.hwmodel, claims.hwmodel && Buffer.from(claims.hwmodel)],
    [CLAIM.uptime, claims.uptimeSeconds],
    [CLAIM.dbgstat, claims.dbgstat],
    [CLAIM.profile, profile],
    [CLAIM.bootcount, claims.bootcount],
    [CLAIM.swname, claims.swname],
    [CLAIM.swversion, claims.swversion && [claims.swversion]],
    [CLAIM.seq, claims.seq],
    [CLAIM.size, claims.size],
    [CLAIM.buildId, claims.buildId && Buffer.from(claims.buildId, 'hex')],
    [CLAIM.encoding, claims.encoding],
    [CLAIM.resetReason, claims.resetReason],
    [CLAIM.compartment, claims.compartment],
    [CLAIM.layer, claims.layer],
    [CLAIM.svn, claims.svn],
    [CLAIM.context, context.size > 0 ? context : undefined],
    [CLAIM.fingerprint, claims.fingerprint && Buffer.from(claims.fingerprint, 'hex')],
  ])
}

const present = (entries: [number, unknown][]): Map<number, unknown> => new Map(entries.filter(([, value]) => value !== undefined && value !== ''))

/** The contract's text form of a peer back to bytes: dotted IPv4, IPv6, or h: and the hex of a salted hash. */
function peerBytes(peer: string): Uint8Array {
  if (peer.startsWith('h:')) return Buffer.from(peer.slice(2), 'hex')
  if (!peer.includes(':')) return Uint8Array.from(peer.split('.'), Number)
  const [before = '', after] = peer.split('::')
  const groups = (text: string | undefined): string[] => (text ? text.split(':') : [])
  const zeros = Array<string>(8 - groups(before).length - groups(after).length).fill('0')
  const all = after === undefined ? groups(before) : [...groups(before), ...zeros, ...groups(after)]
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex')
}
