import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { afterEach, expect, test } from 'vitest'
import type { Blobs } from '../../infra/blobs/blobs.ts'
import { BrokenWorld } from '../../infra/service/errors.ts'
import { bodyOf, device, dial, headOf, openDoor, snapshotOf, stranger, type Door, type DoorOptions } from './door.ts'
import { forgedBody } from './forge.ts'

let door: Door | undefined
const open = async (options: DoorOptions = {}): Promise<Door> => (door = await openDoor(options))
afterEach(async () => {
  await door?.close()
  door = undefined
})

const dump = randomBytes(2000)

test('every answer names its request and is not kept by anybody', async () => {
  const { post } = await open()
  const [taken, refused] = [await post(bodyOf(dump)), await post(Buffer.from('nonsense'))]
  for (const { headers } of [taken, refused]) {
    expect(headers.get('x-request-id')).toMatch(/^[0-9a-f]{18,}$/)
    expect(headers.get('cache-control')).toBe('no-store')
  }
  expect(taken.headers.get('x-request-id')).not.toBe(refused.headers.get('x-request-id'))
})

test('a 401 is the same bytes, whatever failed', async () => {
  const { post } = await open()
  const forged = [forgedBody({ key: stranger.key }), forgedBody({ key: stranger.key, chain: stranger.chain }), forgedBody({ headers: [[1, Buffer.of(0x05)]] })]
  const bodies = await Promise.all(forged.map(async (body) => {
    const response = await post(body)
    expect(response.status).toBe(401)
    return response.text()
  }))
  expect(new Set(bodies).size).toBe(1)
  expect(bodies[0]).not.toMatch(/signature|anchor|alg/)
})

test('quota-device: a device over its quota is told when to come back, others are not held up', async () => {
  const { post, rejected } = await open({ quotas: { deviceBurst: 2, devicePerMinute: 1 } })
  const statuses = []
  for (let seq = 0; seq < 3; seq++) statuses.push((await post(bodyOf(dump, { seq }))).status)
  expect(statuses).toEqual([202, 202, 429])
  const response = await post(bodyOf(dump, { seq: 3 }))
  expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(50)
  expect((await post(bodyOf(dump, {}, device(1)))).status).toBe(202)
  expect(await rejected('quota-device')).toBe(2)
})

test("a forger can't use up the quota of the device whose certificate it shows", async () => {
  const { post } = await open({ quotas: { deviceBurst: 1, devicePerMinute: 1 } })
  for (let i = 0; i < 5; i++) expect((await post(forgedBody({ key: stranger.key }))).status).toBe(401)
  expect((await post(bodyOf(dump))).status).toBe(202)
})

test('quota-source: a network that fails too often has to wait', async () => {
  const { post, rejected } = await open({ quotas: { addressFailureBurst: 2, sourceFailureBurst: 2, sourceFailuresPerMinute: 1 } })
  const statuses = []
  for (let i = 0; i < 3; i++) statuses.push((await post(forgedBody({ key: stranger.key }))).status)
  expect(statuses).toEqual([401, 401, 429])
  expect(await rejected('quota-source')).toBe(1)
})

test('overloaded: dumps above the bytes in flight are sent away for a while, not dropped', async () => {
  const { post, port } = await open({ limits: { bytesInFlight: 100_000 } })
  const big = bodyOf(randomBytes(90_000), { seq: 1 })
  const slow = dial(port)
  await slow.say(headOf(big.length))
  await slow.say(big.subarray(0, 80_000))
  await expect.poll(async () => (await post(bodyOf(randomBytes(60_000), { seq: Math.floor(Math.random() * 1e9) }))).status).toBe(503)
  await slow.say(big.subarray(80_000))
  expect(await slow.firstLine()).toBe('HTTP/1.1 202 Accepted')
  slow.socket.destroy()
  expect((await post(bodyOf(randomBytes(60_000), { seq: 2 }))).status).toBe(202)
})

test('an early refusal reaches a sender who is still busy sending', async () => {
  const { port } = await open({ limits: { dumpBytes: 1_000_000 } })
  const { socket, say, answer } = dial(port)
  await say(headOf(8_000_000))
  const block = Buffer.alloc(64 * 1024)
  socket.on('error', () => {})
  for (let sent = 0; sent < 6_000_000 && !socket.destroyed; sent += block.length) {
    if (!socket.write(block)) await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => {})
  }
  expect(await answer).toMatch(/^HTTP\/1\.1 413 [^]*problem\/too-large/)
})

test('a refused sender who keeps sending is cut off', async () => {
  const { port, settings } = await open({ limits: { lingerBytes: 200_000, lingerMs: 60_000 } })
  const { socket, say } = dial(port)
  socket.on('error', () => {})
  await say(headOf(30_000_000, 'X: y\r\n').replace('cbor-seq', 'nothing'))
  const closed = new Promise((resolve) => socket.on('close', resolve))
  const pump = () => { if (socket.writable) socket.write(Buffer.alloc(16 * 1024), pump) }
  pump()
  await closed
  expect(socket.bytesWritten).toBeLessThan(30_000_000)
  expect(settings.limits.lingerBytes).toBe(200_000)
})

test('a sender who trickles below the slowest rate is refused, though never silent', async () => {
  const { port } = await open({ limits: { manifestMs: 100, bytesPerSecond: 10_000_000 } })
  const { socket, say, answer } = dial(port)
  socket.on('error', () => {})
  const body = bodyOf(dump)
  await say(headOf(body.length))
  for (const byte of body) {
    if (!socket.writable) break
    await say(Buffer.of(byte)).catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  expect(await answer).toMatch(/^HTTP\/1\.1 408 [^]*problem\/body-timeout/)
})

test('one connection carries many reports', async () => {
  const { port } = await open()
  const { say, answer } = dial(port)
  for (const seq of [0, 1, 2]) {
    const body = bodyOf(dump, { seq })
    await say(headOf(body.length, seq === 2 ? 'Connection: close\r\n' : ''))
    await say(body)
  }
  expect((await answer).match(/HTTP\/1\.1 202 /g)).toHaveLength(3)
})

test('blobs that fail are a 503: the device keeps its dump', async () => {
  const wrapBlobs = (blobs: Blobs): Blobs => ({ ...blobs, put: () => Promise.reject(new BrokenWorld('blobs-full', 'blobs: the disk is full', { retryable: true })) })
  const { post } = await open({ wrapBlobs })
  expect((await post(bodyOf(randomBytes(300_000)))).status).toBe(503)
  expect((await post(bodyOf(dump, { seq: 1 }))).status).toBe(202)
})

test('registry-unknown: before anything is known of fleets nobody is turned away for good', async () => {
  let away = true
  const load = () => {
    if (away) throw new Error('ClickHouse is away')
    return snapshotOf()
  }
  const { post, registry, opsUrl } = await open({ load })
  expect((await post(bodyOf(dump))).status).toBe(503)
  expect((await fetch(`${opsUrl}/readyz`)).status).toBe(503)
  away = false
  await registry.refresh()
  expect((await post(bodyOf(dump))).status).toBe(202)
  expect((await fetch(`${opsUrl}/readyz`)).status).toBe(200)
})

test('ops: liveness, readiness and metrics have a listener of their own', async () => {
  const { opsUrl, url, post } = await open()
  await post(bodyOf(dump))
  expect(await (await fetch(`${opsUrl}/livez`)).text()).toBe('ok\n')
  expect(await (await fetch(`${opsUrl}/readyz`)).json()).toEqual({ ready: true, checks: {} })
  expect(await (await fetch(`${opsUrl}/readyz?verbose`)).json()).toEqual({ ready: true, checks: { log: 'ok', blobs: 'ok', registry: 'ok' } })
  const metrics = await (await fetch(`${opsUrl}/metrics`)).text()
  expect(metrics).toContain('overrun_ingest_requests_total{route="/v1/crashes",code="202"} 1')
  expect(metrics).toContain('overrun_ingest_accepted_total{auth_level="payload-signed",standing="counted"} 1')
  expect(metrics).toContain('overrun_ingest_bytes_total 2000')
  for (const path of ['/livez', '/readyz', '/metrics', '/v1/crashes']) expect((await fetch(url + path)).status).toBe(404)
})

test('bytes in flight are given back, whatever became of the report', async () => {
  const { post, opsUrl } = await open()
  for (const body of [bodyOf(dump), bodyOf(dump), bodyOf(randomBytes(300_000)), forgedBody({ signature: () => Buffer.alloc(64) })]) await post(body)
  await post(Buffer.concat([bodyOf(dump, { seq: 5 }).subarray(0, -1), Buffer.of(1)]))
  expect(await (await fetch(`${opsUrl}/metrics`)).text()).toContain('overrun_ingest_bytes_in_flight 0')
})
