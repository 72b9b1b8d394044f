import { hash } from 'node:crypto'
import { parseCertificate, type Certificate } from './certificate.ts'
import { createChainVerifier, type Anchor } from './chain.ts'
import { crlsOf, isCrlOf, parseCrl, type Crl } from './crl.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'

/**
 * Before a revocation list is believed: it is full (crl.ts), signed by a CA that the fleet's anchors vouch for, from the
 * present, and newer than the list of that CA which is there, or an old one could be played back to forget a revocation.
 */
export type CrlImport = {
  /** Those of the fleet. */
  anchors: readonly Anchor[]
  /** The CA that made the list, then what stands between it and its anchor, DER. Empty when an anchor made the list. */
  issuer: Uint8Array[]
  /** The list in force under this subject. */
  previous: (subject: string) => Pick<Crl, 'number' | 'thisUpdate'> | undefined
  /** ms since the epoch. */
  at: number
}

export type LintedCrl = {
  crl: Crl
  /** Of the event `fleet.crl-imported`: `crl:` and the SHA-256 of the CA's public key, hex. A newer list takes the place of the older one. */
  subject: string
}

/** CA and server may differ by this much. */
const CLOCK_SKEW_MS = 5 * 60 * 1000

/** PEM text with one list, or DER. */
export function lintCrl(source: string | Uint8Array, { anchors, issuer, previous, at }: CrlImport): LintedCrl | Refusal {
  const lists = typeof source === 'string' ? crlsOf(source) : [source]
  const [only, ...more] = lists
  if (only === undefined || more.length > 0) return refuse('crl-malformed', `crl: ${lists.length} lists in the file, one expected`)
  const crl = parseCrl(only)
  if (isRefusal(crl)) return crl
  const issuers = issuersAmong(anchors, issuer, at)
  if (isRefusal(issuers)) return issuers
  const ca = issuers.find((certificate) => isCrlOf(crl, certificate))
  if (ca === undefined) return refuse('crl-issuer', `crl: not signed by ${issuer.length > 0 ? 'the issuer given' : 'an anchor of the fleet'}, or that may not sign lists (keyUsage cRLSign); it names ${crl.issuerText}`)
  if (crl.thisUpdate > at + CLOCK_SKEW_MS) return refuse('crl-malformed', `crl: made at ${new Date(crl.thisUpdate).toISOString()}, which is to come`)

  const subject = `crl:${hash('sha256', ca.spki, 'hex')}`
  const before = previous(subject)
  if (before && crl.number <= before.number) return refuse('crl-older', `crl: number ${crl.number}, and ${before.number} is there`)
  if (before && crl.thisUpdate < before.thisUpdate) return refuse('crl-older', `crl: made at ${new Date(crl.thisUpdate).toISOString()}, before the one that is there`)
  return { crl, subject }
}

/** CAs of the fleet, one of which has to be the maker of the list: the one given, if its path holds, else the anchors. */
function issuersAmong(anchors: readonly Anchor[], issuer: Uint8Array[], at: number): Certificate[] | Refusal {
  const [given] = issuer
  if (given === undefined) return anchors.flatMap(({ der }) => {
    const certificate = parseCertificate(der)
    return isRefusal(certificate) ? [] : [certificate]
  })
  const path = createChainVerifier({ cacheSize: 1 }).verify(issuer, anchors, () => ({ expiredLeafMs: 0, eku: 'any' }), at)
  if (isRefusal(path)) return refuse('crl-issuer', path.detail)
  const certificate = parseCertificate(given)
  return isRefusal(certificate) ? certificate : [certificate]
}
