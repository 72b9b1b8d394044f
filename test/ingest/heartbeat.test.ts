import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bodyOf, FLEET, NOW, openDoor, serialOf, stranger, type Door } from './door.ts'
import { forge, int, list, tstr, type Forgery } from './forge.ts'

let door: Door
beforeAll(async () => { door = await openDoor() })
afterAll(() => door.close())

const PROFILE = tstr('tag:overrun.example,2026:heartbeat/1')
const heartbeat = (boot: number, seq = 0, { claims = [], ...forgery }: Forgery = {}) =>
  forge({ dump: Buffer.alloc(0), ...forgery, claims: [[265, PROFILE], [267, int(boot)], [-65537, int(seq)], [-65538, int(0)], ...claims] })
const send = async (manifest: Uint8Array) => {
  const response = await door.state('/v1/heartbeats', manifest)
  return { http: response.status, ...await response.json() as { status: string; type?: string } }
}

test('a heartbeat is durable before its answer, and says who is alive on which version', async () => {
  expect(await send(heartbeat(1, 0, { claims: [[271, list(tstr('4.2'))], [259, tstr('T-800')], [-65544, int(7)]] }))).toEqual({ http: 202, status: 'queued' })
  const { heartbeats, crashes } = await door.logged()
  expect(crashes).toEqual([])
  expect(heartbeats.at(-1)).toMatchObject({
    fleet: FLEET, receivedAt: NOW, deviceId: serialOf(), standing: 'counted', authLevel: 'payload-signed', claims: { bootcount: 1, seq: 0, swversion: '4.2', hwmodel: 'T-800', svn: 7 },
  })
})

test('the same heartbeat again is a duplicate; one that is older than the window proves nothing', async () => {
  const manifest = heartbeat(2)
  await send(manifest)
  const before = (await door.logged()).heartbeats.length
  expect(await send(manifest)).toEqual({ http: 200, status: 'duplicate' })
  expect((await door.logged()).heartbeats.length).toBe(before)
  await send(heartbeat(500))
  await door.restart()
  expect(await send(heartbeat(3))).toMatchObject({ http: 202 })
  expect((await door.logged()).heartbeats.at(-1)).toMatchObject({ standing: 'stale-counter' })
})

test('counter-reuse: heartbeats and crashes share the numbers of a boot', async () => {
  expect((await door.post(bodyOf(randomBytes(10), { bootcount: 501 }))).status).toBe(202)
  expect(await send(heartbeat(501))).toMatchObject({ http: 409, type: 'tag:overrun.example,2026:problem/counter-reuse' })
  expect(await send(heartbeat(501, 1))).toMatchObject({ http: 202 })
  expect((await door.post(bodyOf(randomBytes(10), { bootcount: 501, seq: 1 }))).status).toBe(409)
})

test.each<[string, number, () => Buffer]>([
  ['profile-unknown', 400, () => forge({ dump: Buffer.alloc(0) })],
  ['size-mismatch', 400, () => heartbeat(600, 0, { claims: [[-65538, int(1)]] })],
  ['digest-mismatch', 400, () => heartbeat(600, 0, { dump: Buffer.from('dump') })],
  ['claim-missing', 400, () => heartbeat(600, 0, { claims: [[267, null]] })],
  ['unauthorized', 401, () => heartbeat(600, 0, { key: stranger.key })],
])('%s: a heartbeat is judged like any report', async (slug, status, make) => {
  const before = (await door.logged()).heartbeats.length
  expect(await send(make())).toMatchObject({ http: status, type: `tag:overrun.example,2026:problem/${slug}` })
  expect((await door.logged()).heartbeats.length).toBe(before)
})

test('heartbeat-unexpected: neither profile is taken for the other', async () => {
  const body = Buffer.concat([heartbeat(700), Buffer.of(0x40)])
  expect(await (await door.post(body)).text()).toContain('heartbeat-unexpected')
  expect(await (await door.state('/v1/crashes/offer', heartbeat(700))).text()).toContain('heartbeat-unexpected')
})

test('the signed nothing is the hash of no bytes', () => {
  expect(heartbeat(1).includes(createHash('sha256').digest())).toBe(true)
})
