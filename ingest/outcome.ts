/**
 * Every way in which ingest says no: one closed table. The slug is the log field, the metric label and the name of its
 * test; where the body may tell it, it is also the last part of the RFC 9457 `type`.
 *
 * A 401 says nothing about what failed: its body is the same bytes for a wrong signature, an unknown issuer and an
 * expired certificate, so that nobody learns from answers how far a forgery got. All other bodies reveal their slug,
 * because whoever gets them either has not claimed to be anybody yet (400, 413, 415) or has proved who they are (403).
 */
type Outcome = { readonly status: number; readonly title: string }

export const OUTCOMES = {
  // The request, before anything in it is looked at.
  'length-missing': { status: 411, title: 'The request has no Content-Length: send one, or use a resumable upload' },
  'too-large': { status: 413, title: 'The report is larger than this endpoint accepts: shorten the dump, or use a resumable upload' },
  'content-type-unsupported': { status: 415, title: 'The Content-Type is not accepted here: send application/cbor-seq' },
  'content-encoding-refused': { status: 415, title: 'Content-Encoding is not accepted here: compress the dump and sign the encoding claim' },
  'content-inflated-too-large': { status: 413, title: 'The body inflates to more than this endpoint accepts' },
  'body-timeout': { status: 408, title: 'The body did not arrive in time: send it again' },
  'body-malformed': { status: 400, title: 'The body is not a manifest followed by one definite-length byte string' },
  'body-truncated': { status: 400, title: 'The body ended before the dump did: send it again from the start' },
  'trailing-bytes': { status: 400, title: 'The body goes on after the dump: send exactly two CBOR items' },
  'header-mismatch': { status: 400, title: 'The Crash-Manifest header differs from the first item of the body' },
  'upload-malformed': { status: 400, title: 'The request lacks a header that a resumable upload needs, or has one that cannot be read' },
  'upload-unknown': { status: 404, title: 'There is no such upload: begin it again, a report that is durable already is answered at once' },
  'upload-offset': { status: 409, title: 'The upload goes on at another offset: see Upload-Offset' },
  'multipart-malformed': { status: 400, title: 'The multipart body cannot be read' },
  'envelope-malformed': { status: 400, title: 'The envelope cannot be read' },
  'dump-missing': { status: 400, title: 'There is no dump: send it as the body, or in a form as the part upload_file_minidump' },
  'device-unnamed': { status: 400, title: 'A gateway says in the header Crash-Device for which device it speaks' },

  // The manifest as CBOR: deterministic encoding (RFC 8949 4.2.1) within limits.
  'manifest-too-large': { status: 413, title: 'The manifest is larger than 8 KiB' },
  'manifest-truncated': { status: 400, title: 'The body ended inside the manifest' },
  'cbor-malformed': { status: 400, title: 'The manifest is not well-formed CBOR' },
  'cbor-indefinite': { status: 400, title: 'The manifest uses an indefinite length: write definite lengths' },
  'cbor-not-shortest': { status: 400, title: 'The manifest has a number that is not in its shortest form' },
  'cbor-key-order': { status: 400, title: 'The manifest has map keys out of order: sort them by their encoded bytes' },
  'cbor-duplicate-key': { status: 400, title: 'The manifest has a map key twice' },
  'cbor-too-deep': { status: 400, title: 'The manifest is nested deeper than 8 levels' },
  'cbor-too-many': { status: 400, title: 'The manifest has a map or array of more than 32 entries' },
  'cbor-text-too-long': { status: 400, title: 'The manifest has a text of more than 256 bytes' },

  // The manifest as COSE_Sign1 in the profile of a crash report.
  'manifest-shape': { status: 400, title: 'The manifest is not a COSE_Sign1 of the crash-report profile' },
  'header-unknown': { status: 400, title: 'The manifest has a protected header that the profile does not know' },
  'header-missing': { status: 400, title: 'The manifest lacks a required protected header' },
  'unprotected-not-empty': { status: 400, title: 'The unprotected map must be empty: nothing unsigned is read' },
  'payload-invalid': { status: 400, title: 'The payload must be the 32 bytes of SHA-256 over the dump' },
  'payload-hash-unsupported': { status: 400, title: 'Only SHA-256 (-16) is accepted as payload hash' },
  'preimage-type-unsupported': { status: 415, title: 'The content type of the dump is not on the list' },
  'profile-unknown': { status: 400, title: 'The eat_profile claim names another profile' },
  'heartbeat-unexpected': { status: 400, title: 'A heartbeat was sent where a crash report is expected' },
  'claim-missing': { status: 400, title: 'A required claim is missing' },
  'claim-unknown': { status: 400, title: 'The manifest has a claim that the profile does not know' },
  'claim-invalid': { status: 400, title: 'A claim has a type or value outside its range' },
  'claim-contradicts-certificate': { status: 400, title: 'A claim contradicts the certificate' },
  'chain-malformed': { status: 400, title: 'The chain must be x5chain with one to three certificates and at most 4 KiB, or x5t with a SHA-256' },
  'x5t-unknown': { status: 422, title: 'This certificate has not been seen here: send the chain (x5chain) once' },

  // The dump against its manifest.
  'size-mismatch': { status: 400, title: 'The dump has another size than the manifest claims' },
  'digest-mismatch': { status: 400, title: 'The dump has another SHA-256 than the manifest signs' },

  // Who signed it. One body for all of these.
  'not-authenticated': { status: 401, title: 'Nothing says who sends this: no manifest, no certificate of the connection, no token of a gateway' },
  'gateway-unknown': { status: 401, title: 'No gateway has this token' },
  'project-key-disabled': { status: 401, title: 'Unsigned uploads are switched off, or the project key is wrong' },
  'alg-not-allowed': { status: 401, title: 'The signature algorithm is not allowed' },
  'alg-key-mismatch': { status: 401, title: 'The signature algorithm does not belong to the key of the certificate' },
  'signature-malformed': { status: 401, title: 'The signature has the wrong length for its algorithm' },
  'signature-bad': { status: 401, title: 'The signature does not verify' },
  'certificate-malformed': { status: 401, title: 'A certificate is not DER of the profile' },
  'certificate-algorithm': { status: 401, title: 'A certificate uses an algorithm outside P-256, P-384 and Ed25519' },
  'certificate-signature': { status: 401, title: 'A certificate is not signed by the next one' },
  'certificate-expired': { status: 401, title: 'A certificate has expired' },
  'certificate-not-yet-valid': { status: 401, title: 'A certificate is not valid yet' },
  'certificate-extension': { status: 401, title: 'A certificate has an extension that is unknown and critical, refused, or given twice' },
  'certificate-not-ca': { status: 401, title: 'An issuing certificate is not allowed to issue' },
  'certificate-self-issued': { status: 401, title: 'An intermediate issued itself' },
  'chain-order': { status: 401, title: 'The issuer of a certificate is not the subject of the next one' },
  'chain-path-length': { status: 401, title: 'The chain is longer than a certificate in it allows' },
  'anchor-unknown': { status: 401, title: 'The chain does not end at a configured anchor' },

  // Known and not allowed: told only after the signature is good.
  'device-revoked': { status: 403, title: 'The device is revoked' },
  'device-disabled': { status: 403, title: 'The device is disabled' },
  'issuer-disabled': { status: 403, title: 'The issuer of the certificate is disabled' },
  'certificate-revoked': { status: 403, title: 'A certificate is on the revocation list of its issuer' },
  'certificate-is-ca': { status: 403, title: 'The certificate is that of a CA, and signs no crash reports' },
  'certificate-usage': { status: 403, title: 'The certificate lacks the key use that signing crash reports needs' },

  // Replay, quotas and the log.
  'counter-reuse': { status: 409, title: 'This boot count and sequence number were used for another dump' },
  'quota-device': { status: 429, title: 'The device has used up its quota' },
  'quota-issuer': { status: 429, title: 'The devices of this issuer have used up their quota' },
  'quota-fleet': { status: 429, title: 'The fleet has used up its quota' },
  'quota-source': { status: 429, title: 'Too many requests from this network' },
  'log-unavailable': { status: 503, title: 'The report cannot be made durable now: send it again later' },
  'registry-unknown': { status: 503, title: 'Fleets and devices are not known here yet: send it again later' },
  'crl-expired': { status: 503, title: 'The revocation list of an issuer has run out, and the fleet asks for a current one: send it again later' },
  'crl-missing': { status: 503, title: 'The revocation list of an issuer is not here, and the fleet asks for one: send it again later' },
  'overloaded': { status: 503, title: 'Too many reports are being received: send it again later' },

  // What people import: anchors and revocation lists. Never an answer to a device.
  'anchor-unproven': { status: 422, title: 'The signature does not prove that the CA key is at hand' },
  'crl-malformed': { status: 422, title: 'The revocation list cannot be read' },
  'crl-unsupported': { status: 422, title: 'The revocation list is a delta, indirect, partial, or of another algorithm' },
  'crl-issuer': { status: 422, title: 'The revocation list is not signed by a CA of the fleet' },
  'crl-older': { status: 422, title: 'The revocation list is older than the one that is there' },
} satisfies Record<string, Outcome>

export type Slug = keyof typeof OUTCOMES
/** `detail` says what, where and what was expected; it never holds bytes of a dump. */
export type Refusal = { readonly slug: Slug; readonly detail: string }

export const refuse = (slug: Slug, detail: string): Refusal => ({ slug, detail })
export const isRefusal = (value: object): value is Refusal => 'slug' in value
export const statusOf = (slug: Slug): number => OUTCOMES[slug].status
/** Whether the body may tell the slug: everything but a 401. */
export const reveals = (slug: Slug): boolean => OUTCOMES[slug].status !== 401

export type Problem = { type: string; title: string; status: number; detail?: string }

const PROBLEM_BASE = 'tag:overrun.example,2026:problem/'
const UNAUTHORIZED: Problem = Object.freeze({
  type: `${PROBLEM_BASE}unauthorized`,
  title: 'The report does not prove that it comes from a device of a known fleet',
  status: 401,
})

/** The problem+json body (RFC 9457) of a refusal; one constant for every 401. */
export function problemOf({ slug, detail }: Refusal): Problem {
  const { status, title } = OUTCOMES[slug]
  return reveals(slug) ? { type: PROBLEM_BASE + slug, title, status, detail } : UNAUTHORIZED
}
