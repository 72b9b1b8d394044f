import { encode } from 'cborg'
import { describe, expect, test } from 'vitest'
import { decodeManifest, scanManifest, type Manifest } from '../../ingest/manifest.ts'
import type { Slug } from '../../ingest/outcome.ts'
import { DUMP, PROFILE, claimsWith, cborMap, device, drawManifest, goodHeader, head, headerWith, sha256, type Parts } from './build-manifest.ts'

function decoded(parts: Parts = {}): Manifest {
  const manifest = decodeManifest(drawManifest(parts))
  if ('slug' in manifest) throw new Error(`${manifest.slug}: ${manifest.detail}`)
  return manifest
}

const slugOf = (item: Uint8Array): string => {
  const result = decodeManifest(item)
  return 'slug' in result ? result.slug : 'accepted'
}

describe('a manifest that is right', () => {
  test('decodes to its claims, chain, digest and signature', () => {
    const item = drawManifest()
    const manifest = decodeManifest(item)
    expect(manifest).toMatchObject({
      profile: 'crash-report', alg: 'ES256', contentType: 'application/x-minidump', claims: { bootcount: 7, seq: 0, size: DUMP.length },
      digest: new Uint8Array(sha256(DUMP)), chain: { x5chain: device.chain.map((der) => new Uint8Array(der)) },
    })
    expect(Buffer.from((manifest as Manifest).item).equals(item)).toBe(true)
  })

  test('gives every claim of the profile in the form of the contract', () => {
    const claims = claimsWith(
      [6, 1_790_000_000], [10, Buffer.alloc(8, 1)], [256, Buffer.alloc(7, 2)], [259, Buffer.from('TH-200')], [261, 3600], [263, 3], [268, Buffer.alloc(16, 3)],
      [270, 'thermostat'], [271, ['4.2.1', 1]], [-65539, Buffer.from('abcd', 'hex')], [-65540, 'zstd'], [-65541, 'watchdog'], [-65542, 'httpd'], [-65543, 'app'],
      [-65544, 9], [-65545, new Map<unknown, unknown>([[1, 'httpd'], [2, 15], [3, Buffer.from([192, 0, 2, 7])], [4, 443]])], [-65546, Buffer.from('beef', 'hex')])
    const manifest = decoded({ claims })
    expect(manifest.claims).toEqual({
      bootcount: 7, seq: 0, size: DUMP.length, iat: 1_790_000_000, hwmodel: 'TH-200', uptimeSeconds: 3600, dbgstat: 3, swname: 'thermostat', swversion: '4.2.1',
      buildId: 'abcd', encoding: 'zstd', resetReason: 'watchdog', compartment: 'httpd', layer: 'app', svn: 9, process: 'httpd', lastInputAgeMs: 15, peer: '192.0.2.7',
      listenerPort: 443, fingerprint: 'beef',
    })
    expect(manifest.ueid).toEqual(new Uint8Array(7).fill(2))
  })

  test.each([
    ['an IPv6 peer as RFC 5952 writes it', Buffer.from('20010db8000000000000000000000001', 'hex'), '2001:db8::1'],
    ['a salted hash of a peer as hex', Buffer.alloc(8, 0xab), 'h:abababababababab'],
  ])('shows %s', (_, bytes, text) => {
    expect(decoded({ claims: claimsWith([-65545, new Map([[3, bytes]])]) }).claims.peer).toBe(text)
  })

  test('shows a hwmodel that is no text as hex', () => {
    expect(decoded({ claims: claimsWith([259, Buffer.from([0, 255])]) }).claims.hwmodel).toBe('00ff')
  })

  test('may give iat with a fraction', () => {
    expect(decoded({ claims: claimsWith([6, 1_790_000_000.5]) }).claims.iat).toBe(1_790_000_000.5)
  })

  test.each([[-7, 'ES256', 64], [-9, 'ES256', 64], [-8, 'EdDSA', 64], [-19, 'EdDSA', 64], [-35, 'ES384', 96], [-51, 'ES384', 96]])('may name algorithm %i (%s)', (id, alg, bytes) => {
    expect(decoded({ header: headerWith([1, id]), signature: Buffer.alloc(bytes, 1) }).alg).toBe(alg)
  })

  test('may name a leaf by its SHA-256', () => {
    expect(decoded({ header: headerWith([33, undefined], [34, [-16, sha256(device.chain[0]!)]]) }).chain).toEqual({ x5t: new Uint8Array(sha256(device.chain[0]!)) })
  })

  test('may carry one certificate without an array', () => {
    expect(decoded({ header: headerWith([33, device.chain[0]]) }).chain).toEqual({ x5chain: [new Uint8Array(device.chain[0]!)] })
  })
})

/** The good header as encoded bytes with something put in the place of the claims. */
const headerAround = (claims: Buffer): Buffer => {
  const pairs: [Buffer, Buffer][] = [[head(0, 15), claims], ...[...goodHeader()].map(([k, v]): [Buffer, Buffer] => [Buffer.from(encode(k)), Buffer.from(encode(v))])]
  pairs.sort(([a], [b]) => Buffer.compare(a, b))
  return Buffer.concat([head(5, pairs.length), ...pairs.flat()])
}
const good = drawManifest()
const prefix = (item: Buffer, at: number): Buffer => Buffer.concat([Buffer.from([0xd2, 0x84]), item.subarray(at)])
const raw = (...bytes: number[]): Parts => ({ protectedBytes: Buffer.from(bytes) })
const nested = (depth: number): unknown => (depth === 0 ? 0 : [nested(depth - 1)])

describe('each refusal has its slug', () => {
  const cases: [Slug, string, Buffer][] = [
    ['manifest-shape', 'empty map in place of the tag', Buffer.from([0xa0])],
    ['manifest-shape', 'tag 18 around an array of 3', Buffer.from([0xd2, 0x83, 0x40, 0xa0, 0x40])],
    ['manifest-shape', 'a protected header that is a map', Buffer.from([0xd2, 0x84, 0xa0, 0xa0, 0x40, 0x40])],
    ['manifest-shape', 'bytes after the manifest', Buffer.concat([good, Buffer.from([0])])],
    ['manifest-shape', 'a protected header that holds a number', drawManifest(raw(0x01))],
    ['manifest-truncated', 'a manifest cut in the middle', good.subarray(0, 300)],
    ['manifest-truncated', 'nothing', Buffer.alloc(0)],
    ['manifest-too-large', 'a byte string of 9,000', drawManifest({ protectedBytes: Buffer.alloc(9000) })],
    ['manifest-too-large', 'a byte string that claims 4 GiB', Buffer.from([0xd2, 0x84, 0x5a, 0xff, 0xff, 0xff, 0xff])],
    ['manifest-too-large', 'a byte string that claims 2^64 - 1', Buffer.from([0xd2, 0x84, 0x5b, 255, 255, 255, 255, 255, 255, 255, 255])],
    ['cbor-malformed', 'a reserved head', drawManifest(raw(0x1c))],
    ['cbor-malformed', 'a tag inside', drawManifest(raw(0xc0, 0x00))],
    ['cbor-malformed', 'undefined', drawManifest(raw(0xf7))],
    ['cbor-malformed', 'text that is not UTF-8', drawManifest(raw(0x61, 0xff))],
    ['cbor-malformed', 'a protected header that ends inside its map', drawManifest(raw(0xa1, 0x01))],
    ['cbor-malformed', 'a protected header with a second item', drawManifest(raw(0xa0, 0xa0))],
    ['cbor-indefinite', 'an indefinite map', drawManifest(raw(0xbf, 0xff))],
    ['cbor-indefinite', 'an indefinite protected byte string', Buffer.from([0xd2, 0x84, 0x5f, 0x40, 0xff, 0xa0, 0x40, 0x40])],
    ['cbor-not-shortest', '10 in two bytes', drawManifest(raw(0x18, 0x0a))],
    ['cbor-not-shortest', '200 in three bytes', drawManifest(raw(0x19, 0x00, 0xc8))],
    ['cbor-not-shortest', '70000 in nine bytes', drawManifest(raw(0x1b, 0, 0, 0, 0, 0, 1, 0x11, 0x70))],
    ['cbor-not-shortest', '1.5 as a double', drawManifest(raw(0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0))],
    ['cbor-not-shortest', '1.0 in place of 1', drawManifest(raw(0xf9, 0x3c, 0x00))],
    ['cbor-key-order', 'keys 2, 1', drawManifest(raw(0xa2, 0x02, 0x00, 0x01, 0x00))],
    ['cbor-duplicate-key', 'key 1 twice', drawManifest(raw(0xa2, 0x01, 0x00, 0x01, 0x00))],
    ['cbor-too-deep', 'nine arrays', drawManifest({ protectedBytes: Buffer.from(encode(nested(9))) })],
    ['cbor-too-deep', '42 arrays cut off', drawManifest({ protectedBytes: Buffer.alloc(42, 0x81) })],
    ['cbor-too-many', '33 claims', drawManifest({ protectedBytes: headerAround(cborMap(Array.from({ length: 33 }, (_, i) => [i, 0] as const))) })],
    ['cbor-too-many', 'an array that claims 2^32 entries', drawManifest(raw(0x9a, 255, 255, 255, 255))],
    ['cbor-text-too-long', 'text of 257 bytes', drawManifest({ claims: claimsWith([270, 'x'.repeat(257)]) })],
    ['unprotected-not-empty', 'a kid in the unprotected map', drawManifest({ unprotected: Buffer.from([0xa1, 0x04, 0x41, 0x31]) })],
    ['payload-invalid', 'no payload', drawManifest({ payload: null, signature: Buffer.alloc(64) })],
    ['payload-invalid', 'a payload of 31 bytes', drawManifest({ payload: Buffer.alloc(31) })],
    ['manifest-shape', 'a signature that is a number', Buffer.concat([good.subarray(0, good.length - 66), Buffer.from([0x00])])],
    ['signature-malformed', 'a signature of 63 bytes', drawManifest({ signature: Buffer.alloc(63) })],
    ['header-unknown', 'crit', drawManifest({ header: headerWith([2, [1]]) })],
    ['header-unknown', 'content type 3', drawManifest({ header: headerWith([3, 'text/plain']) })],
    ['header-unknown', 'a text label', drawManifest({ header: headerWith(['alg', -7]) })],
    ['header-missing', 'no alg', drawManifest({ header: headerWith([1, undefined]) })],
    ['header-missing', 'no chain', drawManifest({ header: headerWith([33, undefined]) })],
    ['header-missing', 'no claims', drawManifest({ protectedBytes: cborMap(goodHeader()) })],
    ['alg-not-allowed', 'HS256', drawManifest({ header: headerWith([1, 5]) })],
    ['alg-not-allowed', 'PS256', drawManifest({ header: headerWith([1, -37]) })],
    ['payload-hash-unsupported', 'SHA-512', drawManifest({ header: headerWith([258, -44]) })],
    ['preimage-type-unsupported', 'a zip', drawManifest({ header: headerWith([259, 'application/zip']) })],
    ['chain-malformed', 'an empty chain', drawManifest({ header: headerWith([33, []]) })],
    ['chain-malformed', 'four certificates', drawManifest({ header: headerWith([33, Array(4).fill(device.chain[0])]) })],
    ['chain-malformed', '4,097 bytes of certificates', drawManifest({ header: headerWith([33, [Buffer.alloc(2048), Buffer.alloc(2049)]]) })],
    ['chain-malformed', 'text as certificate', drawManifest({ header: headerWith([33, 'leaf']) })],
    ['chain-malformed', 'x5chain and x5t', drawManifest({ header: headerWith([34, [-16, Buffer.alloc(32)]]) })],
    ['chain-malformed', 'x5t with SHA-1', drawManifest({ header: headerWith([33, undefined], [34, [-14, Buffer.alloc(20)]]) })],
    ['profile-unknown', 'another profile', drawManifest({ claims: claimsWith([265, `${PROFILE}0`]) })],
    ['heartbeat-unexpected', 'a heartbeat', drawManifest({ claims: claimsWith([265, 'tag:overrun.example,2026:heartbeat/1']) })],
    ['claim-missing', 'no profile', drawManifest({ claims: claimsWith([265, undefined]) })],
    ['claim-missing', 'no bootcount', drawManifest({ claims: claimsWith([267, undefined]) })],
    ['claim-missing', 'no seq', drawManifest({ claims: claimsWith([-65537, undefined]) })],
    ['claim-missing', 'no size', drawManifest({ claims: claimsWith([-65538, undefined]) })],
    ['claim-unknown', 'an issuer claim', drawManifest({ claims: claimsWith([1, 'me']) })],
    ['claim-unknown', 'an unknown key in the context', drawManifest({ claims: claimsWith([-65545, new Map([[9, 1]])]) })],
    ['claim-invalid', 'claims that are no map', drawManifest({ header: headerWith([15, 1]) })],
    ['claim-invalid', 'a profile in bytes', drawManifest({ claims: claimsWith([265, Buffer.from(PROFILE)]) })],
  ]
  test.each(cases)('%s: %s', (slug, _, item) => {
    expect(slugOf(item)).toBe(slug)
  })

  test.each<[string, unknown, unknown]>([
    ['a negative bootcount', 267, -1], ['a bootcount beyond 2^53', 267, 2n ** 60n], ['a bootcount as text', 267, '7'], ['a fraction as seq', -65537, 0.5],
    ['a size in bytes', -65538, Buffer.of(1)], ['iat before 1970', 6, -1], ['iat in ms beyond year 9999', 6, 1e15], ['uptime as text', 261, '1'], ['dbgstat 5', 263, 5],
    ['an empty swname', 270, ''], ['swversion as plain text', 271, '1.2'], ['swversion without a version', 271, []], ['swversion with three parts', 271, ['1', 1, 1]],
    ['an empty build id', -65539, Buffer.alloc(0)], ['a build id of 65 bytes', -65539, Buffer.alloc(65)], ['encoding br', -65540, 'br'], ['reset reason 3', -65541, 3],
    ['compartment as bytes', -65542, Buffer.of(1)], ['layer ring0', -65543, 'ring0'], ['svn -1', -65544, -1], ['context as array', -65545, []],
    ['peer of 3 bytes', -65545, new Map([[3, Buffer.alloc(3)]])], ['port 65536', -65545, new Map([[4, 65_536]])], ['fingerprint of 33 bytes', -65546, Buffer.alloc(33)],
    ['ueid of 6 bytes', 256, Buffer.alloc(6)], ['nonce of 7 bytes', 10, Buffer.alloc(7)], ['an empty bootseed', 268, Buffer.alloc(0)], ['an empty hwmodel', 259, Buffer.alloc(0)],
  ])('claim-invalid: %s', (_, label, value) => {
    expect(slugOf(drawManifest({ claims: claimsWith([label, value]) }))).toBe('claim-invalid')
  })
})

describe('the scanner on a stream', () => {
  test('says incomplete on every prefix and the end on the whole, whatever follows', () => {
    for (let length = 0; length < good.length; length++) expect(scanManifest(good.subarray(0, length))).toEqual({ kind: 'incomplete' })
    expect(scanManifest(Buffer.concat([good, Buffer.from([0xff, 0x00])]))).toEqual({ kind: 'complete', end: good.length })
  })

  test('refuses what is no manifest at the byte that shows it', () => {
    expect(scanManifest(Buffer.from('P'))).toMatchObject({ slug: 'manifest-shape' })
    expect(scanManifest(prefix(Buffer.from([0, 0, 0x00]), 2))).toMatchObject({ slug: 'manifest-shape' })
  })

  test('never repeats a sender\'s text in a refusal', () => {
    const refusal = decodeManifest(drawManifest({ header: headerWith(['<script>', 1]) }))
    expect(JSON.stringify(refusal)).not.toContain('script')
  })
})
