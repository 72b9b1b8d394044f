import { createHash, randomBytes, sign } from 'node:crypto'
import * as fc from 'fast-check'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { OUTCOMES, type Slug } from '../../ingest/outcome.ts'
import { bodyOf, device, fleet, dial, FLEET, headOf, manifestOf, openDoor, serialOf, stranger, type Door } from './door.ts'
import { bstr, forge, forgedBody, head, int, list, sorted, table, tstr, type Forgery } from './forge.ts'

let door: Door
beforeAll(async () => { door = await openDoor({ limits: { dumpBytes: 1024 * 1024, idleMs: 150 }, quotas: { addressFailureBurst: 10_000, sourceFailureBurst: 10_000 } }) })
afterAll(() => door.close())
afterEach(() => { door.snapshot.fleets[FLEET]!.devices = {} })

const dumpBytes = Buffer.from('dump')
const claims = (...changes: NonNullable<Forgery['claims']>): Forgery => ({ claims: changes })
const headers = (...changes: NonNullable<Forgery['headers']>): Forgery => ({ headers: changes })
const nested = (depth: number): Buffer => (depth === 0 ? int(0) : list(nested(depth - 1)))
const deepMap = table([int(1), nested(8)])

/** One way into each refusal that a body alone can bring about. */
const REFUSED: [Slug, string, () => Buffer][] = [
  ['manifest-shape', 'no tag 18', () => Buffer.concat([forge().subarray(1), bstr(dumpBytes)])],
  ['manifest-shape', 'another tag', () => Buffer.concat([Buffer.of(0xd1), forge().subarray(1), bstr(dumpBytes)])],
  ['manifest-truncated', 'the body ends inside', () => forge().subarray(0, 100)],
  ['manifest-truncated', 'an empty body', () => Buffer.alloc(0)],
  ['manifest-too-large', 'a header of 9 KiB', () => forgedBody(claims([10, bstr(randomBytes(9000))]))],
  ['cbor-indefinite', 'an indefinite array of certificates', () => forgedBody(headers([33, Buffer.concat([Buffer.of(0x9f), ...device().chain.map((der) => bstr(der)), Buffer.of(0xff)])]))],
  ['cbor-not-shortest', 'a bootcount in two bytes', () => forgedBody(claims([267, Buffer.of(0x18, 1)]))],
  ['cbor-key-order', 'headers out of order', () => forgedBody({ headerMap: (pairs) => table(...pairs.toReversed()) })],
  ['cbor-duplicate-key', 'a claim twice', () => forgedBody({ claimsMap: (pairs) => sorted([...pairs, pairs[0]!]) })],
  ['cbor-too-deep', 'nine levels', () => forgedBody(claims([-65545, deepMap]))],
  ['cbor-too-many', 'an array of 33', () => forgedBody(claims([270, list(...Array.from({ length: 33 }, () => int(0)))]))],
  ['cbor-text-too-long', 'a name of 257 bytes', () => forgedBody(claims([270, tstr('x'.repeat(257))]))],
  ['cbor-malformed', 'a reserved head', () => forgedBody(claims([267, Buffer.of(0x1c)]))],
  ['header-unknown', 'crit', () => forgedBody(headers([2, list(int(1))]))],
  ['header-missing', 'no claims', () => forgedBody(headers([15, null]))],
  ['unprotected-not-empty', 'a kid', () => forgedBody({ unprotected: table([int(4), bstr(Buffer.of(1))]) })],
  ['payload-invalid', '31 bytes', () => forgedBody({ payload: bstr(Buffer.alloc(31)) })],
  ['payload-hash-unsupported', 'SHA-512', () => forgedBody(headers([258, int(-44)]))],
  ['preimage-type-unsupported', 'a PNG', () => forgedBody(headers([259, tstr('image/png')]))],
  ['profile-unknown', 'another profile', () => forgedBody(claims([265, tstr('tag:overrun.example,2026:crash-report/2')]))],
  ['heartbeat-unexpected', 'a heartbeat', () => forgedBody(claims([265, tstr('tag:overrun.example,2026:heartbeat/1')]))],
  ['claim-missing', 'no bootcount', () => forgedBody(claims([267, null]))],
  ['claim-unknown', 'claim 999', () => forgedBody(claims([999, int(1)]))],
  ['claim-invalid', 'a layer that is none', () => forgedBody(claims([-65543, tstr('userland')]))],
  ['chain-malformed', 'four certificates', () => forgedBody(headers([33, list(...[0, 1, 2, 3].map(() => bstr(Buffer.alloc(200))))]))],
  ['x5t-unknown', 'a leaf that was never seen', () => forgedBody(headers([33, null], [34, list(int(-16), bstr(randomBytes(32)))]))],
  ['alg-not-allowed', 'HMAC', () => forgedBody(headers([1, int(5)]))],
  ['alg-key-mismatch', 'EdDSA with a P-256 key', () => forgedBody(headers([1, int(-8)]))],
  ['signature-malformed', '63 bytes', () => forgedBody({ signature: () => Buffer.alloc(63) })],
  ['signature-bad', 'signed by another key', () => forgedBody({ key: stranger.key })],
  ['signature-bad', 'of another dump', () => Buffer.concat([forge({ signature: () => sign('sha256', dumpBytes, { key: device().key, dsaEncoding: 'ieee-p1363' }) }), bstr(dumpBytes)])],
  ['certificate-malformed', 'noise as leaf', () => forgedBody({ chain: [randomBytes(300), device().chain[1]!] })],
  ['anchor-unknown', "a stranger's chain", () => forgedBody({ key: stranger.key, chain: stranger.chain })],
  ['chain-order', "a stranger's intermediate", () => forgedBody({ chain: [device().chain[0]!, stranger.chain[1]!] })],
  ['certificate-is-ca', 'the intermediate as leaf', () => forgedBody({ chain: [device().chain[1]!], key: fleet.intermediate.key })],
  ['body-malformed', 'item 2 is text', () => Buffer.concat([forge(), tstr('dump')])],
  ['body-malformed', 'an indefinite byte string', () => Buffer.concat([forge(), Buffer.of(0x5f), bstr(dumpBytes), Buffer.of(0xff)])],
  ['body-malformed', 'a length that is not in its shortest form', () => Buffer.concat([forge(), Buffer.of(0x58, 4), dumpBytes])],
  ['body-truncated', 'no item 2', () => forge()],
  ['body-truncated', 'half a dump', () => forgedBody().subarray(0, -2)],
  ['trailing-bytes', 'one byte too many', () => Buffer.concat([forgedBody(), Buffer.of(0)])],
  ['size-mismatch', 'item 2 is longer than the claim', () => Buffer.concat([forge(), bstr(Buffer.from('dumps'))])],
  ['size-mismatch', 'the claim is longer than item 2', () => Buffer.concat([forge(claims([-65538, int(5)])), bstr(dumpBytes)])],
  ['digest-mismatch', 'another dump of equal size', () => Buffer.concat([forge(), bstr(Buffer.from('pump'))])],
  ['too-large', 'a claim above the limit', () => Buffer.concat([forge(claims([-65538, int(1024 * 1024 + 1)])), head(2, 1024 * 1024 + 1)])],
]

test.each(REFUSED)('%s: %s', async (slug, _, body) => {
  const [answers, logged] = [await door.rejected(slug), (await door.accepted()).length]
  const response = await door.post(body())
  expect(response.status).toBe(OUTCOMES[slug].status)
  expect(response.headers.get('content-type')).toContain('application/problem+json')
  const problem = await response.json() as { type: string }
  expect(problem.type).toBe(`tag:overrun.example,2026:problem/${OUTCOMES[slug].status === 401 ? 'unauthorized' : slug}`)
  expect(await door.rejected(slug)).toBe(answers + 1)
  expect((await door.accepted()).length).toBe(logged)
})

test('the forged manifest that is not wrong is accepted', async () => {
  expect((await door.post(forgedBody())).status).toBe(202)
})

test.each(['revoked', 'disabled'] as const)('a %s device is told so, after its signature is good', async (status) => {
  door.snapshot.fleets[FLEET]!.devices = { [serialOf(2)]: { status, reason: 'test' } }
  await door.registry.refresh()
  const response = await door.post(bodyOf(dumpBytes, {}, device(2)))
  expect(response.status).toBe(403)
  expect(((await response.json()) as { type: string }).type).toContain(`device-${status}`)
  const forged = await door.post(forgedBody({ key: stranger.key, chain: device(2).chain }))
  expect(forged.status).toBe(401)
  door.snapshot.fleets[FLEET]!.devices = {}
  await door.registry.refresh()
})

test('length-missing: a chunked body', async () => {
  const { say, answer } = dial(door.port)
  await say('POST /v1/crashes HTTP/1.1\r\nHost: test\r\nContent-Type: application/cbor-seq\r\nTransfer-Encoding: chunked\r\n\r\n')
  expect(await answer).toMatch(/^HTTP\/1\.1 411 [^]*problem\/length-missing/)
})

test('too-large: by Content-Length, before a byte of the body', async () => {
  const { say, answer } = dial(door.port)
  await say(headOf(1024 * 1024 + 8192 + 10))
  expect(await answer).toMatch(/^HTTP\/1\.1 413 [^]*problem\/too-large/)
})

test('content-type-unsupported and content-encoding-refused', async () => {
  expect((await door.post(bodyOf(dumpBytes), { 'content-type': 'application/cbor' })).status).toBe(415)
  const response = await door.post(bodyOf(dumpBytes), { 'content-encoding': 'gzip' })
  expect(response.status).toBe(415)
  expect(await response.text()).toContain('problem/content-encoding-refused')
})

test('body-timeout: a sender who falls silent, in the manifest or in the dump', async () => {
  const body = bodyOf(randomBytes(5000), { bootcount: 77 })
  for (const sent of [10, 4000]) {
    const { say, answer } = dial(door.port)
    await say(headOf(body.length))
    await say(body.subarray(0, sent))
    expect(await answer).toMatch(/^HTTP\/1\.1 408 [^]*problem\/body-timeout/)
  }
})

test('body-truncated: a sender who hangs up leaves nothing behind', async () => {
  const before = await door.rejected('body-truncated')
  const body = bodyOf(randomBytes(600_000), { bootcount: 78 })
  const { socket, say } = dial(door.port)
  await say(headOf(body.length))
  await say(body.subarray(0, 500_000))
  socket.destroy()
  await expect.poll(() => door.rejected('body-truncated')).toBe(before + 1)
  expect(await door.blobKeys()).toEqual([])
})

test('a body split at every interesting byte is the same crash', async () => {
  const dump = randomBytes(300)
  const manifest = manifestOf(dump, { bootcount: 79 })
  const end = manifest.length
  const body = Buffer.concat([manifest, bstr(dump)])
  const cuts = [1, 2, 3, 4, 5, 6, end - 65, end - 64, end - 1, end, end + 1, end + 2, end + 3, end + 4, body.length - 1]
  const ids = new Set<string>()
  for (const cut of cuts) {
    const { say, answer } = dial(door.port)
    await say(headOf(body.length, 'Connection: close\r\n'))
    await new Promise((resolve) => setTimeout(resolve, 2))
    await say(body.subarray(0, cut))
    await new Promise((resolve) => setTimeout(resolve, 2))
    await say(body.subarray(cut))
    const text = await answer
    expect(text).toMatch(/^HTTP\/1\.1 20[02] /)
    ids.add(/"id":"([0-9a-f]{32})"/.exec(text)![1]!)
  }
  expect(ids.size).toBe(1)
})

test('a body that comes byte by byte is accepted', async () => {
  const body = bodyOf(Buffer.from('drip'), { bootcount: 80 })
  const { say, answer } = dial(door.port)
  await say(headOf(body.length, 'Connection: close\r\n'))
  for (const byte of body) await say(Buffer.of(byte))
  expect(await answer).toMatch(/^HTTP\/1\.1 202 /)
})

test.each([0, 1, 23, 24, 255, 256, 65_535, 65_536, 262_144, 262_145, 1024 * 1024])('a dump of %i bytes arrives byte for byte', async (size) => {
  const dump = randomBytes(size)
  const response = await door.post(bodyOf(dump, { bootcount: 100, seq: size }))
  expect(response.status).toBe(202)
  const { id, status, auth_level } = await response.json() as Record<string, string>
  expect({ status, auth_level }).toEqual({ status: 'queued', auth_level: 'payload-signed' })
  const crash = (await door.accepted()).find((each) => each.id === id)!
  expect(crash.size).toBe(size)
  expect(crash.digest).toBe(createHash('sha256').update(dump).digest('hex'))
  if (size > 262_144) expect('blob' in crash.dump && crash.dump.blob).toContain(`dumps/${id}`)
  const kept = 'blob' in crash.dump ? await door.blobs.get(crash.dump.blob) : crash.dump.bytes
  expect(Buffer.compare(dump, kept!)).toBe(0)
})

test('a large dump that is durable already is read to its end, and no blob is made of it', async () => {
  const body = bodyOf(randomBytes(900_000), { bootcount: 107 })
  expect((await door.post(body)).status).toBe(202)
  const before = await door.blobKeys()
  const again = dial(door.port)
  await again.say(headOf(body.length, 'Connection: close\r\n'))
  await again.say(body)
  expect(await again.answer).toMatch(/^HTTP\/1\.1 200 /)
  expect(await door.blobKeys()).toEqual(before)
})

test('whatever is changed in a body, the answer is a refusal with a slug or the crash itself', async () => {
  const body = bodyOf(dumpBytes, { bootcount: 108 })
  const byte = fc.nat({ max: 255 })
  const change = fc.oneof(
    fc.record({ at: fc.nat({ max: body.length - 1 }), byte }).map(({ at, byte }) => { const changed = Buffer.from(body); changed[at] = byte; return changed }),
    fc.nat({ max: body.length }).map((end) => body.subarray(0, end)),
    fc.record({ at: fc.nat({ max: body.length }), bytes: fc.uint8Array({ maxLength: 20 }) }).map(({ at, bytes }) => Buffer.concat([body.subarray(0, at), bytes, body.subarray(at)])),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  )
  await fc.assert(fc.asyncProperty(change, async (changed) => {
    const response = await door.post(changed)
    if (response.ok) return changed.equals(body)
    const { type } = await response.json() as { type: string }
    const slug = type.split('/').at(-1)!
    return response.status < 500 && (slug === 'unauthorized' || slug in OUTCOMES)
  }), { numRuns: 300 })
})

test('a large dump with a wrong digest leaves no blob behind', async () => {
  const before = await door.blobKeys()
  const dump = randomBytes(400_000)
  const body = Buffer.concat([manifestOf(dump, { bootcount: 101 }), bstr(randomBytes(400_000))])
  const response = await door.post(body)
  expect(response.status).toBe(400)
  expect(await response.text()).toContain('digest-mismatch')
  expect(await door.blobKeys()).toEqual(before)
})

test('once its chain has been seen a device may send the hash of its leaf alone', async () => {
  await door.post(bodyOf(dumpBytes, { bootcount: 102 }))
  const leaf = createHash('sha256').update(device().chain[0]!).digest()
  const response = await door.post(forgedBody({ headers: [[33, null], [34, list(int(-16), bstr(leaf))]], claims: [[267, int(103)]] }))
  expect(response.status).toBe(202)
})

test('Crash-Manifest is judged before the body, and a good one lets the sender go on', async () => {
  const dump = randomBytes(100)
  const manifest = manifestOf(dump, { bootcount: 104 })
  const field = (item: Buffer) => `Crash-Manifest: :${item.toString('base64')}:\r\nExpect: 100-continue\r\n`
  const length = manifest.length + bstr(dump).length

  const refused = dial(door.port)
  await refused.say(headOf(length, field(forge({ key: stranger.key }))))
  expect(await refused.answer).toMatch(/^HTTP\/1\.1 401 /)

  const good = dial(door.port)
  await good.say(headOf(length, `${field(manifest)}Connection: close\r\n`))
  expect(await good.firstLine()).toBe('HTTP/1.1 100 Continue')
  await good.say(Buffer.concat([manifest, bstr(dump)]))
  expect(await good.answer).toMatch(/\r\n\r\nHTTP\/1\.1 202 /)

  const other = dial(door.port)
  await other.say(headOf(length, field(manifest)))
  expect(await other.firstLine()).toBe('HTTP/1.1 100 Continue')
  await other.say(Buffer.concat([manifestOf(dump, { bootcount: 105 }), bstr(dump)]))
  expect(await other.answer).toMatch(/header-mismatch/)
})

test('Expect: 100-continue without the manifest is answered after type and length', async () => {
  const body = bodyOf(dumpBytes, { bootcount: 106 })
  const { say, answer, firstLine } = dial(door.port)
  await say(headOf(body.length, 'Expect: 100-continue\r\nConnection: close\r\n'))
  expect(await firstLine()).toBe('HTTP/1.1 100 Continue')
  await say(body)
  expect(await answer).toMatch(/HTTP\/1\.1 202 /)
})

