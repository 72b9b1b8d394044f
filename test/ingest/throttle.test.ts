import { expect, test } from 'vitest'
import { quotasSchema } from '../../ingest/config.ts'
import { createThrottle, sourceOf } from '../../ingest/throttle.ts'

const quotas = quotasSchema.parse({ deviceBurst: 3, devicePerMinute: 60, sourceFailureBurst: 2, sourceFailuresPerMinute: 60, tracked: 100 })

function atStandstill() {
  let at = 0
  return { throttle: createThrottle(quotas, () => at), advance: (ms: number) => { at += ms } }
}

test('a device may send a burst, then as much as flows back', () => {
  const { throttle, advance } = atStandstill()
  const send = () => throttle.device('fleet', 'device')
  expect([send(), send(), send()]).toEqual([0, 0, 0])
  expect(send()).toBe(1)
  advance(1000)
  expect([send(), send()]).toEqual([0, 1])
  advance(3_600_000)
  expect([send(), send(), send(), send()]).toEqual([0, 0, 0, 1])
})

test('devices of equal name in two fleets have quotas of their own', () => {
  const { throttle } = atStandstill()
  for (let i = 0; i < 3; i++) throttle.device('fleet', 'device')
  expect(throttle.device('fleet', 'device')).toBe(1)
  expect(throttle.device('another', 'device')).toBe(0)
})

test('a network that only asks is never slowed down, one that fails is', () => {
  const { throttle, advance } = atStandstill()
  expect([1, 2, 3, 4].map(() => throttle.source('192.0.2.0/24'))).toEqual([0, 0, 0, 0])
  throttle.failed('192.0.2.0/24')
  expect(throttle.source('192.0.2.0/24')).toBe(0)
  throttle.failed('192.0.2.0/24')
  expect(throttle.source('192.0.2.0/24')).toBe(1)
  expect(throttle.source('198.51.100.0/24')).toBe(0)
  advance(1000)
  expect(throttle.source('192.0.2.0/24')).toBe(0)
})

test('the map is bounded: the least recently seen is forgotten', () => {
  const { throttle } = atStandstill()
  for (let i = 0; i < 3; i++) throttle.device('fleet', 'first')
  for (let i = 0; i < quotas.tracked; i++) throttle.device('fleet', `device ${i}`)
  expect(throttle.device('fleet', 'first')).toBe(0)
})

test.each([
  ['192.0.2.77', '192.0.2.0/24'],
  ['::ffff:192.0.2.77', '192.0.2.0/24'],
  ['2001:db8:7:8:9::1', '2001:db8:7::/48'],
  ['2001:0DB8::1', '2001:db8:0::/48'],
  ['::1', '0:0:0::/48'],
  ['fe80::1%eth0', 'fe80:0:0::/48'],
  ['::192.0.2.1', '0:0:0::/48'],
  ['2001:db8::', '2001:db8:0::/48'],
  [undefined, 'unknown'],
  ['not an address', 'unknown'],
])('the network of %s is %s', (address, network) => {
  expect(sourceOf(address)).toBe(network)
})
