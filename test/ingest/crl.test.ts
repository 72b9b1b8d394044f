import { execFileSync } from 'node:child_process'
import { X509Certificate, createPublicKey, hash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseCertificate } from '../../ingest/certificate.ts'
import { CRL_REQUIRED, DEFAULT_CHAIN_POLICY, createChainVerifier, type Anchor, type CrlPolicy } from '../../ingest/chain.ts'
import { crlSetOf, parseCrl, revokedAt, type Crl, type CrlSet } from '../../ingest/crl.ts'
import { lintCrl } from '../../ingest/crl-import.ts'
import { createFleet, type Authority } from '../../ingest/device/fleet.ts'
import { AT, basicConstraints, der, issueCertificate, keyUsage, spkiOf } from '../../ingest/device/issue.ts'
import { OUTCOMES } from '../../ingest/outcome.ts'
import { createVerifier } from '../../ingest/verify.ts'
import { decodeManifest, type Manifest } from '../../ingest/manifest.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { crlPem, drawCrl, extensionOf, nameDer, reasonCode, type CrlParts } from './build-crl.ts'

const DAY = 24 * 3600 * 1000
const NOW = Date.UTC(2026, 10, 22)
const fleet = createFleet({ devices: 2, now: NOW - 100 * DAY })
const [device, other] = [fleet.devices[0]!, fleet.devices[1]!]
const anchor: Anchor = { der: fleet.ca.certificate, sha256: 'a'.repeat(64), keyProtection: 'unknown', fleet: 'f' }

/** By node's reader, not ours. */
const serialOf = (certificate: Buffer): Buffer => Buffer.from(new X509Certificate(certificate).serialNumber, 'hex')

const by = (authority: Authority, parts: Partial<CrlParts> = {}): Buffer => drawCrl({ issuer: nameDer(authority.name), key: authority.key, thisUpdate: NOW - DAY, ...parts })
const revoking = (certificate: Buffer, parts: Partial<CrlParts> = {}): Buffer => by(fleet.intermediate, { revoked: [{ serial: serialOf(certificate), at: NOW - 2 * DAY }], ...parts })
function read(list: Buffer): Crl {
  const crl = parseCrl(list)
  if ('slug' in crl) throw new Error(crl.detail)
  return crl
}
const setOf = (...lists: Buffer[]): CrlSet => crlSetOf(lists.map((list) => ({ fleet: 'f', crl: read(list) })))

function check(crls: CrlSet, { chain = device.chain, crl, at = NOW }: { chain?: Buffer[]; crl?: CrlPolicy; at?: number } = {}) {
  const result = createChainVerifier({ cacheSize: 1 }).verify(chain, [anchor], () => ({ ...DEFAULT_CHAIN_POLICY, ...(crl && { crl }) }), at, crls)
  if ('slug' in result) throw new Error(result.detail)
  return result
}

describe('a chain under revocation lists', () => {
  test('is revoked when its leaf is listed by its issuer, with the moment', () => {
    const { revoked } = check(setOf(revoking(device.chain[0]!)))
    expect(revoked).toMatchObject({ slug: 'certificate-revoked', detail: expect.stringContaining('the leaf was revoked by CN=demo device CA,O=demo at 2026-11-20') as unknown })
    expect(check(setOf(revoking(other.chain[0]!))).revoked).toBeUndefined()
  })

  test('is revoked when its intermediate is listed by the anchor', () => {
    expect(check(setOf(by(fleet.ca, { revoked: [{ serial: serialOf(fleet.intermediate.certificate) }] }))).revoked?.detail).toContain('intermediate 1 was revoked')
  })

  test('does not care for the lists of other issuers, other keys and other fleets', () => {
    const stranger = createFleet({ devices: 0, now: NOW }).intermediate
    expect(check(setOf(by(fleet.ca, { revoked: [{ serial: serialOf(device.chain[0]!) }] }))).revoked).toBeUndefined()
    expect(check(setOf(revoking(device.chain[0]!, { key: stranger.key }))).revoked).toBeUndefined()
    expect(check(crlSetOf([{ fleet: 'g', crl: read(revoking(device.chain[0]!)) }])).revoked).toBeUndefined()
  })

  test('is judged by the list with the highest number', () => {
    const older = revoking(device.chain[0]!, { number: [4] })
    const newer = by(fleet.intermediate, { number: [1, 0] })
    expect(check(setOf(older, newer)).revoked).toBeUndefined()
    expect(check(setOf(newer, older)).revoked).toBeUndefined()
    expect(check(setOf(newer, revoking(device.chain[0]!, { number: [2, 0] }))).revoked).toBeDefined()
  })

  test('is flagged when a list has run out, which still revokes, and refused only where the fleet says so', () => {
    const [old, revokes] = [by(fleet.intermediate, { nextUpdate: NOW - 1000 }), revoking(device.chain[0]!, { nextUpdate: NOW - 1000 })]
    expect(check(setOf(old))).toMatchObject({ flags: ['crl-expired'] })
    expect(check(setOf(old)).revoked).toBeUndefined()
    expect(check(setOf(revokes)).revoked).toMatchObject({ slug: 'certificate-revoked' })
    expect(check(setOf(old), { crl: { expired: 'refuse', missing: 'accept' } }).revoked).toMatchObject({ slug: 'crl-expired' })
    expect(check(setOf(by(fleet.intermediate, { nextUpdate: NOW }))).flags).toEqual([])
  })

  test('needs a list of every issuer only where the fleet says so', () => {
    expect(check(setOf(by(fleet.intermediate)), { crl: CRL_REQUIRED }).revoked).toMatchObject({ slug: 'crl-missing', detail: expect.stringContaining('root CA') as unknown })
    expect(check(setOf(by(fleet.intermediate), by(fleet.ca)), { crl: CRL_REQUIRED }).revoked).toBeUndefined()
  })

  test('does not believe a list that its issuer may not sign', () => {
    const ca = (...usages: Parameters<typeof keyUsage>) => issueCertificate({
      subject: fleet.ca.name, issuer: fleet.ca.name, publicKey: createPublicKey(fleet.ca.key), signingKey: fleet.ca.key, notBefore: NOW - DAY, notAfter: NOW + DAY,
      extensions: [basicConstraints(true), keyUsage(...usages)],
    })
    const list = crlSetOf([{ fleet: 'f', crl: read(by(fleet.ca)) }])
    const certificate = (source: Buffer) => {
      const parsed = parseCertificate(source)
      if ('slug' in parsed) throw new Error(parsed.detail)
      return parsed
    }
    expect(list.find('f', certificate(ca('keyCertSign')))).toBeUndefined()
    expect(list.find('f', certificate(ca('keyCertSign', 'cRLSign')))).toBeDefined()
  })

  test('is looked up among 100,000 revoked certificates, and a list of more is refused', () => {
    const serials = Array.from({ length: 100_000 }, (_, i) => ({ serial: Buffer.from([1, i >> 16, (i >> 8) & 0xff, i & 0xff]) }))
    const crl = read(by(fleet.intermediate, { revoked: serials }))
    expect(revokedAt(crl, serials[77_777]!.serial)).toBe(NOW - DAY)
    expect(revokedAt(crl, Buffer.of(2))).toBeUndefined()
    expect(parseCrl(by(fleet.intermediate, { revoked: [...serials, { serial: Buffer.of(7) }] }))).toMatchObject({ slug: 'crl-malformed' })
    expect(parseCrl(Buffer.alloc(4 * 1024 * 1024 + 1))).toMatchObject({ slug: 'crl-malformed' })
  })
})

describe('at the door', () => {
  const verifierWith = (crls: () => CrlSet) => createVerifier({
    registry: { anchors: () => anchors, policy: () => DEFAULT_CHAIN_POLICY, deviceStatus: () => 'active', crls }, chains: createChainVerifier({ cacheSize: 10 }),
  })
  const anchors = [anchor]
  function report(key = device.key): Manifest {
    const manifest = decodeManifest(signReport({ dump: Buffer.from('x'), contentType: 'text/plain', claims: { bootcount: 1, seq: 0 }, key, chain: device.chain }).manifest)
    if ('slug' in manifest) throw new Error(manifest.detail)
    return manifest
  }

  test('a revocation is in effect for a chain that is cached, and is told only to whoever has the key', async () => {
    let crls = setOf(by(fleet.intermediate))
    const verifier = verifierWith(() => crls)
    expect(await verifier.verify(report(), NOW)).toMatchObject({ deviceId: 'demo-0001' })
    crls = setOf(revoking(device.chain[0]!, { number: [2] }))
    expect(await verifier.verify(report(), NOW)).toMatchObject({ slug: 'certificate-revoked' })
    expect(await verifier.verify(report(other.key), NOW)).toMatchObject({ slug: 'signature-bad' })
  })
})

describe('a list is refused', () => {
  const issuingDistributionPoint = (...fields: Buffer[]): Buffer => extensionOf('2.5.29.28', true, der(0x30, ...fields))
  test.each<[string, string, Partial<CrlParts>]>([
    ['crl-unsupported', 'a delta', { extensions: [extensionOf('2.5.29.27', true, der(0x02, Buffer.of(1)))] }],
    ['crl-unsupported', 'an indirect list', { extensions: [issuingDistributionPoint(der(0x84, Buffer.of(0xff)))] }],
    ['crl-unsupported', 'a list of some certificates only', { extensions: [issuingDistributionPoint(der(0x81, Buffer.of(0xff)))] }],
    ['crl-unsupported', 'a delta that is not marked critical', { extensions: [extensionOf('2.5.29.27', false, der(0x02, Buffer.of(1)))] }],
    ['crl-unsupported', 'a scope that is not marked critical', { extensions: [extensionOf('2.5.29.28', false, der(0x30, der(0x81, Buffer.of(0xff))))] }],
    ['crl-unsupported', 'an unknown critical extension', { extensions: [extensionOf('1.2.3.4', true, der(0x05))] }],
    ['crl-unsupported', 'an unknown critical extension of an entry', { revoked: [{ serial: Buffer.of(5), extensions: [extensionOf('1.2.3.4', true, der(0x05))] }] }],
    ['crl-unsupported', "an entry of another CA's certificate", { revoked: [{ serial: Buffer.of(5), extensions: [extensionOf('2.5.29.29', true, der(0x30))] }] }],
    ['crl-unsupported', 'an entry that takes a certificate off', { revoked: [{ serial: Buffer.of(5), extensions: [reasonCode(8)] }] }],
    ['crl-malformed', 'no number', { number: null }],
    ['crl-malformed', 'a negative number', { number: [0x80] }],
    ['crl-malformed', 'no nextUpdate', { nextUpdate: null }],
    ['crl-malformed', 'version 1', { version: Buffer.alloc(0) }],
    ['crl-malformed', 'a serial number listed twice', { revoked: [{ serial: Buffer.of(5) }, { serial: Buffer.of(5) }] }],
    ['crl-malformed', 'an extension given twice', { extensions: [extensionOf('2.5.29.20', false, der(0x02, Buffer.of(1)))] }],
  ])('%s: %s', (slug, _, parts) => {
    expect(parseCrl(by(fleet.intermediate, parts))).toMatchObject({ slug })
  })

  test('or read, whatever its bytes are: the reader ends with a list or a slug of ours', () => {
    const good = revoking(device.chain[0]!, { extensions: [extensionOf('2.5.29.35', false, der(0x30, der(0x80, Buffer.alloc(20, 7))))] })
    fc.assert(fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), fc.uint8Array({ maxLength: 100 }), fc.nat(good.length), (changes, noise, cut) => {
      const copy = Buffer.from(good)
      for (const [at, byte] of changes) copy[at] = byte
      for (const bytes of [copy, Buffer.concat([good.subarray(0, cut), noise]), noise]) {
        const result = parseCrl(bytes)
        if ('slug' in result) expect(OUTCOMES).toHaveProperty([result.slug])
      }
    }), { numRuns: 2000 })
  })

  test('when any bit of it is changed after it was signed', () => {
    const good = revoking(device.chain[0]!)
    for (let bit = 0; bit < good.length * 8; bit++) {
      const copy = Buffer.from(good)
      copy[bit >> 3]! ^= 1 << (bit & 7)
      const crl = parseCrl(copy)
      if (!('slug' in crl)) expect(check(crlSetOf([{ fleet: 'f', crl }]), { crl: { expired: 'flag', missing: 'accept' } }).revoked, `bit ${bit}`).toBeUndefined()
    }
  })
})

describe('the import of a list', () => {
  const lint = (list: Buffer | string, issuer: Buffer[] = [fleet.intermediate.certificate], previous: { number: bigint; thisUpdate: number } | undefined = undefined) => (
    lintCrl(list, { anchors: [anchor], issuer, previous: () => previous, at: NOW })
  )
  const list = revoking(device.chain[0]!, { number: [5] })
  const stranger = createFleet({ devices: 0, now: NOW - DAY }).intermediate

  test('takes what a CA of the fleet signed, in PEM or DER, and names its place', () => {
    const subject = `crl:${hash('sha256', spkiOf(createPublicKey(fleet.intermediate.key)), 'hex')}`
    expect(lint(crlPem(list))).toMatchObject({ subject, crl: { number: 5n, issuerText: 'CN=demo device CA,O=demo' } })
    expect(lint(by(fleet.ca), [])).toMatchObject({ crl: { number: 1n } })
  })

  test.each<[string, string, () => unknown]>([
    ['crl-issuer', 'signed by an issuer that no anchor vouches for', () => lint(by(stranger), [stranger.certificate])],
    ['crl-issuer', 'of an issuer that was not given', () => lint(list, [])],
    ['crl-issuer', 'signed by a device', () => lint(drawCrl({ issuer: nameDer([[AT.commonName, 'demo-0001']]), key: device.key, thisUpdate: NOW }), device.chain)],
    ['crl-older', 'with the number of the one that is there', () => lint(list, undefined, { number: 5n, thisUpdate: NOW - 9 * DAY })],
    ['crl-older', 'with a higher number, made earlier', () => lint(list, undefined, { number: 4n, thisUpdate: NOW })],
    ['crl-malformed', 'from the future', () => lint(by(fleet.intermediate, { thisUpdate: NOW + DAY }))],
    ['crl-malformed', 'two in one file', () => lint(crlPem(list) + crlPem(list))],
    ['crl-malformed', 'none', () => lint('nothing')],
  ])('%s: %s', (slug, _, result) => {
    expect(result()).toMatchObject({ slug })
  })

  test('takes the next list', () => {
    expect(lint(list, undefined, { number: 4n, thisUpdate: NOW - 9 * DAY })).toMatchObject({ crl: { number: 5n } })
  })

  test('takes a list that openssl made', () => {
    const dir = mkdtempSync(join(tmpdir(), 'overrun-crl-'))
    try {
      const serial = serialOf(device.chain[0]!).toString('hex').toUpperCase()
      writeFileSync(join(dir, 'ca.pem'), fleet.intermediate.pem)
      writeFileSync(join(dir, 'key.pem'), fleet.intermediate.keyPem)
      writeFileSync(join(dir, 'index.txt'), `R\t361231235959Z\t261120000000Z,keyCompromise\t${serial}\tunknown\t/CN=demo-0001\n`)
      writeFileSync(join(dir, 'number'), '10\n')
      writeFileSync(join(dir, 'ca.cnf'), `[ca]\ndefault_ca=x\n[x]\ndatabase=${dir}/index.txt\ncrlnumber=${dir}/number\ndefault_md=sha256\ndefault_crl_days=7\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n`)
      execFileSync('openssl', ['ca', '-gencrl', '-config', join(dir, 'ca.cnf'), '-cert', join(dir, 'ca.pem'), '-keyfile', join(dir, 'key.pem'), '-out', join(dir, 'crl.pem')], { stdio: 'pipe' })
      const linted = lintCrl(readFileSync(join(dir, 'crl.pem'), 'utf8'), { anchors: [anchor], issuer: [fleet.intermediate.certificate], previous: () => undefined, at: Date.now() })
      expect(linted).toMatchObject({ crl: { number: 16n } })
      expect('crl' in linted && revokedAt(linted.crl, serialOf(device.chain[0]!))).toBe(Date.UTC(2026, 10, 20))
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
})
