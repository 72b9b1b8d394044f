import { sign, type KeyObject } from 'node:crypto'
import { der, objectIdentifier, type Name } from '../../ingest/device/issue.ts'

/** Draws revocation lists (RFC 5280 5.1) by hand, right unless a part is replaced. */
export type CrlParts = {
  /** Subject of the issuer as DER. */
  issuer: Uint8Array
  key: KeyObject
  thisUpdate: number
  nextUpdate?: number | null
  /** Content octets of each serial, and extensions of its entry. */
  revoked?: readonly { serial: Uint8Array; at?: number; extensions?: readonly Buffer[] }[]
  /** Content octets of the cRLNumber; null leaves it out. */
  number?: readonly number[] | null
  extensions?: readonly Buffer[]
  version?: Buffer
}

/** A name whose texts are UTF8String, as issueCertificate writes those of CAs. */
export const nameDer = (name: Name): Buffer => der(0x30, ...name.map(([type, text]) => der(0x31, der(0x30, objectIdentifier(type), der(0x0c, Buffer.from(text))))))

export const extensionOf = (oid: string, critical: boolean, value: Uint8Array): Buffer => (
  der(0x30, objectIdentifier(oid), ...(critical ? [Buffer.from([1, 1, 0xff])] : []), der(0x04, value))
)
export const reasonCode = (reason: number): Buffer => extensionOf('2.5.29.21', false, Buffer.from([0x0a, 1, reason]))

const utc = (at: number): Buffer => der(0x17, Buffer.from(`${new Date(at).toISOString().replace(/\.\d+|\D/g, '').slice(2)}Z`))
const ALGORITHMS: Readonly<Record<string, { oid: string; digest: string | null }>> = {
  prime256v1: { oid: '1.2.840.10045.4.3.2', digest: 'sha256' },
  secp384r1: { oid: '1.2.840.10045.4.3.3', digest: 'sha384' },
  ed25519: { oid: '1.3.101.112', digest: null },
}

export function drawCrl({ issuer, key, thisUpdate, nextUpdate = thisUpdate + 7 * 24 * 3600 * 1000, revoked = [], number = [1], extensions = [], version = der(0x02, Buffer.of(1)) }: CrlParts): Buffer {
  const { oid, digest } = ALGORITHMS[key.asymmetricKeyDetails?.namedCurve ?? key.asymmetricKeyType!]!
  const algorithm = der(0x30, objectIdentifier(oid))
  const entries = revoked.map((entry) => der(0x30, der(0x02, entry.serial), utc(entry.at ?? thisUpdate), ...(entry.extensions ? [der(0x30, ...entry.extensions)] : [])))
  const all = [...(number === null ? [] : [extensionOf('2.5.29.20', false, der(0x02, Buffer.from(number)))]), ...extensions]
  const tbs = bigSequence([version, algorithm, issuer, utc(thisUpdate), ...(nextUpdate === null ? [] : [utc(nextUpdate)]),
    ...(entries.length > 0 ? [bigSequence(entries)] : []), der(0xa0, der(0x30, ...all))])
  return bigSequence([tbs, algorithm, der(0x03, Buffer.of(0), sign(digest, tbs, key))])
}

/** As der(0x30), up to 16 MiB. */
function bigSequence(parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts)
  return body.length < 0x10000 ? der(0x30, body) : Buffer.concat([Buffer.of(0x30, 0x83, body.length >> 16, (body.length >> 8) & 0xff, body.length & 0xff), body])
}

export const crlPem = (list: Uint8Array): string => `-----BEGIN X509 CRL-----\n${Buffer.from(list).toString('base64').replace(/.{1,64}/g, '$&\n')}-----END X509 CRL-----\n`
