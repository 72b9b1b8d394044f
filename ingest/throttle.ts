import { isIPv4, isIPv6 } from 'node:net'
import { LRUCache } from 'lru-cache'
import type { Quotas } from './config.ts'

/**
 * Who may still send. The quotas of a device, its issuer and its fleet are charged only after the signature is good, or
 * whoever holds a victim's certificate (it is public) could use them up and silence the victim. What fails is charged to
 * the address that sent it and to its network, so that a flood from many addresses is bounded too; an address from which
 * a device has proven itself is not held to what its neighbours do. The device is asked first and nobody is charged for a report that is refused: a device in a
 * crash loop uses up its own quota and no more than that of its issuer's and its fleet's.
 *
 * Token buckets on the machine's monotonic time: a quota is about this machine's load, not about the story's clock.
 * The maps are bounded; forgetting the least recently seen bucket forgives at most one burst.
 */
export interface Throttle {
  /** Null when this device may send now (it, its issuer and its fleet are charged one report), else whose quota is used up. */
  report(sender: Sender): Exhausted | null
  /** Seconds until somebody from there may try again; charges nothing. */
  source(origin: Origin): number
  /** Charges one refused request to its address and network. */
  failed(origin: Origin): void
  /** Somebody proved from there who they are. */
  proved(origin: Origin): void
  hasProven(origin: Origin): boolean
  /** Seconds until this network may upload unsigned reports again, 0 when it may now (and is charged one). */
  upload(source: string): number
}

/** `address`: what one subscriber has, an IPv4 address or a /64; `source`: the network around it, see sourceOf. */
export interface Origin { address: string; source: string }
export interface Sender { fleet: string; issuer: string; deviceId: string }
export interface Exhausted { slug: 'quota-device' | 'quota-issuer' | 'quota-fleet'; seconds: number }

export function createThrottle(quotas: Quotas, now: () => number = () => performance.now()): Throttle {
  const devices = createBuckets(quotas.deviceBurst, quotas.devicePerMinute, quotas.tracked, now)
  const issuers = createBuckets(quotas.issuerBurst, quotas.issuerPerMinute, quotas.tracked, now)
  const fleets = createBuckets(quotas.fleetBurst, quotas.fleetPerMinute, quotas.tracked, now)
  const addresses = createBuckets(quotas.addressFailureBurst, quotas.addressFailuresPerMinute, quotas.tracked, now)
  const proven = new LRUCache<string, true>({ max: quotas.tracked })
  const networks = createBuckets(quotas.sourceFailureBurst, quotas.sourceFailuresPerMinute, quotas.tracked, now)
  const uploads = createBuckets(quotas.uploadBurst, quotas.uploadsPerMinute, quotas.tracked, now)
  return {
    report({ fleet, issuer, deviceId }) {
      const asked = [
        { slug: 'quota-device', buckets: devices, key: `${fleet}\0${deviceId}` },
        { slug: 'quota-issuer', buckets: issuers, key: `${fleet}\0${issuer}` },
        { slug: 'quota-fleet', buckets: fleets, key: fleet },
      ] as const
      for (const { slug, buckets, key } of asked) {
        const seconds = buckets.wait(key)
        if (seconds > 0) return { slug, seconds }
      }
      for (const { buckets, key } of asked) buckets.take(key)
      return null
    },
    source: ({ address, source }) => addresses.wait(address) || (proven.has(address) ? 0 : networks.wait(source)),
    failed({ address, source }) {
      addresses.take(address)
      networks.take(source)
    },
    hasProven: ({ address }) => proven.has(address),
    proved: ({ address }) => { proven.set(address, true) },
    upload: (source) => uploads.take(source),
  }
}

interface Bucket { tokens: number; at: number }

function createBuckets(capacity: number, perMinute: number, tracked: number, now: () => number) {
  const buckets = new LRUCache<string, Bucket>({ max: tracked })
  const perMs = perMinute / 60_000

  const filled = (key: string): Bucket => {
    const at = now()
    const bucket = buckets.get(key) ?? { tokens: capacity, at }
    bucket.tokens = Math.min(capacity, bucket.tokens + (at - bucket.at) * perMs)
    bucket.at = at
    return bucket
  }
  const secondsUntilOne = (bucket: Bucket) => (bucket.tokens >= 1 ? 0 : Math.max(1, Math.ceil((1 - bucket.tokens) / perMs / 1000)))

  return {
    wait: (key: string) => (buckets.has(key) ? secondsUntilOne(filled(key)) : 0),
    take(key: string): number {
      const bucket = filled(key)
      const seconds = secondsUntilOne(bucket)
      if (seconds === 0) bucket.tokens -= 1
      buckets.set(key, bucket)
      return seconds
    },
  }
}

export function originOf(address: string | undefined): Origin {
  const plain = plainOf(address)
  return { address: isIPv6(plain) ? `${expandIPv6(plain).slice(0, 4).join(':')}::/64` : plain, source: sourceOf(plain) }
}

const plainOf = (address: string | undefined): string => address?.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '') ?? ''

/** The network that a report came from: all that is kept of an address. */
export function sourceOf(address: string | undefined): string {
  const plain = plainOf(address)
  if (isIPv4(plain)) return `${plain.split('.').slice(0, 3).join('.')}.0/24`
  if (isIPv6(plain)) return `${expandIPv6(plain).slice(0, 3).join(':')}::/48`
  return 'unknown'
}

/** The eight groups, without leading zeros (RFC 4291 2.2); `address` has passed isIPv6. */
function expandIPv6(address: string): string[] {
  const [head = '', tail] = address.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const before = groups(head)
  const after = tail === undefined ? [] : groups(tail)
  const dotted = address.includes('.') ? 1 : 0
  const zeros = Array<string>(Math.max(0, 8 - before.length - after.length - dotted)).fill('0')
  return [...before, ...zeros, ...after].map((group) => group.replace(/^0+(?=.)/, '').toLowerCase())
}
