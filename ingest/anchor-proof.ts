import { createHmac, timingSafeEqual, verify } from 'node:crypto'
import { parseCertificate, type KeyType } from './certificate.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'

/**
 * Proof of possession of an anchor: whoever adds a CA signs a challenge with the CA's key, or anybody could make a fleet
 * trust a certificate copied from elsewhere, whose devices would then be counted as its own.
 *
 * The challenge is text, so that no CA key is ever made to sign a certificate, and names fleet and anchor, so that a proof
 * serves for nothing else. It carries its end and an HMAC of itself: whoever asks keeps nothing but a secret.
 *
 *   overrun anchor proof/1
 *   fleet FLEET
 *   anchor SHA-256 of the certificate, hex
 *   until SECONDS since the epoch
 *   nonce HMAC-SHA-256 of the lines above, hex
 */
export type AnchorClaim = { fleet: string; /** SHA-256 of the certificate, hex. */ sha256: string }

/** A CA key is in a safe: somebody has to fetch it. */
export const PROOF_MS = 24 * 3600 * 1000

/** The text to sign, for a new claim. `secret` of at least 32 bytes, the same for anchorProof. */
export function anchorChallenge({ fleet, sha256 }: AnchorClaim, secret: Uint8Array, now: number): string {
  return challengeUntil({ fleet, sha256 }, Math.floor((now + PROOF_MS) / 1000), secret)
}

/** Undefined when `signature` proves that the key of the anchor is at hand: DER of an ECDSA signature over SHA-256, or the 64 bytes of Ed25519. */
export function anchorProof(claim: AnchorClaim & { der: Uint8Array }, challenge: string, signature: Uint8Array, secret: Uint8Array, now: number): Refusal | undefined {
  const until = Number(/^until (\d{1,12})$/m.exec(challenge)?.[1])
  if (!Number.isSafeInteger(until) || !equal(challenge, challengeUntil(claim, until, secret))) return refuse('anchor-unproven', 'anchor: the challenge is not one of ours for this fleet and certificate')
  if (now > until * 1000) return refuse('anchor-unproven', `anchor: the challenge ended at ${new Date(until * 1000).toISOString()}; ask for a new one`)
  const certificate = parseCertificate(claim.der)
  if (isRefusal(certificate)) return certificate
  const digest = certificate.keyType === 'Ed25519' ? null : 'sha256'
  return verify(digest, Buffer.from(challenge), certificate.key, signature) ? undefined : refuse('anchor-unproven', 'anchor: the challenge is not signed by the key of the certificate')
}

/** How people make the signature: prints base64. Files as in the shell of whoever holds the key. */
export function opensslProof(keyType: KeyType, { key = 'ca.key.pem', challenge = 'challenge.txt' } = {}): string {
  return keyType === 'Ed25519'
    ? `openssl pkeyutl -sign -rawin -inkey ${key} -in ${challenge} | openssl base64 -A`
    : `openssl dgst -sha256 -sign ${key} ${challenge} | openssl base64 -A`
}

function challengeUntil({ fleet, sha256 }: AnchorClaim, until: number, secret: Uint8Array): string {
  const text = `overrun anchor proof/1\nfleet ${fleet}\nanchor ${sha256}\nuntil ${until}\n`
  return `${text}nonce ${createHmac('sha256', secret).update(text).digest('hex')}\n`
}

function equal(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
