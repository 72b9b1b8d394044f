import type { TestCrash } from './crash-row.ts'
import { createRandom, type Random } from './random.ts'

/**
 * A fleet without an attacker, drawn from a seed: what detection must keep quiet about.
 *
 * Standing crashes on a Zipf law, some of them memory corruption; crashes that happen once; days and nights, weekends,
 * swinging buckets; every four weeks a release that brings crashes as devices upgrade, and an outage; devices with failing
 * memory, dying devices and crash loops; blocks that are written twice. The rates are assumptions (0.02 crashes a device
 * and day), scaled with the fleet. Classes are drawn independently of behaviour and taken as right; nothing is late.
 */
export interface Simulation { seed: number; devices: number; days: number; end: number }

const HOUR = 3_600_000
const DAY = 24 * HOUR
const CRASHES_PER_DEVICE_DAY = 0.02
const SECURITY_SHARE = 0.06
const NETWORK_SHARE = 0.3
const CONTROL_SHARE_OF_SECURITY = 0.15

interface Bucket { name: string; evidence: TestCrash['evidence']; compartment: string; perDay: number }

export function simulateFleet({ seed, devices, days, end }: Simulation): TestCrash[] {
  const random = createRandom(seed)
  const start = end - days * DAY
  const fleet = drawFleet(devices, days, random)
  const crashes: TestCrash[] = []
  const happen = (at: number, device: number, bucket: Bucket, more: Partial<TestCrash> = {}) => {
    if (at < start || at >= end) return
    const repeats = random.next() < 0.02 ? 5 + random.below(46) : 1
    for (let n = 0; n < repeats; n++) {
      crashes.push({ id: `${seed}-${crashes.length}`, at: Math.floor(at) + n * 20_000, device: `d${device}`, bucket: bucket.name, evidence: bucket.evidence, compartment: bucket.compartment, ...fleet.claims(device, (at - start) / DAY), ...more })
    }
  }

  const scale = devices / 100_000
  const standing = drawBuckets('standing', Math.round(300 + 1200 * Math.min(1, scale)), random)
  const total = standing.reduce((sum, _, rank) => sum + (rank + 1) ** -1.1, 0)
  standing.forEach((bucket, rank) => { bucket.perDay = (devices * CRASHES_PER_DEVICE_DAY * (rank + 1) ** -1.1) / total })

  for (let day = 0; day < days; day++) {
    const weather = Math.exp(gaussian(random) * 0.12) * (day % 7 >= 5 ? 0.78 : 1)
    for (const bucket of standing) {
      for (let n = random.poisson(bucket.perDay * weather * gamma8(random)); n > 0; n--) happen(start + (day + timeOfDay(random)) * DAY, random.below(devices), bucket)
    }
    for (let n = random.poisson(Math.max(1, 6 * scale)); n > 0; n--) happen(start + (day + random.next()) * DAY, random.below(devices), drawBuckets(`once-${day}-${n}`, 1, random, 0.15)[0]!)
  }

  for (const [number, day] of fleet.releases.entries()) {
    for (const bucket of drawBuckets(`release-${number}`, 15, random)) {
      const perDay = Math.exp(gaussian(random)) * 4 * Math.max(0.05, scale)
      for (let n = random.poisson(perDay * (days - day)); n > 0; n--) {
        const [at, device] = [day + random.next() * (days - day), random.below(devices)]
        if (fleet.upgraded(device, number, at)) happen(start + at * DAY, device, bucket)
      }
    }
  }

  for (let day = 1 + random.below(7); day < days; day += 28) {
    const bucket: Bucket = { name: `outage-${day}`, evidence: 1, compartment: 'cloud', perDay: 0 }
    const [hit, from, hours] = [Math.min(devices / 4, Math.exp(gaussian(random)) * 300), day + random.next(), 1 + random.next() * 2]
    for (let n = 0; n < hit; n++) happen(start + from * DAY + random.next() * hours * HOUR, random.below(devices), bucket)
  }

  for (let n = Math.ceil(200 * scale); n > 0; n--) failingMemory(random.below(devices), random.exponential(10), start, days, random, happen)
  for (let n = Math.ceil(20 * scale); n > 0; n--) dyingDevice(random.below(devices), start + random.next() * days * DAY, random, happen)

  return [...crashes, ...crashes.filter(() => random.next() < 0.01)].sort((a, b) => a.at - b.at)
}

type Happen = (at: number, device: number, bucket: Bucket, more?: Partial<TestCrash>) => void

/** Half of its crashes are new, a third of them look like memory corruption, anywhere. */
function failingMemory(device: number, everyDays: number, start: number, days: number, random: Random, happen: Happen): void {
  for (let day = random.exponential(everyDays); day < days; day += random.exponential(everyDays)) {
    const [bucket] = drawBuckets(`flip-${device}-${random.below(8)}`, 1, random, 0.35)
    happen(start + day * DAY, device, bucket!, { against: [{ slug: 'bit-flip', text: 'one flipped bit would explain it' }], faultAddress: BigInt(random.below(2 ** 31)) * 0x1_0001n })
  }
}

/** 30 to 100 crashes in two days, in everything that runs. */
function dyingDevice(device: number, from: number, random: Random, happen: Happen): void {
  for (let n = 30 + random.below(71); n > 0; n--) {
    const [bucket] = drawBuckets(`dying-${device}-${random.below(30)}`, 1, random, 0.35)
    happen(from + random.next() * 2 * DAY, device, bucket!, { faultAddress: BigInt(random.below(2 ** 31)) * 0x1_0001n })
  }
}

function drawBuckets(name: string, count: number, random: Random, security = SECURITY_SHARE): Bucket[] {
  return Array.from({ length: count }, (_, n) => ({
    name: `${name}-${n}`, perDay: 0, compartment: random.next() < NETWORK_SHARE ? random.pick(['httpd', 'mqttd']) : random.pick(['sensor', 'logger', 'updater']),
    evidence: random.next() < security ? (random.next() < CONTROL_SHARE_OF_SECURITY ? 4 : 3) : random.pick([0, 1, 1, 1, 2] as const),
  }))
}

/** Every device upgrades a while after each release, one in ten never; releases lie four weeks apart. */
function drawFleet(devices: number, days: number, random: Random) {
  const releases = Array.from({ length: Math.ceil(days / 28) }, (_, n) => 2 + n * 28).filter((day) => day < days)
  const lags = Array.from({ length: devices }, () => (random.next() < 0.1 ? Infinity : random.exponential(1.5 + random.next() * 13.5)))
  const upgraded = (device: number, number: number, day: number): boolean => day >= releases[number]! + lags[device]!
  return {
    releases,
    upgraded,
    claims: (device: number, day: number): Pick<TestCrash, 'swversion' | 'hwmodel' | 'source'> => ({
      swversion: `4.${releases.filter((_, number) => upgraded(device, number, day)).length}.0`, hwmodel: `T${device % 4}`, source: `198.51.${device % 250}.0/24`,
    }),
  }
}

/** More by day than by night, by 35 %. */
function timeOfDay(random: Random): number {
  for (;;) {
    const at = random.next()
    if (random.next() * 1.35 < 1 + 0.35 * Math.sin(2 * Math.PI * at)) return at
  }
}

const gaussian = (random: Random): number => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next())
/** Mean 1, shape 8. */
const gamma8 = (random: Random): number => Array.from({ length: 8 }, () => random.exponential(1)).reduce((sum, value) => sum + value) / 8

/** One attacker, one new way to crash, device after device at random times. */
export function spreadCampaign({ name, devices, over, evidence, at, random, fleet, compartment = 'httpd' }: {
  name: string; devices: number; over: number; evidence: 3 | 4; at: number; random: Random; fleet: number; compartment?: string
}): TestCrash[] {
  return Array.from({ length: devices }, (_, n): TestCrash => {
    const device = random.below(fleet)
    return {
      id: `${name}-${n}`, at: Math.floor(at + random.next() * over), device: `d${device}`, bucket: name, evidence, compartment,
      swversion: `4.${device % 2}.0`, hwmodel: `T${device % 4}`, source: `198.51.${device % 250}.0/24`,
    }
  }).sort((a, b) => a.at - b.at)
}
