import { afterAll, beforeAll, expect, test } from 'vitest'
import { issueDevice } from '../../ingest/device/fleet.ts'
import { bodyOf, device, fleet, NOW, openDoor, serialOf, type Door } from './door.ts'

let door: Door
beforeAll(async () => { door = await openDoor() })
afterAll(() => door.close())

test('a renewed key is the same device with counters of its own', async () => {
  const renewed = issueDevice(fleet.intermediate, serialOf(), 'p384', NOW - 1000, NOW + 86_400_000)
  const [before, after] = [bodyOf(Buffer.from('old key')), bodyOf(Buffer.from('new key'), {}, renewed)]
  expect([(await door.post(before)).status, (await door.post(after)).status]).toEqual([202, 202])
  const [first, second] = await door.accepted()
  expect([first!.deviceId, second!.deviceId]).toEqual([device().serial, device().serial])
  expect(first!.deviceKeyId).not.toBe(second!.deviceKeyId)
  expect([first!.standing, second!.standing]).toEqual(['counted', 'counted'])
})
