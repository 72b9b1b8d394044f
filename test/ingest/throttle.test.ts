import { expect, test } from 'vitest'
import { quotasSchema } from '../../ingest/config.ts'
import { createThrottle, originOf, sourceOf, type Throttle } from '../../ingest/throttle.ts'

const quotas = quotasSchema.parse({ deviceBurst: 3, devicePerMinute: 60, addressFailureBurst: 2, addressFailuresPerMinute: 60, sourceFailureBurst: 4, sourceFailuresPerMinute: 60, tracked: 100 })

function atStandstill() {
  let at = 0
  return { throttle: createThrottle(quotas, () => at), advance: (ms: number) => { at += ms } }
}

/** Seconds to wait, 0 when the report was taken. */
const sent = (throttle: Throttle, fleet: string, deviceId: string, issuer = 'CN=Factory') => throttle.report({ fleet, issuer, deviceId })?.seconds ?? 0

test('a device may send a burst, then as much as flows back', () => {
  const { throttle, advance } = atStandstill()
  const send = () => sent(throttle, 'fleet', 'device')
  expect([send(), send(), send()]).toEqual([0, 0, 0])
  expect(send()).toBe(1)
  advance(1000)
  expect([send(), send()]).toEqual([0, 1])
  advance(3_600_000)
  expect([send(), send(), send(), send()]).toEqual([0, 0, 0, 1])
})

test('devices of equal name in two fleets have quotas of their own', () => {
  const { throttle } = atStandstill()
  for (let i = 0; i < 3; i++) sent(throttle, 'fleet', 'device')
  expect(sent(throttle, 'fleet', 'device')).toBe(1)
  expect(sent(throttle, 'another', 'device')).toBe(0)
})

test('the devices of an issuer, and those of a fleet, share a quota each; whoever is refused is charged nothing', () => {
  const throttle = createThrottle(quotasSchema.parse({ deviceBurst: 2, issuerBurst: 3, fleetBurst: 4 }), () => 0)
  const report = (issuer: string, deviceId: string, fleet = 'fleet') => throttle.report({ fleet, issuer, deviceId })?.slug
  expect([report('A', '1'), report('A', '1'), report('A', '1'), report('A', '1')]).toEqual([undefined, undefined, 'quota-device', 'quota-device'])
  expect([report('A', '2'), report('A', '3'), report('A', '4')]).toEqual([undefined, 'quota-issuer', 'quota-issuer'])
  expect([report('B', '5'), report('B', '6'), report('C', '7')]).toEqual([undefined, 'quota-fleet', 'quota-fleet'])
  expect(report('A', '1', 'another')).toBeUndefined()
})

const from = (host: number) => originOf(`192.0.2.${host}`)

test('an address that only asks is never slowed down, one that fails is, and its neighbours are not', () => {
  const { throttle, advance } = atStandstill()
  expect([1, 2, 3, 4].map(() => throttle.source(from(1)))).toEqual([0, 0, 0, 0])
  throttle.failed(from(1))
  expect(throttle.source(from(1))).toBe(0)
  throttle.failed(from(1))
  expect([throttle.source(from(1)), throttle.source(from(2)), throttle.source(originOf('198.51.100.1'))]).toEqual([1, 0, 0])
  advance(1000)
  expect(throttle.source(from(1))).toBe(0)
})

test('a network in which many addresses fail is slowed down as one, but for addresses from which a device has proven itself', () => {
  const { throttle } = atStandstill()
  throttle.proved(from(1))
  for (let host = 2; host < 6; host++) throttle.failed(from(host))
  expect([throttle.source(from(1)), throttle.source(from(6)), throttle.source(originOf('192.0.3.1'))]).toEqual([0, 1, 0])
  throttle.failed(from(1))
  throttle.failed(from(1))
  expect(throttle.source(from(1))).toBe(1)
})

test.each([
  ['192.0.2.7', '192.0.2.7'], ['::ffff:192.0.2.7', '192.0.2.7'], ['2001:db8:7:8:9::1', '2001:db8:7:8::/64'], ['2001:db8:7:8::2', '2001:db8:7:8::/64'], ['2001:db8:7:9::2', '2001:db8:7:9::/64'], [undefined, ''],
])('what one subscriber has at %s is %s', (address, own) => {
  expect(originOf(address).address).toBe(own)
})

test('the map is bounded: the least recently seen is forgotten', () => {
  const { throttle } = atStandstill()
  for (let i = 0; i < 3; i++) sent(throttle, 'fleet', 'first')
  for (let i = 0; i < quotas.tracked; i++) sent(throttle, 'fleet', `device ${i}`)
  expect(sent(throttle, 'fleet', 'first')).toBe(0)
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
