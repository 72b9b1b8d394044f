import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, expect, test } from 'vitest'
import type { Log } from '../../infra/log/log.ts'
import { BrokenWorld } from '../../infra/service/errors.ts'
import { device, dial, FLEET, manifestOf, openDoor, serialOf, stranger, type Door, type DoorOptions } from './door.ts'
import { forge } from './forge.ts'

let door: Door
const open = async (options: DoorOptions = {}): Promise<Door> => (door = await openDoor(options))
afterEach(() => door.close())

type Headers = Record<string, string>
const create = (manifest: Uint8Array, { headers = {}, body = Buffer.alloc(0) }: { headers?: Headers; body?: Buffer } = {}) =>
  fetch(`${door.url}/v1/uploads`, { method: 'POST', body: new Uint8Array(body), headers: { 'crash-manifest': `:${Buffer.from(manifest).toString('base64')}:`, 'upload-complete': '?0', ...headers } })
const begin = async (manifest: Uint8Array): Promise<string> => {
  const response = await create(manifest)
  expect(response.status).toBe(201)
  return response.headers.get('location')!
}
const at = (location: string, method: string, headers: Headers = {}) => fetch(door.url + location, { method, headers })
const append = (location: string, offset: number, bytes: Uint8Array, last = false, headers: Headers = {}) => fetch(door.url + location, {
  method: 'PATCH', body: Buffer.from(bytes), headers: { 'content-type': 'application/partial-upload', 'upload-offset': String(offset), 'upload-complete': last ? '?1' : '?0', ...headers },
})
const slugOf = async (response: Response) => ((await response.json()) as { type: string }).type.split('/').at(-1)

test('a dump in pieces over restarts is the crash that one request would have made', async () => {
  await open()
  const dump = randomBytes(700_000)
  const location = await begin(manifestOf(dump))
  const first = await append(location, 0, dump.subarray(0, 300_000))
  expect([first.status, first.headers.get('upload-offset'), first.headers.get('upload-complete')]).toEqual([204, '300000', '?0'])
  await door.restart()
  const told = await at(location, 'HEAD')
  expect(told.status).toBe(204)
  expect(Object.fromEntries(['upload-offset', 'upload-complete', 'upload-length', 'upload-limit', 'cache-control'].map((name) => [name, told.headers.get(name)]))).toEqual({
    'upload-offset': '300000', 'upload-complete': '?0', 'upload-length': '700000', 'upload-limit': 'max-size=268435456, max-age=86400', 'cache-control': 'no-store',
  })
  expect(await door.accepted()).toEqual([])
  const last = await append(location, 300_000, dump.subarray(300_000), true)
  expect([last.status, last.headers.get('upload-complete')]).toEqual([202, '?1'])
  const [crash] = await door.accepted()
  expect(crash).toMatchObject({ id: ((await last.json()) as { id: string }).id, fleet: FLEET, standing: 'counted', authLevel: 'payload-signed', deviceId: serialOf(), size: 700_000 })
  expect('blob' in crash!.dump && dump.equals(Buffer.from((await door.blobs.get(crash!.dump.blob))!))).toBe(true)
  expect((await at(location, 'HEAD')).status).toBe(404)
})

test('a dump that came whole with the creation needs nothing else', async () => {
  await open()
  const dump = randomBytes(2000)
  const response = await create(manifestOf(dump), { body: dump, headers: { 'upload-complete': '?1', 'upload-length': '2000' } })
  expect(response.status).toBe(202)
  expect(await door.accepted()).toHaveLength(1)
  const again = await create(manifestOf(dump))
  expect([again.status, again.headers.get('upload-complete'), ((await again.json()) as { status: string }).status]).toEqual([200, '?1', 'duplicate'])
})

test('however a dump is cut and however often a piece is sent twice, the dump is the dump', async () => {
  await open({ quotas: { deviceBurst: 1e6, addressFailureBurst: 1e6, sourceFailureBurst: 1e6 } })
  let seq = 0
  await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), fc.array(fc.nat(500), { maxLength: 6 }), fc.nat(3), async (bytes, cuts, repeat) => {
    const dump = Buffer.from(bytes)
    const location = await begin(manifestOf(dump, { seq: seq++ }))
    let offset = 0
    for (const cut of cuts) {
      const piece = dump.subarray(offset, offset + cut)
      expect((await append(location, offset, piece)).status).toBe(204)
      if (repeat === 0 && piece.length > 0) {
        const twice = await append(location, offset, piece)
        expect([twice.status, twice.headers.get('upload-offset')]).toEqual([409, String(offset + piece.length)])
      }
      offset += piece.length
    }
    expect((await append(location, offset, dump.subarray(offset), true)).status).toBe(202)
    const crash = (await door.accepted()).at(-1)!
    expect('bytes' in crash.dump && dump.equals(Buffer.from(crash.dump.bytes))).toBe(true)
  }), { numRuns: 15 })
})

test('a connection that breaks leaves what came, and a newer request ends one that hangs', async () => {
  await open()
  const dump = randomBytes(100_000)
  const location = await begin(manifestOf(dump))
  const headOf = (offset: number) => `PATCH ${location} HTTP/1.1\r\nHost: test\r\nContent-Type: application/partial-upload\r\nUpload-Offset: ${offset}\r\nUpload-Complete: ?1\r\nContent-Length: ${dump.length - offset}\r\n\r\n`
  const offset = async () => Number((await at(location, 'HEAD')).headers.get('upload-offset'))
  const broken = dial(door.port)
  await broken.say(headOf(0))
  await broken.say(dump.subarray(0, 40_000))
  broken.socket.end()
  await broken.answer
  await expect.poll(offset).toBe(40_000)
  const hanging = dial(door.port)
  await hanging.say(headOf(40_000))
  await hanging.say(dump.subarray(40_000, 60_000))
  await expect.poll(offset).toBeGreaterThanOrEqual(40_000)
  const there = await offset()
  await hanging.answer
  expect((await append(location, there, dump.subarray(there), true)).status).toBe(202)
})

test('upload-offset: a piece for another place is refused and told where to go on', async () => {
  await open()
  const dump = randomBytes(1000)
  const location = await begin(manifestOf(dump))
  for (const offset of ['1', '-1', '00', 'x', '']) {
    const response = await append(location, 0, dump, false, { 'upload-offset': offset })
    expect([response.status, response.headers.get('upload-offset'), await slugOf(response)]).toEqual([409, '0', 'upload-offset'])
  }
})

test.each<[string, number, (location: string, dump: Buffer) => Promise<Response>]>([
  ['trailing-bytes', 400, (location, dump) => append(location, 0, Buffer.concat([dump, Buffer.of(0)]), true)],
  ['size-mismatch', 400, (location, dump) => append(location, 0, dump.subarray(1), true)],
  ['digest-mismatch', 400, (location, dump) => append(location, 0, Buffer.alloc(dump.length), true)],
  ['content-type-unsupported', 415, (location, dump) => append(location, 0, dump, true, { 'content-type': 'application/cbor-seq' })],
  ['content-encoding-refused', 415, (location, dump) => append(location, 0, dump, true, { 'content-encoding': 'gzip' })],
  ['upload-malformed', 400, (location, dump) => append(location, 0, dump, true, { 'upload-complete': '1' })],
  ['upload-unknown', 404, (_, dump) => append(`/v1/uploads/${'0'.repeat(32)}`, 0, dump, true)],
  ['upload-unknown', 404, (_, dump) => append('/v1/uploads/..%2Fregistry', 0, dump, true)],
  ['upload-malformed', 400, () => fetch(`${door.url}/v1/uploads`, { method: 'POST', headers: { 'upload-complete': '?0' } })],
  ['upload-malformed', 400, (_, dump) => create(manifestOf(dump, { seq: 9 }), { headers: { 'upload-complete': 'yes' } })],
  ['size-mismatch', 400, (_, dump) => create(manifestOf(dump, { seq: 9 }), { headers: { 'upload-length': '999' } })],
  ['cbor-malformed', 400, () => create(Buffer.alloc(0), { headers: { 'crash-manifest': 'x' } })],
  ['unauthorized', 401, () => create(forge({ key: stranger.key }))],
])('%s: nothing wrong becomes a crash', async (slug, status, send) => {
  await open()
  const dump = randomBytes(1000)
  const response = await send(await begin(manifestOf(dump)), dump)
  expect([response.status, await slugOf(response)]).toEqual([status, slug])
  expect(await door.accepted()).toEqual([])
  expect(await door.blobKeys()).toEqual([])
})

test('too-large: the limit is told before a byte is sent', async () => {
  await open({ uploads: { dumpBytes: 1000 } })
  const response = await create(manifestOf(randomBytes(1001)))
  expect([response.status, response.headers.get('upload-limit')]).toEqual([413, 'max-size=1000, max-age=86400'])
})

test('uploads are bounded: one for a report, so many of a device, so many in all, and none for ever', async () => {
  await open({ uploads: { most: 3, perDevice: 2, expiryMs: 60_000 } })
  const [first, second] = [await begin(manifestOf(randomBytes(10), { seq: 0 })), await begin(manifestOf(Buffer.from('same'), { seq: 1 }))]
  const replacing = await begin(manifestOf(Buffer.from('same'), { seq: 1 }))
  expect((await at(second, 'HEAD')).status).toBe(404)
  const more = await create(manifestOf(randomBytes(10), { seq: 2 }))
  expect([more.status, more.headers.get('retry-after')]).toEqual([503, '5'])
  await begin(manifestOf(randomBytes(10), {}, device(1)))
  expect((await create(manifestOf(randomBytes(10), { seq: 1 }, device(1)))).status).toBe(503)
  door.clock.advance(60_000)
  for (const location of [first, replacing]) expect((await at(location, 'HEAD')).status).toBe(404)
  await begin(manifestOf(randomBytes(10), { seq: 3 }))
  expect(await readdir(join(door.data, 'ingest', 'uploads'))).toHaveLength(2)
})

test('a sender may give up', async () => {
  await open()
  const location = await begin(manifestOf(randomBytes(10)))
  expect((await at(location, 'DELETE')).status).toBe(204)
  expect((await at(location, 'HEAD')).status).toBe(404)
  expect(await readdir(join(door.data, 'ingest', 'uploads'))).toEqual([])
})

test('a device that was revoked on the way is refused at the end', async () => {
  await open()
  const dump = randomBytes(100)
  const location = await begin(manifestOf(dump))
  door.snapshot.fleets[FLEET]!.devices[serialOf()] = { status: 'revoked', reason: 'stolen' }
  await door.registry.refresh()
  expect(await slugOf(await append(location, 0, dump, true))).toBe('device-revoked')
  expect(await door.accepted()).toEqual([])
})

test('while the log is away the upload waits, and its last piece is asked for again with no content', async () => {
  let away = true
  const wrapLog = (log: Log): Log => ({ ...log, append: (...args) => (away ? Promise.reject(new BrokenWorld('log-full', 'full', { retryable: true })) : log.append(...args)) })
  await open({ wrapLog })
  const dump = randomBytes(1000)
  const location = await begin(manifestOf(dump))
  expect((await append(location, 0, dump, true)).status).toBe(503)
  away = false
  expect((await at(location, 'HEAD')).headers.get('upload-offset')).toBe('1000')
  expect((await append(location, 1000, Buffer.alloc(0), true)).status).toBe(202)
})
