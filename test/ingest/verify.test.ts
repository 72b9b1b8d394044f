import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { DEFAULT_CHAIN_POLICY, createChainVerifier, lintAnchor, type Anchor } from '../../ingest/chain.ts'
import { createFleet, issueDevice, type Fleet, type FleetDevice } from '../../ingest/device/fleet-init.ts'
import { basicConstraints, der, extendedKeyUsage, issueCertificate, keyUsage, type Extension } from '../../ingest/device/issue.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { decodeManifest, type Manifest } from '../../ingest/manifest.ts'
import { createVerifier, type DeviceStatus, type Verified } from '../../ingest/verify.ts'
import { DUMP, NOW, claimsWith, device, drawManifest, fleet, headerWith, sha256, type Parts } from './build-manifest.ts'

const DAY = 24 * 3600 * 1000

function anchorOf(from: Fleet, name = 'demo'): Anchor {
  const linted = lintAnchor(from.ca.pem)
  if ('slug' in linted) throw new Error(linted.detail)
  return { ...linted.anchor, fleet: name, keyProtection: 'software' }
}

function setUp({ anchors = [anchorOf(fleet)], status = () => 'unknown' as const, asked = [] }: { anchors?: Anchor[]; status?: (id: string) => DeviceStatus; asked?: string[] } = {}) {
  const registry = {
    anchors: () => anchors,
    policy: () => DEFAULT_CHAIN_POLICY,
    deviceStatus: (_: string, deviceId: string) => { asked.push(deviceId); return status(deviceId) },
  }
  const verifier = createVerifier({ registry, chains: createChainVerifier({ cacheSize: 10 }) })
  return {
    verify: (item: Uint8Array, at = NOW) => verifier.verify(manifestOf(item), at),
    outcome: async (item: Uint8Array, at = NOW): Promise<string> => {
      const result = decodeManifest(item)
      if ('slug' in result) return result.slug
      const verified = await verifier.verify(result, at)
      return 'slug' in verified ? verified.slug : 'verified'
    },
  }
}

function manifestOf(item: Uint8Array): Manifest {
  const manifest = decodeManifest(item)
  if ('slug' in manifest) throw new Error(manifest.detail)
  return manifest
}

const report = (by: FleetDevice, seq = 0): Uint8Array => signReport({ dump: DUMP, contentType: 'application/x-minidump', claims: { bootcount: 1, seq }, key: by.key, chain: by.chain }).manifest

describe('a manifest that its device signed', () => {
  test('names the device, its key, its issuer and the anchor', async () => {
    const verified = await setUp().verify(drawManifest())
    expect(verified).toMatchObject({
      fleet: 'demo', deviceId: 'demo-0001', issuer: 'CN=demo device CA,O=demo', keyProtection: 'software', flags: [], anchor: sha256(fleet.ca.certificate).toString('hex'),
      claims: { bootcount: 7, seq: 0 },
    })
    expect((verified as Verified).deviceKeyId).toMatch(/^[0-9a-f]{64}$/)
  })

  test.each(['p256', 'p384', 'ed25519'] as const)('verifies with a %s key', async (keyType) => {
    const other = createFleet({ devices: 1, keyType, now: NOW })
    expect(await setUp({ anchors: [anchorOf(other)] }).outcome(report(other.devices[0]!))).toBe('verified')
  })

  test('keeps its device id when its key is renewed', async () => {
    const renewed = issueDevice(fleet.intermediate, 'demo-0001', 'ed25519', NOW - DAY, NOW + DAY)
    const { verify } = setUp()
    const [before, after] = [await verify(drawManifest()) as Verified, await verify(report(renewed)) as Verified]
    expect(after.deviceId).toBe(before.deviceId)
    expect(after.deviceKeyId).not.toBe(before.deviceKeyId)
  })

  test('may name its leaf by hash once the chain has been seen, and only then', async () => {
    const { outcome } = setUp()
    const short = drawManifest({ header: headerWith([33, undefined], [34, [-16, sha256(device.chain[0]!)]]) })
    expect(await outcome(short)).toBe('x5t-unknown')
    expect(await outcome(drawManifest())).toBe('verified')
    expect(await outcome(short)).toBe('verified')
  })
})

describe('a manifest is refused', () => {
  const other = createFleet({ devices: 1, now: NOW, name: 'other' })
  const ed = issueDevice(fleet.intermediate, 'demo-0009', 'ed25519', NOW - DAY, NOW + DAY)
  const cases: [string, string, Parts][] = [
    ['signature-bad', 'signed by another key', { key: fleet.devices[1]!.key }],
    ['signature-bad', 'with another digest', { payload: sha256(Buffer.from('other')), signature: Buffer.alloc(64, 1) }],
    ['signature-bad', 'with r and s of zero', { signature: Buffer.alloc(64) }],
    ['alg-key-mismatch', 'ES256 by an Ed25519 key', { header: headerWith([33, ed.chain]) }],
    ['alg-key-mismatch', 'EdDSA by a P-256 key', { header: headerWith([1, -8]) }],
    ['alg-key-mismatch', 'ES384 by a P-256 key', { header: headerWith([1, -35]), signature: Buffer.alloc(96, 1) }],
    ['anchor-unknown', 'of another fleet', { header: headerWith([33, other.devices[0]!.chain]), key: other.devices[0]!.key }],
  ]
  test.each(cases)('%s: %s', async (slug, _, parts) => {
    expect(await setUp().outcome(drawManifest(parts))).toBe(slug)
  })

  test('when it is wrapped again with another certificate of the same fleet', async () => {
    expect(await setUp().outcome(drawManifest({ header: headerWith([33, fleet.devices[1]!.chain]) }))).toBe('signature-bad')
  })

  test.each([['revoked', 'device-revoked'], ['disabled', 'device-disabled']] as const)('of a %s device: %s', async (status, slug) => {
    expect(await setUp({ status: () => status }).outcome(drawManifest())).toBe(slug)
  })

  test('without asking about the device while the signature is not good', async () => {
    const asked: string[] = []
    const { outcome } = setUp({ status: () => 'revoked', asked })
    expect(await outcome(drawManifest({ key: fleet.devices[1]!.key }))).toBe('signature-bad')
    expect(asked).toEqual([])
    expect(await outcome(drawManifest())).toBe('device-revoked')
    expect(asked).toEqual(['demo-0001'])
  })

  test('at once when its anchor is taken away, though its chain is cached', async () => {
    let anchors: Anchor[] = [anchorOf(fleet)]
    const verifier = createVerifier({
      registry: { anchors: () => anchors, policy: () => DEFAULT_CHAIN_POLICY, deviceStatus: () => 'active' }, chains: createChainVerifier({ cacheSize: 10 }),
    })
    expect(await verifier.verify(manifestOf(drawManifest()), NOW)).toHaveProperty('deviceId')
    anchors = []
    expect(await verifier.verify(manifestOf(drawManifest()), NOW)).toMatchObject({ slug: 'anchor-unknown' })
  })

  const leafWith = (...extensions: Extension[]) => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const leaf = issueCertificate({
      subject: [['2.5.4.5', 'x-1']], issuer: fleet.intermediate.name, publicKey, signingKey: fleet.intermediate.key, notBefore: NOW - DAY, notAfter: NOW + DAY,
      extensions: [basicConstraints(false), ...extensions],
    })
    return (claims?: Map<unknown, unknown>): Buffer => drawManifest({ header: headerWith([33, [leaf, fleet.intermediate.certificate]]), key: privateKey, ...(claims && { claims }) })
  }

  test('certificate-usage: the leaf is for servers, told only after a good signature', async () => {
    const server = leafWith(keyUsage('digitalSignature'), extendedKeyUsage('1.3.6.1.5.5.7.3.1'))
    expect(await setUp().outcome(server())).toBe('certificate-usage')
    expect(await setUp().outcome(drawManifest({ header: headerWith([33, manifestChain(server())]) }))).toBe('signature-bad')
    expect(await setUp().outcome(leafWith(keyUsage('keyAgreement'), extendedKeyUsage('1.3.6.1.5.5.7.3.2'))())).toBe('certificate-usage')
  })

  test('claim-contradicts-certificate: another security version than the TcbInfo proves', async () => {
    const tcb = leafWith(keyUsage('digitalSignature'), extendedKeyUsage('2.23.133.5.4.100.8'), { oid: '2.23.133.5.4.1', critical: true, value: der(0x30, der(0x83, Buffer.of(7))) })
    expect(await setUp().outcome(tcb(claimsWith([-65544, 7])))).toBe('verified')
    expect(await setUp().outcome(tcb(claimsWith([-65544, 8])))).toBe('claim-contradicts-certificate')
    expect(await setUp().verify(tcb())).toMatchObject({ tcb: { svn: 7, fwids: [] }, claims: { svn: 7 } })
  })

  test('the firmware digest of the TcbInfo is the build id of a report that claims none', async () => {
    const digest = Buffer.alloc(32, 0xd1)
    const fwid = der(0x30, Buffer.concat([der(0x06, Buffer.from('608648016503040201', 'hex')), der(0x04, digest)]))
    const measured = leafWith(keyUsage('digitalSignature'), extendedKeyUsage('2.23.133.5.4.100.8'), { oid: '2.23.133.5.4.1', critical: true, value: der(0x30, der(0xa6, fwid)) })
    expect(await setUp().verify(measured())).toMatchObject({ claims: { buildId: digest.toString('hex') } })
    expect(await setUp().verify(measured(claimsWith([-65539, Buffer.from('abcd', 'hex')])))).toMatchObject({ claims: { buildId: 'abcd' } })
  })

  test('claim-contradicts-certificate: another UEID than the certificate names', async () => {
    const named = leafWith(keyUsage('digitalSignature'), extendedKeyUsage('1.3.6.1.5.5.7.3.2'), { oid: '2.23.133.5.4.4', critical: false, value: der(0x30, der(0x04, Buffer.alloc(8, 1))) })
    expect(await setUp().outcome(named(claimsWith([256, Buffer.alloc(8, 1)])))).toBe('verified')
    expect(await setUp().outcome(named(claimsWith([256, Buffer.alloc(8, 2)])))).toBe('claim-contradicts-certificate')
  })
})

function manifestChain(item: Uint8Array): Uint8Array[] {
  const { chain } = manifestOf(item)
  return 'x5chain' in chain ? chain.x5chain : []
}
