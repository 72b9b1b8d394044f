import { createHash, randomBytes } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import { BrokenWorld } from '../../infra/service/errors.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { createManualClock } from '../../infra/service/clock.ts'
import { decodeMessage, type Refused } from '../../ingest/contract.ts'
import { createRefusedReports } from '../../ingest/refused.ts'
import { bodyOf, device, FLEET, NOW, openDoor, serialOf, snapshotOf, stranger, type Door, type DoorOptions } from './door.ts'
import { forgedBody } from './forge.ts'

let door: Door | undefined
const open = async (options: DoorOptions = {}): Promise<Door> => (door = await openDoor(options))
afterEach(async () => {
  await door?.close()
  door = undefined
})

const dump = randomBytes(300)
const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
/** A restart writes what is left. */
const refusedOf = async (opened: Door) => {
  await opened.restart()
  return (await opened.logged()).refused
}

test('what a quota keeps out is still counted, with its digests, as one message', async () => {
  const opened = await open({ quotas: { deviceBurst: 1, devicePerMinute: 0.01 } })
  await opened.post(bodyOf(dump))
  const storm = randomBytes(300)
  for (let seq = 1; seq < 6; seq++) expect((await opened.post(bodyOf(seq < 5 ? storm : dump, { seq }))).status).toBe(429)
  expect(await refusedOf(opened)).toEqual([{
    v: 1, type: 'refused', id: expect.stringMatching(/^[0-9a-f]{32}$/), fleet: FLEET, deviceId: serialOf(), slug: 'quota-device', firstAt: NOW, lastAt: NOW, reports: 5,
    digests: expect.arrayContaining([{ digest: digestOf(storm), reports: 4 }, { digest: digestOf(dump), reports: 1 }]),
  }])
  expect(await opened.accepted()).toHaveLength(1)
})

test('it is written while the storm goes on', async () => {
  const opened = await open({ quotas: { deviceBurst: 1, devicePerMinute: 0.01, summaryMs: 20 } })
  await opened.post(bodyOf(dump))
  await opened.post(bodyOf(dump, { seq: 1 }))
  await expect.poll(async () => (await opened.logged()).refused.length).toBe(1)
  await opened.post(bodyOf(dump, { seq: 2 }))
  await expect.poll(async () => (await opened.logged()).refused.map(({ reports }) => reports)).toEqual([1, 1])
})

test('quota-issuer: devices of one issuer share a quota, and are told when to come back', async () => {
  const opened = await open({ quotas: { issuerBurst: 2, issuerPerMinute: 1 } })
  const answers = []
  for (const index of [0, 1, 2]) answers.push(await opened.post(bodyOf(dump, {}, device(index))))
  expect(answers.map(({ status }) => status)).toEqual([202, 202, 429])
  expect(Number(answers[2]!.headers.get('retry-after'))).toBeGreaterThan(50)
  expect(await opened.rejected('quota-issuer')).toBe(1)
  expect(await refusedOf(opened)).toMatchObject([{ deviceId: serialOf(2), slug: 'quota-issuer', reports: 1 }])
})

test('quota-fleet: a fleet has a quota over all of its issuers', async () => {
  const opened = await open({ quotas: { fleetBurst: 1, fleetPerMinute: 1 } })
  expect([(await opened.post(bodyOf(dump))).status, (await opened.post(bodyOf(dump, {}, device(1)))).status]).toEqual([202, 429])
  expect(await opened.rejected('quota-fleet')).toBe(1)
})

test('an offer is charged like a report', async () => {
  const opened = await open({ quotas: { deviceBurst: 1, devicePerMinute: 1 } })
  expect((await opened.post(bodyOf(dump))).status).toBe(202)
  const manifest = bodyOf(dump, { seq: 1, fingerprint: 'aa' }).subarray(0, -(dump.length + 3))
  expect((await opened.state('/v1/crashes/offer', manifest)).status).toBe(429)
})

function summaries() {
  const written: Refused[] = []
  let away = false
  const logger = createLogger({ part: 'test', level: 'silent' })
  const append = async (_: unknown, value: Uint8Array) => {
    if (away) throw new BrokenWorld('log-full', 'log: full', { retryable: true })
    const decoded = decodeMessage(value)
    if ('refused' in decoded) written.push(decoded.refused)
  }
  const refused = createRefusedReports({ append, clock: createManualClock(NOW), logger, summaryMs: 5 })
  return { written, refused, set away(value: boolean) { away = value } }
}

test('memory is bounded: many devices and many digests end in sums that are right', async () => {
  const { written, refused } = summaries()
  for (let i = 0; i < 3000; i++) refused.count({ fleet: 'f', issuer: 'i', deviceId: `device ${i}` }, 'quota-fleet', digestOf(Buffer.from([i & 255])))
  for (let i = 0; i < 100; i++) refused.count({ fleet: 'f', issuer: 'i', deviceId: 'device 0' }, 'quota-fleet', digestOf(Buffer.from(`${i}`)))
  await refused.stop()
  expect(written.length).toBe(1001)
  expect(written.reduce((sum, { reports }) => sum + reports, 0)).toBe(3100)
  expect(written.find(({ deviceId }) => deviceId === '')).toMatchObject({ reports: 2000 })
  expect(Math.max(...written.map(({ digests }) => digests.length))).toBe(16)
})

test('what the log does not take is offered again under its id, and nothing is counted twice', async () => {
  const world = summaries()
  const count = () => world.refused.count({ fleet: 'f', issuer: 'i', deviceId: 'd' }, 'quota-device', 'aa')
  world.away = true
  world.refused.start()
  count()
  await new Promise((resolve) => setTimeout(resolve, 30))
  count()
  world.away = false
  await expect.poll(() => world.written.reduce((sum, { reports }) => sum + reports, 0)).toBe(2)
  await world.refused.stop()
  expect(world.written.map(({ reports }) => reports)).toEqual([1, 1])
})

test('what a revoked device says is refused and counted, with its digest; a forgery in its name is not', async () => {
  const snapshot = snapshotOf()
  snapshot.fleets[FLEET]!.devices = { [serialOf()]: { status: 'revoked' } }
  const opened = await open({ load: () => snapshot })
  for (const bootcount of [1, 2]) expect((await opened.post(bodyOf(dump, { bootcount }))).status).toBe(403)
  expect((await opened.post(forgedBody({ key: stranger.key }))).status).toBe(401)
  expect(await refusedOf(opened)).toMatchObject([{ fleet: FLEET, deviceId: serialOf(), slug: 'device-revoked', reports: 2, digests: [{ digest: digestOf(dump), reports: 2 }] }])
})
