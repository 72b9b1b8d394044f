import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Log } from '../../infra/log/log.ts'
import { BrokenWorld } from '../../infra/service/errors.ts'
import { bodyOf, device, FLEET, manifestOf, NOW, openDoor, serialOf, type Door } from './door.ts'

let door: Door
let broken: 'no' | 'refuses' | 'hangs' = 'no'
const wrapLog = (log: Log): Log => ({
  ...log,
  append(topic, message) {
    if (broken === 'refuses') return Promise.reject(new BrokenWorld('log-full', 'log: the disk is full', { retryable: true }))
    if (broken === 'hangs') return new Promise(() => {})
    return log.append(topic, message)
  },
})
beforeAll(async () => { door = await openDoor({ wrapLog, settings: { appendMs: 200 } }) })
afterAll(() => door.close())

const dump = randomBytes(500)
const post = async (body: Uint8Array) => {
  const response = await door.post(body)
  return { status: response.status, body: await response.json() as { id: string; status: string; type: string }, retryAfter: response.headers.get('retry-after') }
}
const crashOf = async (id: string) => (await door.accepted()).find((crash) => crash.id === id)!

test('what lands in the log is the report, its proof and the very bytes that were signed', async () => {
  const { status, body } = await post(bodyOf(dump, { bootcount: 1, swversion: '4.2.1', compartment: 'httpd', uptimeSeconds: 12 }))
  expect(status).toBe(202)
  const crash = await crashOf(body.id)
  expect(crash).toMatchObject({
    v: 1, fleet: FLEET, receivedAt: NOW, eventTime: NOW, authLevel: 'payload-signed', standing: 'counted', deviceId: serialOf(),
    keyProtection: 'hardware', flags: [], source: '127.0.0.0/24', contentType: 'application/x-minidump', size: 500, annotations: {},
    claims: { bootcount: 1, seq: 0, size: 500, swversion: '4.2.1', compartment: 'httpd', uptimeSeconds: 12 },
  })
  expect(Buffer.from(crash.manifest!).subarray(0, 300).equals(manifestOf(dump, { bootcount: 1, swversion: '4.2.1', compartment: 'httpd', uptimeSeconds: 12 }).subarray(0, 300))).toBe(true)
  expect('bytes' in crash.dump && dump.equals(Buffer.from(crash.dump.bytes))).toBe(true)
})

test('a report that is durable already is a duplicate with the same id, signed anew or not, after a restart too', async () => {
  const first = await post(bodyOf(dump, { bootcount: 2 }))
  const again = await post(bodyOf(dump, { bootcount: 2 }))
  expect(again).toMatchObject({ status: 200, body: { id: first.body.id, status: 'duplicate' } })
  const logged = (await door.accepted()).length
  await door.restart()
  expect(await post(bodyOf(dump, { bootcount: 2 }))).toMatchObject({ status: 200, body: { id: first.body.id, status: 'duplicate' } })
  expect((await door.accepted()).length).toBe(logged)
})

test('the same report on many connections at once is in the log once', async () => {
  const body = bodyOf(dump, { bootcount: 3 })
  const before = (await door.accepted()).length
  const answers = await Promise.all(Array.from({ length: 20 }, () => post(body)))
  expect(answers.filter(({ status }) => status === 202)).toHaveLength(1)
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(19)
  expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1)
  expect((await door.accepted()).length).toBe(before + 1)
})

test('counter-reuse: a second dump under the same counters is refused and kept in quarantine', async () => {
  await post(bodyOf(dump, { bootcount: 4 }))
  const second = await post(bodyOf(randomBytes(300_000), { bootcount: 4 }))
  expect(second).toMatchObject({ status: 409, body: { type: 'tag:overrun.example,2026:problem/counter-reuse' } })
  const kept = (await door.accepted()).at(-1)!
  expect(kept).toMatchObject({ standing: 'counter-reuse', size: 300_000, deviceId: serialOf() })
  expect('blob' in kept.dump && await door.blobs.get(kept.dump.blob)).toHaveLength(300_000)
  expect(await door.rejected('counter-reuse')).toBe(1)
})

test('a counter older than the window is taken and stands aside', async () => {
  await post(bodyOf(dump, { bootcount: 1000 }, device(1)))
  await door.restart()
  const { status, body } = await post(bodyOf(dump, { bootcount: 5 }, device(1)))
  expect(status).toBe(202)
  expect(await crashOf(body.id)).toMatchObject({ standing: 'stale-counter' })
})

test.each([
  ['a clock decades in the past is moved up to 400 days ago', -30 * 365 * 86_400, -400 * 86_400_000, ['late']],
  ['a clock in the past is believed, and marked late', -7 * 3600, -7 * 3_600_000, ['late']],
  ['a clock before the previous event is moved up to it', -9 * 3600, -7 * 3_600_000, ['late']],
  ['a clock a little behind is believed', -60, -60_000, []],
  ['a clock ahead is moved back to now', 3600, 0, []],
  ['no clock is now', undefined, 0, []],
])('event time: %s', async (name, iatOffset, eventOffset, flags) => {
  const seq = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0)
  const iat = iatOffset === undefined ? {} : { iat: NOW / 1000 + iatOffset }
  const { body } = await post(bodyOf(dump, { bootcount: 6, seq, ...iat }, device(2)))
  const crash = await crashOf(body.id)
  expect(crash.eventTime - NOW).toBe(eventOffset)
  expect(crash.flags).toEqual(flags)
})

test.each(['refuses', 'hangs'] as const)('a log that %s is a 503 with Retry-After, and the same report is taken afterwards', async (how) => {
  broken = how
  const body = bodyOf(dump, { bootcount: 7, seq: how === 'hangs' ? 1 : 0 })
  try {
    expect(await post(body)).toMatchObject({ status: 503, retryAfter: '5', body: { type: 'tag:overrun.example,2026:problem/log-unavailable' } })
  } finally {
    broken = 'no'
  }
  expect((await post(body)).status).toBe(202)
})
