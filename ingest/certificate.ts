import { createPublicKey, hash, verify, type KeyObject } from 'node:crypto'
import { DerError, TAG, bitString, boolean, children, derOf, expectTag, integerBytes, oid, sequence, time, unsigned, type Der } from './der.ts'
import { readTcbInfo, readUeid, type TcbInfo } from './dice.ts'
import { canonicalName, relativeNames, type Attribute } from './names.ts'
import { refuse, type Refusal } from './outcome.ts'

/**
 * One X.509 v3 certificate (RFC 5280 4.1) of the narrow profile: read, not judged. chain.ts judges.
 *
 *   Certificate    = SEQUENCE { tbs TBSCertificate, signatureAlgorithm, signature BIT STRING }
 *   TBSCertificate = SEQUENCE { [0] version, serial INTEGER, signatureAlgorithm, issuer Name, validity SEQUENCE { Time, Time },
 *                               subject Name, subjectPublicKeyInfo, [1] and [2] unique identifiers, ignored, [3] extensions }
 *   Extension      = SEQUENCE { id OID, critical BOOLEAN DEFAULT FALSE, value OCTET STRING }
 *
 * node:crypto's X509Certificate does not give the extensions in full; the JavaScript certificate libraries do, at 7 ms a
 * certificate. So the fields are read here and the signature is checked by node:crypto over the bytes of `tbs`.
 */
export type Certificate = {
  der: Uint8Array
  /** SHA-256 of the DER, hex. */
  sha256: string
  tbs: Uint8Array
  signatureAlgorithm: SignatureAlgorithm
  signature: Uint8Array
  serial: Uint8Array
  /** Names in the form for comparing, and in parts. */
  issuer: string
  issuerNames: Attribute[][]
  subject: string
  subjectNames: Attribute[][]
  /** ms since the epoch, both inclusive. */
  notBefore: number
  notAfter: number
  /** SubjectPublicKeyInfo as DER. */
  spki: Uint8Array
  keyType: KeyType
  key: KeyObject
  extensions: Extensions
}

export type KeyType = 'P-256' | 'P-384' | 'Ed25519' | 'RSA'

export type Extensions = {
  basicConstraints?: { ca: boolean; pathLength?: number }
  keyUsage?: { digitalSignature: boolean; keyCertSign: boolean; cRLSign: boolean }
  extendedKeyUsage?: string[]
  subjectKeyId?: Uint8Array
  authorityKeyId?: { keyId?: Uint8Array; serial?: Uint8Array }
  /** What a DICE TcbInfo proves of the firmware. */
  tcb?: TcbInfo
  ueid?: Uint8Array
}

export type SignatureAlgorithm = { keys: readonly KeyType[]; digest: string | null }

const SIGNATURE_ALGORITHMS: Readonly<Record<string, SignatureAlgorithm>> = {
  '1.2.840.10045.4.3.2': { keys: ['P-256', 'P-384'], digest: 'sha256' },
  '1.2.840.10045.4.3.3': { keys: ['P-256', 'P-384'], digest: 'sha384' },
  '1.2.840.10045.4.3.4': { keys: ['P-256', 'P-384'], digest: 'sha512' },
  '1.3.101.112': { keys: ['Ed25519'], digest: null },
  '1.2.840.113549.1.1.11': { keys: ['RSA'], digest: 'sha256' },
}

const EC_PUBLIC_KEY = '1.2.840.10045.2.1'
const CURVES: Readonly<Record<string, { type: KeyType; pointBytes: number }>> = {
  '1.2.840.10045.3.1.7': { type: 'P-256', pointBytes: 65 },
  '1.3.132.0.34': { type: 'P-384', pointBytes: 97 },
}
const ED25519 = '1.3.101.112'
const RSA = '1.2.840.113549.1.1.1'

/** `allowRsa` is for test suites whose chains are RSA (`cert check --allow-rsa`); no setting of the door reaches it. */
export function parseCertificate(der: Uint8Array, { allowRsa = false } = {}): Certificate | Refusal {
  try {
    return read(der, allowRsa)
  } catch (error) {
    if (error instanceof DerError) return refuse('certificate-malformed', `certificate: ${error.message}`)
    if (error instanceof OutsideProfile) return error.refusal
    throw error
  }
}

/** Thrown inside certificate.ts and crl.ts, where it becomes a refusal. */
export class OutsideProfile extends Error {
  readonly refusal: Refusal
  constructor(refusal: Refusal) {
    super(refusal.detail)
    this.refusal = refusal
  }
}

function read(der: Uint8Array, allowRsa: boolean): Certificate {
  const [tbs, outerAlgorithm, signature, ...more] = sequence(derOf(der, TAG.sequence))
  if (tbs === undefined || outerAlgorithm === undefined || more.length > 0) throw new DerError('not a TBS, an algorithm and a signature')
  const [version, serialField, innerAlgorithm, issuer, validity, subject, spki, ...optional] = sequence(tbs)
  if (unsigned(children(expectTag(version, 0xa0))[0]) !== 2) throw new DerError('not version 3')
  const serial = integerBytes(serialField)
  if (serial[0]! >= 0x80 || serial.length > 20 || (serial.length === 1 && serial[0] === 0)) throw new DerError('serial number is not positive with at most 20 bytes')
  if (!same(expectTag(innerAlgorithm, TAG.sequence).whole, outerAlgorithm.whole)) throw new DerError('the two signature algorithms differ')
  const [notBefore, notAfter, ...neither] = sequence(validity)
  if (neither.length > 0) throw new DerError('validity is not two times')
  const key = readKey(expectTag(spki, TAG.sequence), allowRsa)
  const issuerNames = relativeNames(expectTag(issuer, TAG.sequence))
  const subjectNames = relativeNames(expectTag(subject, TAG.sequence))
  if (issuerNames.length === 0 || subjectNames.length === 0) throw new DerError('empty issuer or subject')
  return {
    der, sha256: hash('sha256', der, 'hex'), tbs: tbs.whole,
    signatureAlgorithm: readSignatureAlgorithm(outerAlgorithm, allowRsa),
    signature: wholeBytes(signature),
    serial,
    issuer: canonicalName(issuerNames), issuerNames,
    subject: canonicalName(subjectNames), subjectNames,
    notBefore: time(notBefore), notAfter: time(notAfter),
    spki: spki!.whole, ...key,
    extensions: readOptional(optional),
  }
}

/** Unique identifiers, which nobody writes any more and which decide nothing here, and extensions: each at most once, in order. */
function readOptional(fields: Der[]): Extensions {
  const order = [0x81, 0x82, 0xa3]
  const positions = fields.map(({ tag }) => order.indexOf(tag))
  if (positions.some((position, i) => position <= (positions[i - 1] ?? -1))) throw new DerError('fields after the public key that are not identifiers and extensions in order')
  const extensions = fields.find(({ tag }) => tag === 0xa3)
  return extensions === undefined ? {} : readExtensions(extensions)
}

export function readSignatureAlgorithm(element: Der, allowRsa: boolean): SignatureAlgorithm {
  const [id, parameters, ...rest] = sequence(element)
  const name = oid(id)
  const algorithm = SIGNATURE_ALGORITHMS[name]
  if (algorithm === undefined || (algorithm.keys.includes('RSA') && !allowRsa)) {
    throw new OutsideProfile(refuse('certificate-algorithm', `certificate: signature algorithm ${name} is outside the profile`))
  }
  if (rest.length > 0 || (parameters !== undefined && !algorithm.keys.includes('RSA'))) throw new DerError('signature algorithm with parameters')
  return algorithm
}

function readKey(spki: Der, allowRsa: boolean): { keyType: KeyType; key: KeyObject } {
  const [algorithm, keyBits, ...more] = sequence(spki)
  const [id, parameters, ...rest] = sequence(algorithm)
  if (more.length > 0 || rest.length > 0) throw new DerError('public key with extra fields')
  const point = wholeBytes(keyBits)
  const name = oid(id)
  let keyType: KeyType
  if (name === EC_PUBLIC_KEY) {
    const curveName = oid(parameters)
    const curve = CURVES[curveName]
    if (curve === undefined) throw new OutsideProfile(refuse('certificate-algorithm', `certificate: curve ${curveName} is outside the profile`))
    if (point.length !== curve.pointBytes || point[0] !== 4) throw new DerError('public key is not an uncompressed point of its curve')
    keyType = curve.type
  } else if (name === ED25519) {
    if (parameters !== undefined || point.length !== 32) throw new DerError('Ed25519 key with parameters or of a wrong length')
    keyType = 'Ed25519'
  } else if (name === RSA && allowRsa) {
    keyType = 'RSA'
  } else {
    throw new OutsideProfile(refuse('certificate-algorithm', `certificate: key type ${name} is outside the profile`))
  }
  try {
    return { keyType, key: createPublicKey({ key: Buffer.from(spki.whole), format: 'der', type: 'spki' }) }
  } catch (cause) {
    throw new DerError('public key is not on its curve', { cause })
  }
}

export function wholeBytes(element: Der | undefined): Uint8Array {
  const { bytes, unused } = bitString(element)
  if (unused !== 0) throw new DerError('bit string of a key or signature is not whole bytes')
  return bytes
}

/** What an extension of a certificate on the path may be; anything not here is ignored, or refused when critical. */
const REFUSED: ReadonlyMap<string, string> = new Map([
  ['2.5.29.30', 'name constraints'], ['2.5.29.33', 'policy mappings'], ['2.5.29.36', 'policy constraints'], ['2.5.29.54', 'inhibitAnyPolicy'],
])
const READERS: Readonly<Record<string, (value: Uint8Array, into: Extensions) => void>> = {
  '2.5.29.14': (value, into) => { into.subjectKeyId = derOf(value, TAG.octetString).content },
  '2.5.29.15': (value, into) => { into.keyUsage = readKeyUsage(value) },
  '2.5.29.17': (value) => { children(derOf(value, TAG.sequence)) }, // subjectAltName: identity is the subject, so a name here has no say
  '2.5.29.19': (value, into) => { into.basicConstraints = readBasicConstraints(value) },
  '2.5.29.35': (value, into) => { into.authorityKeyId = readAuthorityKeyId(value) },
  '2.5.29.37': (value, into) => { into.extendedKeyUsage = readExtendedKeyUsage(value) },
  '2.23.133.5.4.1': (value, into) => { into.tcb = readTcbInfo(value) },
  '2.23.133.5.4.4': (value, into) => { into.ueid = readUeid(value) },
}

function readExtensions(field: Der): Extensions {
  const into: Extensions = {}
  const seen = new Set<string>()
  const [list, ...rest] = children(expectTag(field, 0xa3))
  const extensions = sequence(list)
  if (rest.length > 0 || extensions.length === 0) throw new DerError('extensions are not one filled sequence')
  for (const extension of extensions) {
    const [id, second, third, ...more] = sequence(extension)
    const name = oid(id)
    const critical = third !== undefined && boolean(second)
    if (third !== undefined && !critical) throw new DerError(`extension ${name} spells out critical FALSE`)
    if (more.length > 0) throw new DerError(`extension ${name} has extra fields`)
    if (seen.has(name)) throw outside(`${name} occurs twice`)
    seen.add(name)
    const { content } = expectTag(third ?? second, TAG.octetString)
    const refused = REFUSED.get(name)
    if (refused !== undefined) throw outside(`${refused} (${name}) are not part of the profile`)
    const reader = READERS[name]
    if (reader !== undefined) reader(content, into)
    else if (critical) throw outside(`${name} is critical and unknown`)
  }
  return into
}

const outside = (what: string): OutsideProfile => new OutsideProfile(refuse('certificate-extension', `certificate: extension ${what}`))

/** BasicConstraints = SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL } */
function readBasicConstraints(value: Uint8Array): NonNullable<Extensions['basicConstraints']> {
  const [ca, pathLength, ...rest] = sequence(derOf(value, TAG.sequence))
  if (ca === undefined) return { ca: false }
  if (!boolean(ca) || rest.length > 0) throw new DerError('basicConstraints that is not a CA spells out more than the default')
  return pathLength === undefined ? { ca: true } : { ca: true, pathLength: unsigned(pathLength) }
}

/** KeyUsage = BIT STRING: bit 0 digitalSignature, bit 5 keyCertSign, bit 6 cRLSign, counted from the highest. */
function readKeyUsage(value: Uint8Array): NonNullable<Extensions['keyUsage']> {
  const { bytes } = bitString(derOf(value, TAG.bitString))
  const first = bytes[0] ?? 0
  if (first === 0 && (bytes[1] ?? 0) === 0) throw new DerError('keyUsage allows nothing')
  return { digitalSignature: (first & 0x80) !== 0, keyCertSign: (first & 0x04) !== 0, cRLSign: (first & 0x02) !== 0 }
}

function readExtendedKeyUsage(value: Uint8Array): string[] {
  const purposes = sequence(derOf(value, TAG.sequence)).map(oid)
  if (purposes.length === 0) throw new DerError('extended key usage is empty')
  return purposes
}

/** AuthorityKeyIdentifier = SEQUENCE { [0] keyIdentifier, [1] authorityCertIssuer, [2] authorityCertSerialNumber } */
export function readAuthorityKeyId(value: Uint8Array): NonNullable<Extensions['authorityKeyId']> {
  const found: NonNullable<Extensions['authorityKeyId']> = {}
  for (const field of sequence(derOf(value, TAG.sequence))) {
    if (field.tag === 0x80) found.keyId = field.content
    else if (field.tag === 0x82) found.serial = integerBytes(field, 0x82)
    else if (field.tag !== 0xa1) throw new DerError('authorityKeyIdentifier with an unknown field')
  }
  return found
}

export const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/** Whether `issuer`'s key made the signature of a certificate, or of a revocation list. */
export function isSignedBy({ signatureAlgorithm: { keys, digest }, tbs, signature }: Signed, issuer: Pick<Certificate, 'keyType' | 'key'>): boolean {
  return keys.includes(issuer.keyType) && verify(digest, tbs, issuer.key, signature)
}
export type Signed = Pick<Certificate, 'signatureAlgorithm' | 'tbs' | 'signature'>
