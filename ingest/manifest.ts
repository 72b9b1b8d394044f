import type { AcceptedCrash, Claims } from './contract.ts'

export type Alg = 'ES256' | 'ES384' | 'EdDSA'

/** One decoded manifest. Every byte string is a view of the item it came from. */
export type Manifest = {
  /** The COSE_Sign1 item, byte for byte: what is kept. */
  item: Uint8Array
  /** Content of the protected header's byte string: what is signed, with the digest. */
  protectedBytes: Uint8Array
  profile: 'crash-report'
  alg: Alg
  claims: Claims & Required<Pick<Claims, 'bootcount' | 'seq' | 'size'>>
  /** Certificates in DER, leaf first, or the SHA-256 of a leaf whose chain was sent before. */
  chain: { x5chain: Uint8Array[] } | { x5t: Uint8Array }
  contentType: AcceptedCrash['contentType']
  /** SHA-256 of the dump as transmitted, 32 bytes. */
  digest: Uint8Array
  /** r || s, or the Ed25519 signature: 64 or 96 bytes. */
  signature: Uint8Array
}

/** What the scanner says of the first bytes of a stream. */
export type Scan = { kind: 'complete'; end: number } | { kind: 'incomplete' }
