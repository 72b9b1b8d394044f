import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AT, basicConstraints, der, extendedKeyUsage, issueCertificate, keyUsage, type Issue } from '../../ingest/device/issue.ts'
import { OUTCOMES, statusOf, type Slug } from '../../ingest/outcome.ts'
import { NOW, device, fleet, openDoor, stranger, type Door } from '../ingest/door.ts'
import { forgedBody, int, type Forgery } from '../ingest/forge.ts'

/** Every way to get a 401, each through the real server: nobody learns from the answer how far a forgery got. */
const DAY = 24 * 3600 * 1000
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const by = fleet.intermediate

/** Differ between any two answers; a connection stays open when the body had arrived as a whole. */
const OF_THE_REQUEST: ReadonlySet<string> = new Set(['x-request-id', 'date', 'connection', 'keep-alive'])

/** A device certificate of the fleet, changed in what a case is about. */
const leaf = (change: Partial<Issue> = {}): Buffer => issueCertificate({
  subject: [[AT.serialNumber, 'x-1']], issuer: by.name, publicKey, signingKey: by.key, notBefore: NOW - DAY, notAfter: NOW + DAY,
  extensions: [basicConstraints(false), keyUsage('digitalSignature'), extendedKeyUsage('1.3.6.1.5.5.7.3.2')], ...change,
})
const withLeaf = (change: Partial<Issue>, key: KeyObject = privateKey): Forgery => ({ key, chain: [leaf(change), by.certificate] })
const sub = (change: Partial<Issue> = {}): Buffer => leaf({ subject: [[AT.commonName, 'sub']], extensions: [basicConstraints(true), keyUsage('keyCertSign')], ...change })
const bySub: Partial<Issue> = { issuer: [[AT.commonName, 'sub']], signingKey: privateKey }
const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' })
const ed25519 = generateKeyPairSync('ed25519')

const FORGERIES: Partial<Record<Slug, Forgery>> = {
  'alg-not-allowed': { headers: [[1, int(5)]] },
  'alg-key-mismatch': { ...withLeaf({ publicKey: ed25519.publicKey }), key: device().key },
  'signature-malformed': { signature: () => Buffer.alloc(63) },
  'signature-bad': { key: stranger.key },
  'certificate-malformed': { chain: [device().chain[0]!.subarray(0, -1), by.certificate] },
  'certificate-algorithm': withLeaf({ publicKey: p521.publicKey }),
  'certificate-signature': withLeaf({ signingKey: stranger.key }),
  'certificate-expired': withLeaf({ notBefore: NOW - 90 * DAY, notAfter: NOW - 60 * DAY }),
  'certificate-not-yet-valid': withLeaf({ notBefore: NOW + DAY, notAfter: NOW + 2 * DAY }),
  'certificate-extension': withLeaf({ extensions: [{ oid: '1.2.3.4', critical: true, value: der(0x05) }] }),
  'certificate-not-ca': { key: privateKey, chain: [leaf(bySub), leaf({ subject: [[AT.commonName, 'sub']] }), by.certificate] },
  'certificate-self-issued': withLeaf({ issuer: [[AT.serialNumber, 'x-1']], signingKey: privateKey }),
  'chain-order': withLeaf({ issuer: [[AT.commonName, 'nobody']] }),
  'chain-path-length': { key: privateKey, chain: [leaf(bySub), sub(), by.certificate] },
  'anchor-unknown': { key: stranger.key, chain: stranger.chain },
}

describe('a 401', () => {
  let door: Door
  beforeAll(async () => { door = await openDoor() })
  afterAll(() => door.close())
  const bodies = new Map<string, string>()
  const heads = new Set<string>()
  async function answer(response: Response): Promise<void> {
    expect(response.status).toBe(401)
    bodies.set(`${bodies.size}`, await response.text())
    heads.add(JSON.stringify([...response.headers].filter(([name]) => !OF_THE_REQUEST.has(name))))
  }

  test.each(Object.entries(FORGERIES))('for %s', async (slug, forgery) => {
    await answer(await door.post(forgedBody(forgery)))
    expect(await door.rejected(slug)).toBe(1)
  })

  test('for project-key-disabled, of an upload without a manifest', async () => {
    const form = new FormData()
    form.append('upload_file_minidump', new Blob(['MDMP']), 'x.dmp')
    await answer(await fetch(`${door.url}/submit?key=no-such-key`, { method: 'POST', body: form }))
    expect(await door.rejected('project-key-disabled')).toBe(1)
  })

  test.each([['not-authenticated', {}], ['gateway-unknown', { authorization: `Bearer ${'x'.repeat(43)}` }]])('for %s, of a dump without a manifest', async (slug, headers) => {
    await answer(await door.post(Buffer.from('MDMP'), { 'content-type': 'application/x-minidump', ...headers }))
    expect(await door.rejected(slug)).toBe(1)
  })

  test('is the same bytes and the same headers for all of them', () => {
    expect(bodies.size).toBe(Object.keys(FORGERIES).length + 3)
    expect(new Set(bodies.values()).size).toBe(1)
    expect(heads.size).toBe(1)
    expect([...bodies.values()][0]).not.toMatch(/certificate|anchor|chain|signature|expired|alg/)
  })

  test('has no other reason than these', () => {
    const unauthorized = (Object.keys(OUTCOMES) as Slug[]).filter((slug) => statusOf(slug) === 401)
    expect(unauthorized.toSorted()).toEqual([...Object.keys(FORGERIES), 'project-key-disabled', 'not-authenticated', 'gateway-unknown'].toSorted())
  })
})
