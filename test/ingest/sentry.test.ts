import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { FLEET, openDoor, snapshotOf, type Door } from './door.ts'

let door: Door
beforeAll(async () => {
  door = await openDoor({ limits: { dumpBytes: 600_000, inflatedBytes: 1_000_000 }, quotas: { addressFailureBurst: 10_000, sourceFailureBurst: 10_000, uploadBurst: 10_000 } })
})
afterAll(() => door.close())
afterEach(async () => {
  Object.assign(door.snapshot, snapshotOf())
  await door.registry.refresh()
})

const KEY = '?sentry_key=thermostats-key'
const newest = async () => (await door.accepted()).at(-1)!
type Item = [header: object, payload: Uint8Array | string]

const envelopeOf = (...items: Item[]): Buffer => Buffer.concat([
  Buffer.from('{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc","dsn":"https://e12d836b15bb49d7bbf99e64295d995b:@example.org/42"}\n'),
  ...items.flatMap(([header, payload]) => [Buffer.from(`${JSON.stringify(header)}\n`), Buffer.from(payload), Buffer.from('\n')]),
])
const minidump = (bytes: Uint8Array): Item => [{ type: 'attachment', attachment_type: 'event.minidump', filename: 'minidump.dmp', length: bytes.length }, bytes]
const event: Item = [{ type: 'event', length: 14 }, '{"level":"e"}\n']
const send = (body: Uint8Array, { path = `/api/42/envelope/${KEY}`, headers = {} as Record<string, string> } = {}) =>
  fetch(door.url + path, { method: 'POST', body: new Uint8Array(body), headers: { 'content-type': 'application/x-sentry-envelope', ...headers } })

test('an envelope with a minidump among other items is one unsigned crash', async () => {
  const dump = Buffer.concat([Buffer.from('MDMP\n\n{"type":"x"}\n'), randomBytes(5000)])
  const response = await send(envelopeOf(event, [{ type: 'session' }, '{"sid":"1"}'], minidump(dump), [{ type: 'attachment', length: 3 }, 'log']), { path: `/api/42/envelope/${KEY}&version=1.2` })
  expect(response.status).toBe(200)
  const crash = await newest()
  expect(await response.json()).toEqual({ id: crash.id })
  expect(crash).toMatchObject({ fleet: FLEET, authLevel: 'project-key', keyProtection: 'unknown', contentType: 'application/x-minidump', annotations: { version: '1.2' }, claims: { swversion: '1.2' } })
  expect('bytes' in crash.dump && dump.equals(Buffer.from(crash.dump.bytes))).toBe(true)
})

test('compressed, large, without a slash at the end and with the key in a header, it is taken too', async () => {
  const dump = randomBytes(500_000)
  const response = await send(gzipSync(envelopeOf(minidump(dump))), { path: '/api/42/envelope', headers: { 'content-encoding': 'gzip', 'x-sentry-auth': 'Sentry sentry_version=7, sentry_key=thermostats-key, sentry_client=native' } })
  expect(response.status).toBe(200)
  const crash = await newest()
  expect('blob' in crash.dump && dump.equals(Buffer.from((await door.blobs.get(crash.dump.blob))!))).toBe(true)
})

test('the minidump endpoint takes what Crashpad sends to it', async () => {
  const form = new FormData()
  form.set('sentry', '{"release":"1"}')
  form.set('upload_file_minidump', new Blob([randomBytes(100)]), 'x.dmp')
  const response = await fetch(`${door.url}/api/42/minidump/${KEY}&sentry_client=x`, { method: 'POST', body: form })
  const crash = await newest()
  expect([response.status, await response.text()]).toEqual([200, crash.id])
  expect(crash).toMatchObject({ authLevel: 'project-key', size: 100, annotations: { sentry: '{"release":"1"}' } })
  expect(crash.annotations).not.toHaveProperty('sentry_client')
})

test('project-key-disabled: without a key that is switched on nothing is read', async () => {
  const body = envelopeOf(minidump(randomBytes(100)))
  for (const path of ['/api/42/envelope/', '/api/42/envelope/?sentry_key=wrong', '/api/42/envelope/?key=thermostats-key']) expect((await send(body, { path })).status).toBe(401)
  door.snapshot.fleets[FLEET]!.settings.project_key_uploads = false
  await door.registry.refresh()
  expect((await send(body)).status).toBe(401)
  expect((await send(body, { path: `/api/42/minidump/${KEY}`, headers: { 'content-type': 'multipart/form-data; boundary=x' } })).status).not.toBe(200)
})

test.each<[string, () => Buffer, Record<string, string>?]>([
  ['dump-missing', () => envelopeOf(event)],
  ['body-truncated', () => envelopeOf(minidump(randomBytes(1000))).subarray(0, -100)],
  ['envelope-malformed', () => Buffer.from('no json\n')],
  ['envelope-malformed', () => Buffer.alloc(0)],
  ['envelope-malformed', () => Buffer.alloc(50_000, 0x20)],
  ['envelope-malformed', () => envelopeOf(minidump(randomBytes(10)), minidump(randomBytes(300_000)))],
  ['envelope-malformed', () => envelopeOf(minidump(randomBytes(300_000)), [{ kind: 'none' }, ''])],
  ['envelope-malformed', () => envelopeOf([{ type: 'attachment', attachment_type: 'event.minidump' }, 'x'])],
  ['envelope-malformed', () => envelopeOf([{ type: 'attachment', attachment_type: 'event.minidump', length: -1 }, 'x'])],
  ['envelope-malformed', () => envelopeOf(...Array.from({ length: 101 }, () => event))],
  ['envelope-malformed', () => gzipSync(envelopeOf(minidump(randomBytes(1000)))).fill(7, 200, 300), { 'content-encoding': 'gzip' }],
  ['too-large', () => envelopeOf(minidump(Buffer.alloc(600_001)))],
  ['content-inflated-too-large', () => gzipSync(envelopeOf([{ type: 'log', length: 20_000_000 }, Buffer.alloc(20_000_000)])), { 'content-encoding': 'gzip' }],
  ['content-encoding-refused', () => envelopeOf(event), { 'content-encoding': 'br' }],
])('%s: nothing is kept of an envelope that is wrong', async (slug, make, headers = {}) => {
  const [logged, blobs] = [(await door.accepted()).length, (await door.blobKeys()).length]
  const response = await send(make(), { headers })
  expect(await response.text()).toContain(`problem/${slug}`)
  expect((await door.accepted()).length).toBe(logged)
  expect(await door.blobKeys()).toHaveLength(blobs)
})

test('any bytes end as an answer, and no crash is made of half an envelope', async () => {
  const whole = envelopeOf(event, minidump(randomBytes(300)))
  await fc.assert(fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (at, byte) => {
    const changed = Buffer.from(whole)
    changed[at] = byte
    expect([200, 400, 413]).toContain((await send(changed)).status)
    const cut = await send(whole.subarray(0, at))
    // Only the last line feed may be missing.
    expect(cut.status === 200).toBe(at === whole.length - 1)
  }), { numRuns: 60 })
})

test('whatever was wrong, no memory stays taken', async () => {
  for (const damaged of [gzipSync(envelopeOf(minidump(randomBytes(100_000)))).fill(7, 50_000, 50_100), gzipSync(envelopeOf([{ type: 'log', length: 950_000 }, Buffer.alloc(950_000)], minidump(randomBytes(100_000))))]) {
    expect((await send(damaged, { headers: { 'content-encoding': 'gzip' } })).status).toBeGreaterThanOrEqual(400)
  }
  expect(await (await fetch(`${door.opsUrl}/metrics`)).text()).toContain('\noverrun_ingest_bytes_in_flight 0\n')
})

test('nobody is told 429 here: these clients would come back at once', async () => {
  const strict = await openDoor({ quotas: { uploadBurst: 1, uploadsPerMinute: 1 } })
  try {
    const post = () => fetch(`${strict.url}/api/42/envelope/${KEY}`, { method: 'POST', body: new Uint8Array(envelopeOf(minidump(randomBytes(10)))) })
    expect((await post()).status).toBe(200)
    const refused = await post()
    expect(refused.status).toBe(503)
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50)
  } finally {
    await strict.close()
  }
})
