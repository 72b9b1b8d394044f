import { hash, randomBytes, sign, type KeyObject } from 'node:crypto'

/**
 * Makes X.509 v3 certificates (RFC 5280), for demo fleets and for tests: a writer of DER in a page. It takes names and
 * extensions as given and judges nothing; what it makes is read by OpenSSL and by certificate.ts, which share no code with it.
 */
export type Issue = {
  subject: Name
  issuer: Name
  publicKey: KeyObject
  signingKey: KeyObject
  /** ms since the epoch. */
  notBefore: number
  notAfter: number
  extensions: readonly Extension[]
  serial?: Uint8Array
}
/** Attribute type as dotted OID, and its text, from the least specific to the most. */
export type Name = readonly (readonly [oid: string, text: string])[]
export type Extension = { oid: string; critical: boolean; value: Uint8Array }

export function issueCertificate({ subject, issuer, publicKey, signingKey, notBefore, notAfter, extensions, serial = randomSerial() }: Issue): Buffer {
  const algorithm = signatureAlgorithm(signingKey)
  const tbs = der(0x30,
    der(0xa0, integer(Uint8Array.of(2))), integer(serial), algorithm.identifier, name(issuer), der(0x30, time(notBefore), time(notAfter)), name(subject),
    spkiOf(publicKey), ...(extensions.length > 0 ? [der(0xa3, der(0x30, ...extensions.map(extension)))] : []))
  return der(0x30, tbs, algorithm.identifier, bits(sign(algorithm.digest, tbs, signingKey)))
}

export const spkiOf = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' })
export const toPem = (certificate: Uint8Array): string => (
  `-----BEGIN CERTIFICATE-----\n${Buffer.from(certificate).toString('base64').replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`
)

/** Named attribute types. */
export const AT = { commonName: '2.5.4.3', serialNumber: '2.5.4.5', organization: '2.5.4.10' } as const

export const basicConstraints = (ca: boolean, pathLength?: number): Extension => ({
  oid: '2.5.29.19', critical: true,
  value: der(0x30, ...(ca ? [TRUE] : []), ...(pathLength === undefined ? [] : [integer(Uint8Array.of(pathLength))])),
})

const USAGES = ['digitalSignature', 'nonRepudiation', 'keyEncipherment', 'dataEncipherment', 'keyAgreement', 'keyCertSign', 'cRLSign'] as const
export function keyUsage(...usages: (typeof USAGES)[number][]): Extension {
  const set = usages.map((usage) => USAGES.indexOf(usage))
  const octet = set.reduce((byte, bit) => byte | (0x80 >> bit), 0)
  return { oid: '2.5.29.15', critical: true, value: der(0x03, Uint8Array.of(7 - Math.max(...set), octet)) }
}

export const extendedKeyUsage = (...oids: string[]): Extension => ({ oid: '2.5.29.37', critical: false, value: der(0x30, ...oids.map(objectIdentifier)) })

/** RFC 7093 method 1 of a key identifier: the first 20 bytes of a SHA-256. */
const keyIdentifier = (key: KeyObject): Buffer => hash('sha256', spkiOf(key), 'buffer').subarray(0, 20)
export const subjectKeyId = (key: KeyObject): Extension => ({ oid: '2.5.29.14', critical: false, value: der(0x04, keyIdentifier(key)) })
export const authorityKeyId = (key: KeyObject): Extension => ({ oid: '2.5.29.35', critical: false, value: der(0x30, der(0x80, keyIdentifier(key))) })

/** One element: tag, length in its shortest form, content. */
export function der(tag: number, ...content: Uint8Array[]): Buffer {
  const body = Buffer.concat(content)
  if (body.length < 0x80) return Buffer.concat([Uint8Array.of(tag, body.length), body])
  const length = body.length < 0x100 ? [body.length] : [body.length >> 8, body.length & 0xff]
  return Buffer.concat([Uint8Array.of(tag, 0x80 | length.length, ...length), body])
}

export function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  return der(0x06, Buffer.from([first * 40 + second, ...rest].flatMap(base128)))
}

function base128(arc: number): number[] {
  const digits = [arc % 128]
  for (let left = Math.trunc(arc / 128); left > 0; left = Math.trunc(left / 128)) digits.unshift(0x80 | (left % 128))
  return digits
}

const TRUE = Buffer.from([0x01, 0x01, 0xff])
const integer = (big: Uint8Array): Buffer => der(0x02, big)
const bits = (bytes: Uint8Array): Buffer => der(0x03, Uint8Array.of(0), bytes)
const name = (attributes: Name): Buffer => (
  der(0x30, ...attributes.map(([type, text]) => der(0x31, der(0x30, objectIdentifier(type), der(type === AT.serialNumber ? 0x13 : 0x0c, Buffer.from(text))))))
)
const extension = ({ oid, critical, value }: Extension): Buffer => der(0x30, objectIdentifier(oid), ...(critical ? [TRUE] : []), der(0x04, value))

/** Through 2049 as UTCTime, later as GeneralizedTime (RFC 5280 4.1.2.5). */
function time(at: number): Buffer {
  const digits = `${new Date(at).toISOString().replace(/\.\d+|\D/g, '')}Z`
  return digits < '2050' ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits))
}

/** 16 random bytes, positive and without a leading zero. */
function randomSerial(): Buffer {
  const serial = randomBytes(16)
  serial[0] = (serial[0]! & 0x3f) | 0x40
  return serial
}

function signatureAlgorithm(key: KeyObject): { digest: string | null; identifier: Buffer } {
  const curve = key.asymmetricKeyDetails?.namedCurve
  if (key.asymmetricKeyType === 'ed25519') return { digest: null, identifier: der(0x30, objectIdentifier('1.3.101.112')) }
  if (curve === 'prime256v1') return { digest: 'sha256', identifier: der(0x30, objectIdentifier('1.2.840.10045.4.3.2')) }
  if (curve === 'secp384r1') return { digest: 'sha384', identifier: der(0x30, objectIdentifier('1.2.840.10045.4.3.3')) }
  throw new TypeError(`a key of type ${key.asymmetricKeyType} ${curve ?? ''} signs no certificates here`)
}
