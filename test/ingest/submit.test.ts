import { randomBytes } from 'node:crypto'
import { createGzip, gzipSync } from 'node:zlib'
import { Readable } from 'node:stream'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { device, FLEET, manifestOf, openDoor, snapshotOf, type Door } from './door.ts'
import { forge } from './forge.ts'

let door: Door
beforeAll(async () => {
  door = await openDoor({ limits: { dumpBytes: 600_000, inflatedBytes: 1_000_000, idleMs: 500 }, quotas: { addressFailureBurst: 10_000, sourceFailureBurst: 10_000, uploadBurst: 10_000 } })
})
afterAll(() => door.close())
afterEach(async () => {
  Object.assign(door.snapshot, snapshotOf())
  await door.registry.refresh()
})

type Part = [name: string, value: string | Uint8Array, filename?: string]

/** A multipart body as Crashpad writes it: fields first, then the file. */
function multipart(parts: Part[], boundary = '---MultipartBoundary-x---'): Buffer {
  const chunks = parts.flatMap(([name, value, filename]) => [
    `--${boundary}\r\nContent-Disposition: form-data; name="${name}"${filename ? `; filename="${filename}"\r\nContent-Type: application/octet-stream` : ''}\r\n\r\n`,
    value, '\r\n',
  ])
  return Buffer.concat([...chunks, `--${boundary}--\r\n`].map((chunk) => Buffer.from(chunk)))
}
const TYPE = 'multipart/form-data; boundary=---MultipartBoundary-x---'

const submit = (body: Uint8Array | ReadableStream, { query = '?key=thermostats-key', headers = {} as Record<string, string> } = {}) =>
  fetch(`${door.url}/submit${query}`, { method: 'POST', body: body, duplex: 'half', headers: { 'content-type': TYPE, ...headers } } as never)
const minidump = (bytes: Uint8Array): Part => ['upload_file_minidump', bytes, 'minidump.dmp']
const newest = async () => (await door.accepted()).at(-1)!

test('an upload is answered with exactly 200 and the bare id, once it is durable', async () => {
  const dump = randomBytes(1000)
  const response = await submit(multipart([['product', 'sensord'], ['version', '1.2.3'], minidump(dump)]))
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toContain('text/plain')
  const crash = await newest()
  expect(await response.text()).toBe(crash.id)
  expect(crash).toMatchObject({
    fleet: FLEET, authLevel: 'project-key', standing: 'counted', keyProtection: 'unknown', source: '127.0.0.0/24', size: 1000,
    annotations: { product: 'sensord', version: '1.2.3' }, claims: { swname: 'sensord', swversion: '1.2.3' },
  })
  expect(crash.deviceId).toMatch(/^source:[0-9a-f]{32}$/)
  expect('bytes' in crash.dump && dump.equals(Buffer.from(crash.dump.bytes))).toBe(true)
})

test('gzip, chunked and without Content-Length, as Crashpad sends it', async () => {
  const dump = randomBytes(500_000)
  const body = Readable.toWeb(Readable.from([multipart([['ptype', 'browser'], minidump(dump)])]).pipe(createGzip())) as ReadableStream
  const response = await submit(body, { headers: { 'content-encoding': 'gzip' } })
  expect(response.status).toBe(200)
  const crash = await newest()
  expect('blob' in crash.dump && dump.equals(Buffer.from((await door.blobs.get(crash.dump.blob))!))).toBe(true)
})

test('the same dump sent again has the same id, as Socorro likes it too', async () => {
  const body = multipart([minidump(randomBytes(100))])
  const id = await (await submit(body)).text()
  expect(await (await submit(body, { query: '?key=thermostats-key&reply=socorro' })).text()).toBe(`CrashID=bp-${id}\n`)
})

test('annotations are bounded, fill claims where they are readable, and the query counts as some', async () => {
  const many = Array.from({ length: 100 }, (_, i): Part => [`note-${i}`, 'x'.repeat(1000)])
  const response = await submit(multipart([
    ['bootcount', '12'], ['layer', 'kernel'], ['svn', 'three'], ['build_id', 'C0FFEE'], ['__proto__', 'x'], ['compartment', 'httpd'], ...many, minidump(Buffer.from('d')),
  ]), { query: '?key=thermostats-key&hwmodel=T-800&compartment=lost' })
  expect(response.status).toBe(200)
  const { annotations, claims } = await newest()
  expect(Object.keys(annotations).length).toBeLessThanOrEqual(64)
  expect(annotations['note-0']).toHaveLength(256)
  expect(claims).toEqual({ bootcount: 12, layer: 'kernel', buildId: 'c0ffee', compartment: 'httpd' })
})

test('project-key-disabled: without a key that is switched on nothing is read', async () => {
  const body = multipart([minidump(randomBytes(100))])
  for (const query of ['', '?key=wrong', '?key=thermostats-key&key=thermostats-key']) expect((await submit(body, { query })).status).toBe(401)
  door.snapshot.fleets[FLEET]!.settings.project_key_uploads = false
  await door.registry.refresh()
  expect((await submit(body)).status).toBe(401)
  expect(await door.rejected('project-key-disabled')).toBe(4)
})

test('crash_signature before the dump raises an upload to payload-signed, without any key', async () => {
  const dump = randomBytes(300)
  const manifest = manifestOf(dump, { bootcount: 9, swversion: '5.0' })
  for (const [seen, part] of [[200, ['crash_signature', manifest.toString('base64')]], [200, ['crash_signature', manifest, 'signature.cbor']]] as [number, Part][]) {
    expect((await submit(multipart([part, ['note', 'hello'], minidump(dump)]), { query: '' })).status).toBe(seen)
  }
  expect(await newest()).toMatchObject({
    authLevel: 'payload-signed', deviceId: device().serial, claims: { bootcount: 9, swversion: '5.0' }, annotations: { note: 'hello' }, keyProtection: 'hardware',
  })
})

test('a signature behind the dump raises an upload too, when the key is good', async () => {
  const dump = randomBytes(300)
  const parts: Part[] = [minidump(dump), ['crash_signature', manifestOf(dump, { bootcount: 10 }).toString('base64')]]
  expect((await submit(multipart(parts))).status).toBe(200)
  expect(await newest()).toMatchObject({ authLevel: 'payload-signed', claims: { bootcount: 10 } })
  expect((await submit(multipart(parts), { query: '' })).status).toBe(401)
})

test('a signature that is wrong is refused, never taken for none', async () => {
  const dump = randomBytes(300)
  const forged = forge({ dump, signature: () => Buffer.alloc(64, 1) }).toString('base64')
  expect((await submit(multipart([['crash_signature', forged], minidump(dump)]))).status).toBe(401)
  const other = manifestOf(randomBytes(300), { bootcount: 11 }).toString('base64')
  const response = await submit(multipart([['crash_signature', other], minidump(dump)]))
  expect(await response.text()).toContain('digest-mismatch')
  const longer = manifestOf(randomBytes(301), { bootcount: 11 }).toString('base64')
  expect(await (await submit(multipart([['crash_signature', longer], minidump(dump)]))).text()).toContain('size-mismatch')
})

test.each<[string, string, () => ReturnType<typeof submit>]>([
  ['dump-missing', 'no file', () => submit(multipart([['product', 'x']]))],
  ['body-truncated', 'no last boundary', () => submit(multipart([minidump(randomBytes(100))]).subarray(0, -30))],
  ['multipart-malformed', 'two dumps', () => submit(multipart([minidump(randomBytes(100)), minidump(randomBytes(100))]))],
  ['multipart-malformed', 'two signatures', () => submit(multipart([['crash_signature', forge().toString('base64')], ['crash_signature', forge().toString('base64')], minidump(Buffer.from('dump'))]))],
  ['multipart-malformed', 'damaged gzip', () => submit(gzipSync(multipart([minidump(randomBytes(1000))])).fill(7, 200, 300), { headers: { 'content-encoding': 'gzip' } })],
  ['multipart-malformed', 'no boundary', () => submit(Buffer.from('x'), { headers: { 'content-type': 'multipart/form-data; charset=x' } })],
  ['content-type-unsupported', 'a plain body', () => submit(Buffer.from('x'), { headers: { 'content-type': 'application/octet-stream' } })],
  ['content-encoding-refused', 'brotli', () => submit(Buffer.from('x'), { headers: { 'content-encoding': 'br' } })],
  ['content-inflated-too-large', 'a bomb', () => submit(gzipSync(Buffer.concat([multipart([['a', 'b']]), Buffer.alloc(50_000_000)])), { headers: { 'content-encoding': 'gzip' } })],
  ['too-large', 'a dump above the limit', () => submit(multipart([minidump(randomBytes(600_001))]))],
])('%s: %s', async (slug, _, send) => {
  const [before, logged, blobs] = [await door.rejected(slug), (await door.accepted()).length, (await door.blobKeys()).length]
  const response = await send()
  expect(await response.text()).toContain(`problem/${slug}`)
  expect(await door.rejected(slug)).toBe(before + 1)
  expect((await door.accepted()).length).toBe(logged)
  expect(await door.blobKeys()).toHaveLength(blobs)
})

test('a sender who stops in the middle of the dump is refused in time and leaves nothing behind', async () => {
  const body = multipart([minidump(randomBytes(400_000))])
  const blobs = await door.blobKeys()
  const stalled = new ReadableStream({ start: (controller) => controller.enqueue(body.subarray(0, 350_000)) })
  const response = await submit(stalled)
  expect(response.status).toBe(408)
  expect(await door.blobKeys()).toEqual(blobs)
})
