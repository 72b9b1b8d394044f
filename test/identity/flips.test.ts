import { createPublicKey } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { DEFAULT_CHAIN_POLICY, createChainVerifier, lintAnchor, type Anchor } from '../../ingest/chain.ts'
import { createFleet, type Fleet, type FleetDevice } from '../../ingest/device/fleet-init.ts'
import { basicConstraints, extendedKeyUsage, issueCertificate, keyUsage } from '../../ingest/device/issue.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { decodeManifest } from '../../ingest/manifest.ts'
import { createVerifier } from '../../ingest/verify.ts'
import { DUMP, NOW, claimsWith, device, drawManifest, fleet, goodHeader, headerWith } from '../ingest/build-manifest.ts'

/**
 * A good manifest of each algorithm, changed in one bit: every one of them with OVERRUN_FLIPS=all, else every fifth, which
 * comes to every byte and, over the bytes, to each bit of one.
 */
const STEP = process.env.OVERRUN_FLIPS === 'all' ? 1 : 5
const DAY = 24 * 3600 * 1000

function anchorOf(from: Fleet, name: string): Anchor {
  const linted = lintAnchor(from.ca.pem)
  if ('slug' in linted) throw new Error(linted.detail)
  return { ...linted.anchor, fleet: name, keyProtection: 'software' }
}

function judgeUnder(...anchors: Anchor[]): (item: Uint8Array) => Promise<string> {
  const verifier = createVerifier({
    registry: { anchors: () => anchors, policy: () => DEFAULT_CHAIN_POLICY, deviceStatus: () => 'active' }, chains: createChainVerifier({ cacheSize: 10 }),
  })
  return async (item) => {
    const manifest = decodeManifest(item)
    if ('slug' in manifest) return manifest.slug
    const verified = await verifier.verify(manifest, NOW)
    return 'slug' in verified ? verified.slug : `verified for ${verified.fleet}`
  }
}

const report = (by: FleetDevice): Buffer => (
  Buffer.from(signReport({ dump: DUMP, contentType: 'application/x-minidump', claims: { bootcount: 300, seq: 2, swname: 'sensord', svn: 7, process: 'sensord' }, key: by.key, chain: by.chain }).manifest)
)

describe('one bit of a good manifest changed', () => {
  test.each([['ES256', 'p256'], ['ES384', 'p384'], ['EdDSA', 'ed25519']] as const)('is refused, whichever it is (%s)', async (_, keyType) => {
    const signer = createFleet({ devices: 1, keyType, now: NOW })
    const judge = judgeUnder(anchorOf(signer, 'demo'))
    const good = report(signer.devices[0]!)
    expect(await judge(good)).toBe('verified for demo')
    const slugs = new Map<string, number>()
    const accepted: number[] = []
    for (let bit = 0; bit < good.length * 8; bit += STEP) {
      good[bit >> 3]! ^= 1 << (bit & 7)
      const slug = await judge(good)
      good[bit >> 3]! ^= 1 << (bit & 7)
      if (slug.startsWith('verified')) accepted.push(bit)
      slugs.set(slug, (slugs.get(slug) ?? 0) + 1)
    }
    expect(accepted).toEqual([])
    const flips = [...slugs.values()].reduce((sum, count) => sum + count, 0)
    // Every layer had its part in it.
    expect([...slugs.keys()]).toEqual(expect.arrayContaining(['signature-bad', 'certificate-signature', 'unprotected-not-empty'].filter((slug) => STEP === 1 || slug !== 'unprotected-not-empty')))
    expect(flips).toBe(Math.ceil((good.length * 8) / STEP))
    expect(good.length * 8).toBeGreaterThan(7_000)
    console.log(`${keyType}: ${flips} flips refused`)
  }, 300_000)
})

describe('a good manifest wrapped again', () => {
  const other = createFleet({ devices: 1, name: 'other', now: NOW })
  /** The same device key under another fleet's CA, and under another name of its own. */
  const sameKey = (by: Fleet, serial: string): Buffer[] => [issueCertificate({
    subject: [['2.5.4.5', serial]], issuer: by.intermediate.name, publicKey: createPublicKey(device.key), signingKey: by.intermediate.key, notBefore: NOW - DAY, notAfter: NOW + DAY,
    extensions: [basicConstraints(false), keyUsage('digitalSignature'), extendedKeyUsage('1.3.6.1.5.5.7.3.2')],
  }), by.intermediate.certificate]
  const judge = judgeUnder(anchorOf(fleet, 'demo'), anchorOf(other, 'other'))
  const good = decodeManifest(drawManifest())
  const signature = 'slug' in good ? new Uint8Array() : good.signature
  const rewrapped = (chain: Buffer[]): Buffer => drawManifest({ header: headerWith([33, chain]), signature })

  test('by nobody is what it was', async () => {
    expect(await judge(rewrapped(device.chain))).toBe('verified for demo')
  })

  test.each<[string, string, Buffer]>([
    ["with another device's certificate", 'signature-bad', rewrapped(fleet.devices[1]!.chain)],
    ['with another certificate of the same key', 'signature-bad', rewrapped(sameKey(fleet, 'demo-0001'))],
    ["with a certificate of the same key under another fleet's anchor", 'signature-bad', rewrapped(sameKey(other, 'demo-0001'))],
    ['without its intermediate', 'anchor-unknown', rewrapped(device.chain.slice(0, 1))],
    ['as a heartbeat', 'heartbeat-unexpected', drawManifest({ claims: claimsWith([265, 'tag:overrun.example,2026:heartbeat/1']), signature })],
    ['under another profile', 'profile-unknown', drawManifest({ claims: claimsWith([265, 'tag:overrun.example,2026:crash-report/2']), signature })],
    ['with another content type', 'signature-bad', drawManifest({ header: headerWith([259, 'text/plain']), signature })],
    ['under the other name of its algorithm', 'signature-bad', drawManifest({ header: headerWith([1, -9]), signature })],
  ])('%s is refused: %s', async (_, slug, item) => {
    expect(await judge(item)).toBe(slug)
  })

  test("is no report of another fleet's, and nothing where its anchor is not known", async () => {
    expect(await judgeUnder(anchorOf(other, 'other'))(drawManifest({ header: goodHeader() }))).toBe('anchor-unknown')
  })
})
