import { verify, type KeyObject } from 'node:crypto'
import type { Alg } from './manifest.ts'

/**
 * The signature of a COSE_Sign1 (RFC 9052 4.4, algorithms of RFC 9053 and RFC 9864), with empty external data: what is
 * signed, and whether it is. Which algorithm may go with which key is for the caller to have checked.
 */
export type Sign1 = { alg: Alg; protectedBytes: Uint8Array; payload: Uint8Array; signature: Uint8Array }

const DIGESTS = { ES256: 'sha256', ES384: 'sha384', EdDSA: null } as const satisfies Record<Alg, string | null>

/**
 * The callback form of verify runs in the thread pool. ECDSA signatures come as r || s and are turned into DER here:
 * letting node do it (dsaEncoding) costs a third of the rate.
 */
export function verifySign1({ alg, protectedBytes, payload, signature }: Sign1, key: KeyObject): Promise<boolean> {
  const digest = DIGESTS[alg]
  return new Promise((resolve, reject) => {
    verify(digest, sigStructure(protectedBytes, payload), key, digest === null ? signature : derSignature(signature), (error, good) => (
      error ? reject(error) : resolve(good)
    ))
  })
}

/** ["Signature1", protected: bstr, external_aad: h'', payload: bstr], both of less than 64 KiB. */
export function sigStructure(protectedBytes: Uint8Array, payload: Uint8Array): Uint8Array {
  return Buffer.concat([SIGNATURE1, byteStringHead(protectedBytes.length), protectedBytes, NO_AAD, byteStringHead(payload.length), payload])
}
const SIGNATURE1 = Buffer.from('\x84\x6aSignature1', 'latin1')
const NO_AAD = Uint8Array.of(0x40)

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
