import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RegistrySnapshot } from '../../ingest/registry.ts'
import { HEARTBEAT_PROFILE } from '../../ingest/manifest.ts'
import { bodyOf, device, FLEET, manifestOf, openDoor, serialOf, snapshotOf, type Door } from './door.ts'
import { forge, tstr } from './forge.ts'

/** A fleet whose devices count only once somebody has admitted them, and one whose counters somebody let begin anew. */
const snapshot = snapshotOf() as RegistrySnapshot & { fleets: Record<string, { settings: object; devices: Record<string, { status: 'active' | 'revoked' }>; rebased?: Record<string, number> }> }
const ours = snapshot.fleets[FLEET]!
let door: Door
beforeAll(async () => {
  Object.assign(ours.settings, { first_sight: 'pending' })
  ours.devices[serialOf(1)] = { status: 'active' }
  door = await openDoor({ load: () => snapshot })
})
afterAll(() => door.close())

const newest = async () => (await door.accepted()).at(-1)!

test('a device that nobody has admitted is heard and kept, and counts from the moment it is admitted', async () => {
  expect((await door.post(bodyOf(randomBytes(50), { bootcount: 1 }))).status).toBe(202)
  expect(await newest()).toMatchObject({ deviceId: serialOf(), standing: 'pending', authLevel: 'payload-signed' })
  expect((await door.post(bodyOf(randomBytes(50), { bootcount: 1 }, device(1)))).status).toBe(202)
  expect(await newest()).toMatchObject({ deviceId: serialOf(1), standing: 'counted' })

  const heartbeat = forge({ dump: Buffer.alloc(0), claims: [[265, tstr(HEARTBEAT_PROFILE)], [267, Buffer.of(2)]] })
  expect((await door.state('/v1/heartbeats', heartbeat)).status).toBe(202)
  expect((await door.logged()).heartbeats.at(-1)).toMatchObject({ deviceId: serialOf(), standing: 'pending' })

  ours.devices[serialOf()] = { status: 'active' }
  await door.registry.refresh()
  expect((await door.post(bodyOf(randomBytes(50), { bootcount: 3 }))).status).toBe(202)
  expect(await newest()).toMatchObject({ deviceId: serialOf(), standing: 'counted' })
  delete ours.devices[serialOf()]
  await door.registry.refresh()
})

test('the dump of a pending device stands for nobody else, and what it names itself is pending too', async () => {
  const fingerprint = randomBytes(16).toString('hex')
  const offer = async (manifest: Uint8Array) => (await (await door.state('/v1/crashes/offer', manifest)).json() as { status: string }).status
  await door.post(bodyOf(randomBytes(50), { bootcount: 10, fingerprint }))
  expect(await offer(manifestOf(randomBytes(50), { bootcount: 10, fingerprint }, device(1)))).toBe('send')
  await door.post(bodyOf(randomBytes(50), { bootcount: 11, fingerprint }, device(1)))
  expect(await offer(manifestOf(randomBytes(50), { bootcount: 11, fingerprint }))).toBe('known')
  expect(await newest()).toMatchObject({ deviceId: serialOf(), standing: 'pending', claimedOf: expect.any(String) })
})

test('counters of a rebased device are fresh again in the epoch that the event began', async () => {
  const by = device(1)
  for (const bootcount of [1, 2000]) await door.post(bodyOf(randomBytes(50), { bootcount, seq: 9 }, by))
  await door.post(bodyOf(randomBytes(50), { bootcount: 5, seq: 9 }, by))
  expect(await newest()).toMatchObject({ standing: 'stale-counter' })
  expect('epoch' in await newest()).toBe(false)

  ours.rebased = { [serialOf(1)]: 17 }
  await door.registry.refresh()
  const dump = randomBytes(50)
  expect((await door.post(bodyOf(dump, { bootcount: 1, seq: 9 }, by))).status).toBe(202)
  expect(await newest()).toMatchObject({ deviceId: serialOf(1), standing: 'counted', epoch: 17 })
  expect((await door.post(bodyOf(dump, { bootcount: 1, seq: 9 }, by))).status).toBe(200)
  expect((await door.post(bodyOf(randomBytes(50), { bootcount: 1, seq: 9 }, by))).status).toBe(409)
})
