import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { AT, authorityKeyId, basicConstraints, extendedKeyUsage, issueCertificate, keyUsage, subjectKeyId, toPem, type Name } from './issue.ts'

/**
 * A fleet's certificates as a small manufacturer would make them: a CA, which becomes the fleet's anchor, an intermediate
 * that issues device certificates, and one certificate for each device, with the device's serial number in its subject.
 */
export type DeviceKeyType = 'p256' | 'p384' | 'ed25519'
export type Authority = { name: Name; certificate: Buffer; pem: string; key: KeyObject; keyPem: string }
export type FleetDevice = {
  serial: string
  key: KeyObject
  keyPem: string
  /** Leaf and intermediate, DER: what a manifest carries. The anchor is not sent. */
  chain: Buffer[]
  certificatePem: string
  chainPem: string
}
export type Fleet = { name: string; ca: Authority; intermediate: Authority; devices: FleetDevice[] }

export type FleetOptions = {
  devices: number
  keyType?: DeviceKeyType
  /** Names the fleet in subjects and serial numbers. */
  name?: string
  /** ms since the epoch; certificates are valid from a day earlier. */
  now: number
}

const DAY = 24 * 3600 * 1000
const YEAR = 365 * DAY
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

export function createFleet({ devices, keyType = 'p256', name = 'demo', now }: FleetOptions): Fleet {
  const from = now - DAY
  const ca = authority([[AT.organization, name], [AT.commonName, `${name} root CA`]], undefined, 1, from, now + 30 * YEAR)
  const intermediate = authority([[AT.organization, name], [AT.commonName, `${name} device CA`]], ca, 0, from, now + 20 * YEAR)
  return {
    name, ca, intermediate,
    devices: Array.from({ length: devices }, (_, i) => issueDevice(intermediate, `${name}-${String(i + 1).padStart(4, '0')}`, keyType, from, now + 10 * YEAR)),
  }
}

/** One more device under an authority; also a device's renewed key, which keeps its serial. */
export function issueDevice(by: Authority, serial: string, keyType: DeviceKeyType, notBefore: number, notAfter: number): FleetDevice {
  const { publicKey, privateKey } = generate(keyType)
  const certificate = issueCertificate({
    subject: [[AT.serialNumber, serial], [AT.commonName, serial]], issuer: by.name, publicKey, signingKey: by.key, notBefore, notAfter,
    extensions: [basicConstraints(false), keyUsage('digitalSignature'), extendedKeyUsage(CLIENT_AUTH), subjectKeyId(publicKey), authorityKeyId(publicKeyOf(by))],
  })
  return {
    serial, key: privateKey, keyPem: pemOf(privateKey), chain: [certificate, by.certificate],
    certificatePem: toPem(certificate), chainPem: toPem(certificate) + by.pem,
  }
}

function authority(name: Name, by: Authority | undefined, pathLength: number, notBefore: number, notAfter: number): Authority {
  const { publicKey, privateKey } = generate('p256')
  const certificate = issueCertificate({
    subject: name, issuer: by?.name ?? name, publicKey, signingKey: by?.key ?? privateKey, notBefore, notAfter,
    extensions: [
      basicConstraints(true, pathLength), keyUsage('keyCertSign', 'cRLSign'), subjectKeyId(publicKey),
      authorityKeyId(by ? publicKeyOf(by) : publicKey),
    ],
  })
  return { name, certificate, pem: toPem(certificate), key: privateKey, keyPem: pemOf(privateKey) }
}

const publicKeyOf = ({ key }: Authority): KeyObject => createPublicKey(key)

function generate(type: DeviceKeyType): { publicKey: KeyObject; privateKey: KeyObject } {
  switch (type) {
    case 'ed25519':
      return generateKeyPairSync('ed25519')
    case 'p256':
    case 'p384':
      return generateKeyPairSync('ec', { namedCurve: type === 'p256' ? 'P-256' : 'P-384' })
  }
}

/** PKCS #8, which OpenSSL reads. */
const pemOf = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }) as string
