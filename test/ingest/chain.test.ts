import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseCertificate } from '../../ingest/certificate.ts'
import { derOf, sequence } from '../../ingest/der.ts'
import { DEFAULT_CHAIN_POLICY, createChainVerifier, lintAnchor, type Anchor, type ChainPolicy, type ChainResult } from '../../ingest/chain.ts'
import {
  AT, authorityKeyId, basicConstraints, der, extendedKeyUsage, issueCertificate, keyUsage, objectIdentifier, subjectKeyId, toPem, type Extension, type Issue, type Name,
} from '../../ingest/device/issue.ts'
import { OUTCOMES, type Refusal } from '../../ingest/outcome.ts'

const DAY = 24 * 3600 * 1000
const NOW = Date.UTC(2026, 10, 22)
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
const ECA = '2.23.133.5.4.100.12'

const pair = (curve = 'P-256') => generateKeyPairSync('ec', { namedCurve: curve })
const keys = { root: pair(), ca: pair(), sub: pair(), leaf: pair(), other: pair() }
const ROOT: Name = [[AT.commonName, 'root']]
const CA: Name = [[AT.organization, 'Maker, Inc.'], [AT.commonName, 'issuing']]
const SUB: Name = [[AT.commonName, 'line 3']]
const LEAF: Name = [[AT.serialNumber, 'TH-000123'], [AT.commonName, 'thermostat']]
const times = { notBefore: NOW - 10 * DAY, notAfter: NOW + 10 * DAY }
const caExtensions = [basicConstraints(true), keyUsage('keyCertSign')]
const leafExtensions = [basicConstraints(false), keyUsage('digitalSignature'), extendedKeyUsage(CLIENT_AUTH)]

const root = (change: Partial<Issue> = {}): Buffer => (
  issueCertificate({ subject: ROOT, issuer: ROOT, publicKey: keys.root.publicKey, signingKey: keys.root.privateKey, extensions: caExtensions, ...times, ...change })
)
const ca = (change: Partial<Issue> = {}): Buffer => (
  issueCertificate({ subject: CA, issuer: ROOT, publicKey: keys.ca.publicKey, signingKey: keys.root.privateKey, extensions: caExtensions, ...times, ...change })
)
const sub = (change: Partial<Issue> = {}): Buffer => (
  issueCertificate({ subject: SUB, issuer: CA, publicKey: keys.sub.publicKey, signingKey: keys.ca.privateKey, extensions: caExtensions, ...times, ...change })
)
const leaf = (change: Partial<Issue> = {}): Buffer => (
  issueCertificate({ subject: LEAF, issuer: CA, publicKey: keys.leaf.publicKey, signingKey: keys.ca.privateKey, extensions: leafExtensions, ...times, ...change })
)
const anchorFrom = (certificate: Buffer, more: Partial<Anchor> = {}): Anchor => ({ der: certificate, sha256: 'a'.repeat(64), keyProtection: 'unknown', fleet: 'f', ...more })

type Case = { chain?: Buffer[]; anchors?: Anchor[]; policy?: Partial<ChainPolicy>; at?: number }
const check = ({ chain = [leaf(), ca()], anchors = [anchorFrom(root())], policy = {}, at = NOW }: Case = {}): ChainResult | Refusal => (
  createChainVerifier({ cacheSize: 10 }).verify(chain, anchors, () => ({ ...DEFAULT_CHAIN_POLICY, ...policy }), at)
)
const accepted = (given: Case = {}): ChainResult => {
  const result = check(given)
  if ('slug' in result) throw new Error(`${result.slug}: ${result.detail}`)
  return result
}
const noticed = (oid: string, critical: boolean): Extension => ({ oid, critical, value: der(0x30) })

describe('a chain of the profile', () => {
  test.each<[string, Buffer[], Anchor]>([
    ['one intermediate', [leaf(), ca()], anchorFrom(root())],
    ['two intermediates', [leaf({ issuer: SUB, signingKey: keys.sub.privateKey }), sub(), ca()], anchorFrom(root())],
    ['no intermediate', [leaf({ issuer: ROOT, signingKey: keys.root.privateKey })], anchorFrom(root())],
    ['an intermediate as anchor', [leaf()], anchorFrom(ca())],
    ['path lengths that just suffice', [leaf(), ca({ extensions: [basicConstraints(true, 0), keyUsage('keyCertSign')] })], anchorFrom(root({ extensions: [basicConstraints(true, 1), keyUsage('keyCertSign')] }))],
    ['non-critical policies', [leaf({ extensions: [...leafExtensions, noticed('2.5.29.32', false)] }), ca()], anchorFrom(root())],
    ['an unknown extension that is not critical', [leaf({ extensions: [...leafExtensions, noticed('1.2.3.4', false)] }), ca()], anchorFrom(root())],
    ['names that differ in case and white space', [leaf({ issuer: [[AT.organization, ' maker,  INC.'], [AT.commonName, 'Issuing ']] }), ca()], anchorFrom(root())],
    ['key identifiers', [leaf({ extensions: [...leafExtensions, authorityKeyId(keys.ca.publicKey)] }), ca({ extensions: [...caExtensions, subjectKeyId(keys.ca.publicKey)] })], anchorFrom(root())],
    ['an end in the year 9999', [leaf({ notAfter: Date.UTC(9999, 11, 31, 23, 59, 59) }), ca()], anchorFrom(root())],
  ])('is accepted with %s', (_, chain, anchor) => {
    expect(accepted({ chain, anchors: [anchor] })).toMatchObject({ deviceId: 'TH-000123', fleet: 'f', flags: [] })
  })

  test('shows its issuer as RFC 4514 writes it', () => {
    expect(accepted().issuer).toBe('CN=issuing,O=Maker\\, Inc.')
  })

  test('finds its anchor among several of one name', () => {
    const other = pair()
    const rotated = anchorFrom(root({ publicKey: other.publicKey, signingKey: other.privateKey }))
    expect(accepted({ anchors: [rotated, anchorFrom(root(), { fleet: 'right' })] }).fleet).toBe('right')
  })
})

describe('the device id', () => {
  const idOf = (subject: Name, anchor: Partial<Anchor> = {}): string => accepted({ chain: [leaf({ subject }), ca()], anchors: [anchorFrom(root(), anchor)] }).deviceId

  test('is the serial number, else the common name, else the key', () => {
    expect(idOf(LEAF)).toBe('TH-000123')
    expect(idOf([[AT.commonName, 'meter 7']])).toBe('meter 7')
    expect(idOf([[AT.organization, 'Maker']])).toMatch(/^key:[0-9a-f]{32}$/)
  })

  test('is not taken from a name that occurs twice or that people could not tell apart', () => {
    expect(idOf([[AT.serialNumber, 'a'], [AT.serialNumber, 'b']])).toMatch(/^key:/)
    expect(idOf([[AT.commonName, 'meter\u200b7']])).toMatch(/^key:/)
    expect(idOf([[AT.commonName, 'meter  7']])).toMatch(/^key:/)
  })

  test('is scoped where the fleet named the manufacturer, and no serial can borrow another form', () => {
    expect(idOf(LEAF, { scope: 'acme' })).toBe('acme/TH-000123')
    expect(idOf([[AT.commonName, 'acme/TH-000123']])).toBe('acme%2FTH-000123')
    expect(idOf([[AT.commonName, 'source:1']])).toBe('source%3A1')
    expect(idOf([[AT.commonName, '00:11:22:33']])).toBe('00:11:22:33')
  })

  test('is the DeviceID key with DICE, whatever alias key signs', () => {
    const deviceId = ca({ extensions: [...caExtensions, extendedKeyUsage(ECA)] })
    const alias = (key: KeyObject): Buffer => leaf({ publicKey: key, extensions: [basicConstraints(false), keyUsage('digitalSignature'), extendedKeyUsage('2.23.133.5.4.100.8')] })
    const first = accepted({ chain: [alias(pair().publicKey), deviceId] })
    const second = accepted({ chain: [alias(pair().publicKey), deviceId] })
    expect(first.deviceId).toMatch(/^dice:[0-9a-f]{32}$/)
    expect(second.deviceId).toBe(first.deviceId)
    expect(second.deviceKeyId).not.toBe(first.deviceKeyId)
  })
})

describe('a chain is refused', () => {
  const expired = { notBefore: NOW - 90 * DAY, notAfter: NOW - DAY }
  const future = { notBefore: NOW + DAY, notAfter: NOW + 2 * DAY }
  const version1 = (certificate: Buffer): Buffer => Buffer.from(certificate.toString('hex').replace('a003020102', 'a003020100'), 'hex')
  test.each<[string, string, Case]>([
    ['anchor-unknown', 'no anchor', { anchors: [] }],
    ['anchor-unknown', 'an anchor of another name', { anchors: [anchorFrom(root({ subject: SUB, issuer: SUB }))] }],
    ['certificate-signature', 'an anchor of the same name and another key', { anchors: [anchorFrom(root({ publicKey: keys.other.publicKey, signingKey: keys.other.privateKey }))] }],
    ['certificate-signature', 'an intermediate that the anchor did not sign', { chain: [leaf(), ca({ signingKey: pair().privateKey })] }],
    ['certificate-signature', 'a leaf that the intermediate did not sign', { chain: [leaf({ signingKey: pair().privateKey }), ca()] }],
    ['certificate-signature', 'a leaf signed by a key of another curve', { chain: [leaf({ signingKey: pair('P-384').privateKey }), ca()] }],
    ['chain-malformed', 'an empty chain', { chain: [] }],
    ['chain-order', 'intermediates in the wrong order', { chain: [leaf({ issuer: SUB, signingKey: keys.sub.privateKey }), ca(), sub()] }],
    ['chain-order', 'a key identifier of another issuer', { chain: [leaf({ extensions: [...leafExtensions, authorityKeyId(keys.sub.publicKey)] }), ca({ extensions: [...caExtensions, subjectKeyId(keys.ca.publicKey)] })] }],
    ['certificate-self-issued', 'the anchor sent along', { chain: [leaf(), ca(), root()] }],
    ['certificate-self-issued', 'a self-signed leaf', { chain: [leaf({ issuer: LEAF, signingKey: keys.leaf.privateKey })] }],
    ['certificate-not-ca', 'an intermediate without basicConstraints', { chain: [leaf(), ca({ extensions: [keyUsage('keyCertSign')] })] }],
    ['certificate-not-ca', 'an intermediate that is no CA', { chain: [leaf(), ca({ extensions: [basicConstraints(false), keyUsage('keyCertSign')] })] }],
    ['certificate-not-ca', 'an intermediate without keyCertSign', { chain: [leaf(), ca({ extensions: [basicConstraints(true), keyUsage('cRLSign')] })] }],
    ['certificate-not-ca', 'an intermediate without keyUsage', { chain: [leaf(), ca({ extensions: [basicConstraints(true)] })] }],
    ['certificate-not-ca', 'a device certificate as issuer', { chain: [leaf({ issuer: LEAF.slice(0, 1), signingKey: keys.leaf.privateKey }), leaf({ subject: LEAF.slice(0, 1) }), ca()] }],
    ['chain-path-length', 'an intermediate below path length 0', { chain: [leaf({ issuer: SUB, signingKey: keys.sub.privateKey }), sub(), ca({ extensions: [basicConstraints(true, 0), keyUsage('keyCertSign')] })] }],
    ['chain-path-length', 'an intermediate below an anchor of path length 0', { anchors: [anchorFrom(root({ extensions: [basicConstraints(true, 0), keyUsage('keyCertSign')] }))] }],
    ['certificate-expired', 'an expired intermediate', { chain: [leaf(), ca(expired)] }],
    ['certificate-expired', 'an expired anchor', { anchors: [anchorFrom(root(expired))] }],
    ['certificate-expired', 'an expired leaf where the policy refuses', { chain: [leaf(expired), ca()], policy: { expiredLeafMs: 0 } }],
    ['certificate-expired', 'a leaf expired for longer than the policy accepts', { chain: [leaf({ ...expired, notAfter: NOW - 31 * DAY }), ca()] }],
    ['certificate-not-yet-valid', 'a leaf of tomorrow', { chain: [leaf(future), ca()] }],
    ['certificate-not-yet-valid', 'an intermediate of tomorrow', { chain: [leaf(), ca(future)] }],
    ['certificate-algorithm', 'a P-521 leaf', { chain: [leaf({ publicKey: pair('P-521').publicKey }), ca()] }],
    ['certificate-algorithm', 'an RSA leaf', { chain: [leaf({ publicKey: generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey }), ca()] }],
    ['certificate-malformed', 'no DER', { chain: [Buffer.from('certificate'), ca()] }],
    ['certificate-malformed', 'a byte after the leaf', { chain: [Buffer.concat([leaf(), Buffer.of(0)]), ca()] }],
    ['certificate-malformed', 'version 1', { chain: [version1(leaf()), ca()] }],
    ['certificate-malformed', 'serial number 0', { chain: [leaf({ serial: Buffer.of(0) }), ca()] }],
    ['certificate-malformed', 'a negative serial number', { chain: [leaf({ serial: Buffer.of(0x80) }), ca()] }],
    ['certificate-malformed', 'an issuer without a name', { chain: [leaf({ issuer: [] }), ca({ subject: [] })] }],
    ['certificate-malformed', 'a subject without a name', { chain: [leaf({ subject: [] }), ca()] }],
    ['chain-malformed', 'four certificates', { chain: [leaf(), ca(), ca(), ca()] }],
    ['certificate-malformed', 'a keyUsage that allows nothing', { chain: [leaf({ extensions: [{ oid: '2.5.29.15', critical: true, value: Buffer.from([3, 2, 7, 0]) }] }), ca()] }],
    ['certificate-malformed', 'a boolean that is neither 00 nor FF', { chain: [leaf({ extensions: [{ oid: '2.5.29.19', critical: true, value: der(0x30, Buffer.from([1, 1, 1])) }] }), ca()] }],
    ['certificate-extension', 'an unknown critical extension', { chain: [leaf({ extensions: [...leafExtensions, noticed('1.2.3.4', true)] }), ca()] }],
    ['certificate-extension', 'critical policies', { chain: [leaf(), ca({ extensions: [...caExtensions, noticed('2.5.29.32', true)] })] }],
    ['certificate-extension', 'an extension given twice', { chain: [leaf({ extensions: [...leafExtensions, keyUsage('digitalSignature')] }), ca()] }],
    ['certificate-extension', 'name constraints', { chain: [leaf(), ca({ extensions: [...caExtensions, noticed('2.5.29.30', false)] })] }],
    ['certificate-extension', 'policy mappings', { chain: [leaf(), ca({ extensions: [...caExtensions, noticed('2.5.29.33', false)] })] }],
    ['certificate-extension', 'policy constraints', { chain: [leaf(), ca({ extensions: [...caExtensions, noticed('2.5.29.36', false)] })] }],
    ['certificate-extension', 'inhibitAnyPolicy', { chain: [leaf(), ca({ extensions: [...caExtensions, noticed('2.5.29.54', false)] })] }],
  ])('%s: %s', (slug, _, given) => {
    expect(check(given)).toMatchObject({ slug })
  })

  test.each<[string, Case]>([
    ['a leaf without digitalSignature', { chain: [leaf({ extensions: [keyUsage('keyAgreement'), extendedKeyUsage(CLIENT_AUTH)] }), ca()] }],
    ['a leaf without extended key usage', { chain: [leaf({ extensions: [keyUsage('digitalSignature')] }), ca()] }],
    ['a leaf for servers', { chain: [leaf({ extensions: [keyUsage('digitalSignature'), extendedKeyUsage('1.3.6.1.5.5.7.3.1')] }), ca()] }],
    ['an intermediate limited to servers', { chain: [leaf(), ca({ extensions: [...caExtensions, extendedKeyUsage('1.3.6.1.5.5.7.3.1')] })] }],
  ])('certificate-usage, to be told after the signature: %s', (_, given) => {
    expect(accepted(given).unfit).toMatchObject({ slug: 'certificate-usage' })
  })

  test.each<[string, Case]>([
    ['a CA as leaf', { chain: [leaf({ extensions: [...caExtensions] }), ca()] }],
    ['a leaf with keyCertSign', { chain: [leaf({ extensions: [keyUsage('digitalSignature', 'keyCertSign'), extendedKeyUsage(CLIENT_AUTH)] }), ca()] }],
  ])('certificate-is-ca, to be told after the signature: %s', (_, given) => {
    expect(accepted(given).unfit).toMatchObject({ slug: 'certificate-is-ca' })
  })
})

describe('time and cache', () => {
  test('an expired leaf is accepted and flagged for as long as the policy says', () => {
    const given = { chain: [leaf({ notBefore: NOW - 90 * DAY, notAfter: NOW - DAY }), ca()] }
    expect(accepted(given).flags).toEqual(['certificate-expired'])
    expect(check({ ...given, policy: { expiredLeafMs: DAY - 1 } })).toMatchObject({ slug: 'certificate-expired' })
  })

  test('a remembered chain still ends in time', () => {
    const chains = createChainVerifier({ cacheSize: 10 })
    const chain = [leaf(), ca()]
    const anchors = [anchorFrom(root())]
    const at = (time: number): unknown => chains.verify(chain, anchors, () => DEFAULT_CHAIN_POLICY, time)
    expect(at(NOW)).toMatchObject({ flags: [] })
    expect(at(NOW + 11 * DAY)).toMatchObject({ slug: 'certificate-expired' })
    expect(at(NOW - 11 * DAY)).toMatchObject({ slug: 'certificate-not-yet-valid' })
  })

  test('a remembered leaf is judged again under other intermediates', () => {
    const chains = createChainVerifier({ cacheSize: 10 })
    const anchors = [anchorFrom(root())]
    const first = leaf()
    expect(chains.verify([first, ca()], anchors, () => DEFAULT_CHAIN_POLICY, NOW)).toHaveProperty('deviceId')
    expect(chains.verify([first, ca({ signingKey: pair().privateKey })], anchors, () => DEFAULT_CHAIN_POLICY, NOW)).toMatchObject({ slug: 'certificate-signature' })
    expect(chains.verify([first], anchors, () => DEFAULT_CHAIN_POLICY, NOW)).toMatchObject({ slug: 'anchor-unknown' })
  })

  test('a remembered chain follows its anchor: into another fleet, to another key protection, and away', () => {
    const chains = createChainVerifier({ cacheSize: 10 })
    const [chain, certificate] = [[leaf(), ca()], root()]
    const under = (...anchors: Anchor[]): unknown => chains.verify(chain, anchors, () => DEFAULT_CHAIN_POLICY, NOW)
    expect(under(anchorFrom(certificate))).toMatchObject({ fleet: 'f', anchor: { keyProtection: 'unknown' } })
    expect(under(anchorFrom(certificate, { keyProtection: 'hardware' }))).toMatchObject({ fleet: 'f', anchor: { keyProtection: 'hardware' } })
    expect(under(anchorFrom(certificate, { fleet: 'g' }))).toMatchObject({ fleet: 'g' })
    expect(under(anchorFrom(certificate, { scope: 'acme' }))).toMatchObject({ deviceId: 'acme/TH-000123' })
    expect(under()).toMatchObject({ slug: 'anchor-unknown' })
  })

  test('chains that failed are not remembered', () => {
    const chains = createChainVerifier({ cacheSize: 1 })
    const anchors = [anchorFrom(root())]
    const good = [leaf(), ca()]
    const hash = Buffer.from(parsed(good[0]!).sha256, 'hex')
    chains.verify(good, anchors, () => DEFAULT_CHAIN_POLICY, NOW)
    for (let i = 0; i < 5; i++) chains.verify([leaf({ signingKey: pair().privateKey }), ca()], anchors, () => DEFAULT_CHAIN_POLICY, NOW)
    expect(chains.chainOf(hash)).toEqual(good.map((certificate) => new Uint8Array(certificate)))
  })
})

describe('an anchor is linted before it is trusted', () => {
  test('a root in PEM or DER is taken', () => {
    expect(lintAnchor(toPem(root()))).toMatchObject({ subject: 'CN=root', keyType: 'P-256', anchor: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as unknown } })
    expect(lintAnchor(root())).toHaveProperty('anchor')
  })

  test.each<[string, string | Buffer]>([
    ['certificate-malformed', 'no certificate'],
    ['certificate-malformed', toPem(root()) + toPem(ca())],
    ['certificate-not-ca', leaf()],
    ['certificate-not-ca', root({ extensions: [basicConstraints(true)] })],
    ['certificate-signature', root({ signingKey: pair().privateKey })],
    ['chain-order', root({ extensions: [...caExtensions, subjectKeyId(keys.root.publicKey), authorityKeyId(keys.ca.publicKey)] })],
    ['certificate-extension', root({ extensions: [...caExtensions, { oid: '2.5.29.30', critical: true, value: der(0x30, objectIdentifier('1.2')) }] })],
  ])('%s', (slug, source) => {
    expect(lintAnchor(source)).toMatchObject({ slug })
  })
})

describe('the certificate reader', () => {
  const certificate = leaf()

  /** The leaf with other fields after its public key; nobody looks at its signature here. */
  const withOptional = (change: (extensions: Uint8Array) => Uint8Array[]): Buffer => {
    const [tbs, ...rest] = sequence(derOf(certificate, 0x30))
    const fields = sequence(tbs).map(({ whole }) => whole)
    return der(0x30, der(0x30, ...fields.slice(0, -1), ...change(fields.at(-1)!)), ...rest.map(({ whole }) => whole))
  }
  const [issuerId, subjectId] = [der(0x81, Buffer.of(0, 1)), der(0x82, Buffer.of(0, 2))]

  test('passes over unique identifiers, each once and in order before the extensions', () => {
    for (const identifiers of [[issuerId], [subjectId], [issuerId, subjectId]]) {
      expect(parseCertificate(withOptional((extensions) => [...identifiers, extensions]))).toHaveProperty('extensions.keyUsage')
    }
    for (const identifiers of [[issuerId, issuerId], [subjectId, issuerId], [der(0x84, Buffer.of(0))]]) {
      expect(parseCertificate(withOptional((extensions) => [...identifiers, extensions]))).toMatchObject({ slug: 'certificate-malformed' })
    }
    expect(parseCertificate(withOptional((extensions) => [extensions, extensions]))).toMatchObject({ slug: 'certificate-malformed' })
    expect(parseCertificate(withOptional((extensions) => [extensions, issuerId]))).toMatchObject({ slug: 'certificate-malformed' })
  })

  test('ends on a certificate with any bytes changed, with a certificate or a slug of ours', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.nat(certificate.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (changes) => {
      const copy = Buffer.from(certificate)
      for (const [at, byte] of changes) copy[at] = byte
      const result = parseCertificate(copy)
      if ('slug' in result) expect(OUTCOMES).toHaveProperty([result.slug])
    }), { numRuns: 3000 })
  })

  test('ends on any bytes and any cut', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(certificate.length), (noise, cut) => {
      expect(parseCertificate(noise)).toHaveProperty('slug')
      expect(parseCertificate(Buffer.concat([certificate.subarray(0, cut), noise]))).toBeDefined()
    }), { numRuns: 1000 })
  })
})

function parsed(certificate: Buffer): { sha256: string } {
  const result = parseCertificate(certificate)
  if ('slug' in result) throw new Error(result.detail)
  return result
}
