import { hash } from 'node:crypto'
import { OutsideProfile, isSignedBy, readAuthorityKeyId, readSignatureAlgorithm, same, wholeBytes, type Certificate, type Signed } from './certificate.ts'
import { DerError, TAG, boolean, children, derOf, expectTag, integerBytes, oid, sequence, time, unsigned, type Der } from './der.ts'
import { canonicalName, nameText, relativeNames } from './names.ts'
import { refuse, type Refusal } from './outcome.ts'

/**
 * Certificate revocation lists (RFC 5280 section 5), full ones only: what a CA takes back, known for the whole of it.
 *
 *   CertificateList = SEQUENCE { tbs TBSCertList, signatureAlgorithm, signature BIT STRING }
 *   TBSCertList     = SEQUENCE { version 1, signatureAlgorithm, issuer Name, thisUpdate Time, nextUpdate Time,
 *                                revoked SEQUENCE OF SEQUENCE { serial INTEGER, date Time, ?extensions } OPTIONAL, [0] extensions }
 *
 * A delta, an indirect list and one that covers only some of the certificates are refused: to believe one of them to be
 * complete would be to forget revocations. Reading says nothing about truth; a list counts only for certificates whose
 * issuer's key signed it, and that is checked by the set on first use and at import (crl-import.ts).
 */
export type Crl = Signed & {
  der: Uint8Array
  /** SHA-256 of the DER, hex. */
  sha256: string
  /** Subject of the CA, in the form for comparing, and as RFC 4514. */
  issuer: string
  issuerText: string
  /** The CA's key identifier, where the list names it. */
  keyId?: Uint8Array
  /** cRLNumber, which rises with every list of a CA. */
  number: bigint
  /** ms since the epoch. After `nextUpdate` there should be a newer list. */
  thisUpdate: number
  nextUpdate: number
  /** By serial number in hex, when it was revoked. */
  revoked: ReadonlyMap<string, number>
}

export const MAX_CRL_BYTES = 4 * 1024 * 1024
const MAX_ENTRIES = 100_000

/** All lists in force. Immutable; the registry replaces it whole when a list is imported. */
export interface CrlSet {
  /** The newest list of this fleet that `issuer` signed. The first call for an issuer checks the signature, later ones are a look-up. */
  find(fleet: string, issuer: Certificate): Crl | undefined
}

export const NO_CRLS: CrlSet = { find: () => undefined }

export function crlSetOf(lists: readonly { fleet: string; crl: Crl }[]): CrlSet {
  const byFleet = Map.groupBy(lists, ({ fleet }) => fleet)
  const found = new Map<string, Crl | undefined>()
  return {
    find(fleet, issuer) {
      const ofFleet = byFleet.get(fleet)
      if (ofFleet === undefined) return undefined
      const key = `${fleet} ${issuer.sha256}`
      if (!found.has(key)) found.set(key, newestOf(ofFleet.map(({ crl }) => crl).filter((crl) => isCrlOf(crl, issuer))))
      return found.get(key)
    },
  }
}

/** Whether `issuer` made this list, and is a CA that may make lists. */
export function isCrlOf(crl: Crl, issuer: Certificate): boolean {
  const { basicConstraints, keyUsage, subjectKeyId } = issuer.extensions
  if (!basicConstraints?.ca || !keyUsage?.cRLSign || crl.issuer !== issuer.subject) return false
  if (crl.keyId && subjectKeyId && !same(crl.keyId, subjectKeyId)) return false
  return isSignedBy(crl, issuer)
}

const newestOf = (crls: Crl[]): Crl | undefined => crls.toSorted((a, b) => (a.number < b.number ? 1 : a.number > b.number ? -1 : b.thisUpdate - a.thisUpdate))[0]

/** When the list revokes the certificate with this serial number, ms since the epoch. */
export const revokedAt = ({ revoked }: Crl, serial: Uint8Array): number | undefined => revoked.get(Buffer.from(serial).toString('hex'))

/** The DER of each list in a PEM text, in order. */
export function crlsOf(pem: string): Uint8Array[] {
  return [...pem.matchAll(/-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+)-----END X509 CRL-----/g)].map((match) => Buffer.from(match[1]!, 'base64'))
}

/** `allowRsa` as in certificate.ts. */
export function parseCrl(der: Uint8Array, { allowRsa = false } = {}): Crl | Refusal {
  if (der.length > MAX_CRL_BYTES) return refuse('crl-malformed', `crl: ${der.length} bytes, at most ${MAX_CRL_BYTES} are read`)
  try {
    return read(der, allowRsa)
  } catch (error) {
    if (error instanceof DerError) return refuse('crl-malformed', `crl: ${error.message}`)
    if (error instanceof OutsideProfile) return refuse('crl-unsupported', error.message.replace('certificate:', 'crl:'))
    throw error
  }
}

function read(der: Uint8Array, allowRsa: boolean): Crl {
  const [tbs, outerAlgorithm, signature, ...more] = sequence(derOf(der, TAG.sequence))
  if (tbs === undefined || outerAlgorithm === undefined || more.length > 0) throw new DerError('not a list, an algorithm and a signature')
  const [version, innerAlgorithm, issuer, thisUpdate, nextUpdate, ...rest] = sequence(tbs)
  if (unsigned(version) !== 1) throw new DerError('not version 2')
  if (!same(expectTag(innerAlgorithm, TAG.sequence).whole, outerAlgorithm.whole)) throw new DerError('the two signature algorithms differ')
  const names = relativeNames(expectTag(issuer, TAG.sequence))
  const entries = rest[0]?.tag === TAG.sequence ? rest[0] : undefined
  const [extensions, ...neither] = entries ? rest.slice(1) : rest
  if (extensions === undefined || neither.length > 0) throw new DerError('not entries and extensions')
  return {
    der, sha256: hash('sha256', der, 'hex'), tbs: tbs.whole, signatureAlgorithm: readSignatureAlgorithm(outerAlgorithm, allowRsa), signature: wholeBytes(signature),
    issuer: canonicalName(names), issuerText: nameText(names),
    thisUpdate: time(thisUpdate), nextUpdate: time(nextUpdate),
    ...readListExtensions(extensions),
    revoked: entries ? readEntries(entries) : new Map(),
  }
}

const CRL_NUMBER = '2.5.29.20'
const AUTHORITY_KEY_ID = '2.5.29.35'
/** Extensions of a list that make it less than a full list of its issuer. */
const NOT_FULL: ReadonlyMap<string, string> = new Map([['2.5.29.27', 'a delta'], ['2.5.29.28', 'partial or indirect (issuingDistributionPoint)']])

function readListExtensions(field: Der): Pick<Crl, 'number' | 'keyId'> {
  const [list, ...more] = children(expectTag(field, 0xa0))
  if (more.length > 0) throw new DerError('extensions are not one sequence')
  let number: bigint | undefined
  let keyId: Uint8Array | undefined
  for (const { name, critical, value } of readExtensions(list)) {
    const reason = NOT_FULL.get(name)
    if (reason !== undefined) throw unsupported(`the list is ${reason}; only full lists are taken`)
    if (critical) throw unsupported(`extension ${name} is critical`)
    if (name === CRL_NUMBER) number = crlNumber(value)
    if (name === AUTHORITY_KEY_ID) keyId = readAuthorityKeyId(value).keyId
  }
  if (number === undefined) throw new DerError('the list has no cRLNumber')
  return { number, ...(keyId && { keyId }) }
}

function crlNumber(value: Uint8Array): bigint {
  const content = integerBytes(derOf(value, TAG.integer))
  if (content[0]! >= 0x80 || content.length > 20) throw new DerError('cRLNumber is negative or longer than 20 bytes')
  return BigInt(`0x${Buffer.from(content).toString('hex')}`)
}

function readEntries(element: Der): Map<string, number> {
  const revoked = new Map<string, number>()
  for (const entry of children(element, MAX_ENTRIES)) {
    const [serial, date, extensions, ...more] = sequence(entry)
    const key = Buffer.from(integerBytes(serial)).toString('hex')
    if (more.length > 0) throw new DerError('entry with extra fields')
    if (revoked.has(key)) throw new DerError(`serial number ${key} is listed twice`)
    if (extensions !== undefined) checkEntry(extensions)
    revoked.set(key, time(date))
  }
  return revoked
}

const REASON = '2.5.29.21'
const CERTIFICATE_ISSUER = '2.5.29.29'
const REMOVE_FROM_CRL = 8

/** Any listed certificate is revoked, a held one too; what is looked for is only what would mean something else. */
function checkEntry(element: Der): void {
  for (const { name, critical, value } of readExtensions(element)) {
    if (name === CERTIFICATE_ISSUER) throw unsupported('the list is indirect; only full lists are taken')
    if (name === REASON) {
      if (unsigned(derOf(value, TAG.enumerated), TAG.enumerated) === REMOVE_FROM_CRL) throw unsupported('an entry takes a certificate off the list, as only a delta may')
    } else if (critical) throw unsupported(`extension ${name} of an entry is critical`)
  }
}

function readExtensions(list: Der | undefined): { name: string; critical: boolean; value: Uint8Array }[] {
  const seen = new Set<string>()
  return sequence(list).map((extension) => {
    const [id, second, third, ...more] = sequence(extension)
    const name = oid(id)
    if (more.length > 0 || seen.has(name)) throw new DerError(`extension ${name} has extra fields or occurs twice`)
    seen.add(name)
    return { name, critical: third !== undefined && boolean(second), value: expectTag(third ?? second, TAG.octetString).content }
  })
}

const unsupported = (what: string): OutsideProfile => new OutsideProfile(refuse('crl-unsupported', `crl: ${what}`))
