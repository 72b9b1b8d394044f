import type { Claims } from '../../ingest/contract.ts'
import { varyMinidump, type Variation } from './vary-minidump.ts'

/**
 * Two weeks of a thermostat fleet, decided by a seed: what crashed, where and when. Nothing here knows how detection
 * works; the reports go through the front door like any other.
 *
 *   all along   sensors that are missing or wedged, an updater that corrupts its heap now and then
 *   day 8       4.2.0 rolls out with a null write: a bad release, not an attack
 *   day 4..13   one device with failing memory crashes in everything it runs
 *   day 14      somebody guesses addresses on one device (the server restarts after each miss), then the same stack
 *               overrun fires in the MQTT parser of device after device, on every firmware there is
 */
export interface PlannedReport {
  /** Milliseconds since the epoch. */
  at: number
  /** Index of the device in the fleet. */
  device: number
  /** File of the dump in the corpus, and how this device's differs. */
  dump: string
  variation: Variation
  claims: Claims
}

export interface Story { devices: number; netFacing: string[]; reports: PlannedReport[] }

const HOUR = 3_600_000
const DAY = 24 * HOUR
export const STORY_DAYS = 14

const BACKGROUND = [
  { dump: 'sensord.null-read', perDay: 9, compartment: 'sensor-bus', process: 'sensord' },
  { dump: 'sensord.assert', perDay: 5, compartment: 'sensor-bus', process: 'sensord' },
  { dump: 'sensord.div0', perDay: 3, compartment: 'sensor-bus', process: 'sensord' },
  { dump: 'bpdaemon.heap', perDay: 3, compartment: 'updater', process: 'bpdaemon' },
] as const

export function writeStory(options: { seed: number; end: number; devices: number }): Story {
  const random = createRandom(options.seed)
  const start = options.end - STORY_DAYS * DAY
  const fleet = Array.from({ length: options.devices }, (_, index) => createDevice(index, start, random))
  const pick = () => fleet[Math.floor(random() * fleet.length)]!
  const reports: PlannedReport[] = []
  const report = (at: number, device: Device, dump: string, claims: Claims, variation: Variation = {}) => {
    if (at < options.end) reports.push({ at, device: device.index, dump, variation, claims: { ...device.claimsAt(at), ...claims } })
  }

  for (let day = 0; day < STORY_DAYS; day++) {
    for (const { dump, perDay, compartment, process } of BACKGROUND) {
      for (let n = poisson(perDay, random); n > 0; n--) report(start + day * DAY + random() * DAY, pick(), dump, { compartment, process, layer: 'app' })
    }
  }

  // The bad release: only devices that run 4.2.0, slowly, as the rollout reaches them; 4.2.1 ends it.
  for (const device of fleet) {
    const on = device.upgrades.find((upgrade) => upgrade.swversion === '4.2.0')
    if (on && random() < 0.45) report(on.at + random() * 2.5 * DAY, device, 'sensord-nofp.null-write', { compartment: 'display', process: 'sensord-nofp', layer: 'app' })
  }

  // Failing memory: one bit of a pointer differs each time, and every process on the device suffers.
  const flaky = fleet[17 % fleet.length]!
  const victims = [['sensord.null-read', 'sensor-bus'], ['sensord.illegal', 'display'], ['sensord.div0', 'sensor-bus'], ['bpdaemon.heap', 'updater'], ['sensord.abort', 'logger']] as const
  for (let n = 0; n < 22; n++) {
    const [dump, compartment] = victims[Math.floor(random() * victims.length)]!
    const flipped = 0x10n ^ (1n << BigInt(20 + Math.floor(random() * 20)))
    report(start + 3 * DAY + random() * 9 * DAY, flaky, dump, { compartment, process: dump.split('.')[0]!, layer: 'app' }, dump === 'sensord.null-read' ? { faultAddress: flipped, rdi: flipped } : {})
  }

  // Guessing addresses: the MQTT server is forked again after each miss, so the layout stays and the next page is tried.
  const attack = options.end - 9.5 * HOUR
  const first = fleet[5 % fleet.length]!
  const remote = (): Claims => ({ compartment: 'mqtt', process: 'sensord', layer: 'app', lastInputAgeMs: 20 + Math.floor(random() * 300), peer: `203.0.113.${20 + Math.floor(random() * 6)}`, listenerPort: 1883 })
  for (let guess = 0; guess < 64; guess++) {
    const pc = 0x7f3a_4400_03e0n + BigInt(guess) * 0x1000n
    report(attack + guess * 24_000 + random() * 6_000, first, 'sensord.jump-4141', remote(), { pc, faultAddress: pc })
  }

  // Then the overrun itself, device after device.
  const targets = [...fleet].sort(() => random() - 0.5).slice(0, 11)
  for (const [step, target] of targets.entries()) {
    report(attack + 1.2 * HOUR + step * 0.28 * HOUR + random() * 300_000, target, target.index % 3 === 0 ? 'sensord-nofp.stack-smash' : 'sensord.stack-smash', remote())
  }

  reports.sort((a, b) => a.at - b.at)
  return { devices: options.devices, netFacing: ['mqtt'], reports: number(reports) }
}

/** The dump with this device's differences. */
export const dumpOf = (report: PlannedReport, original: Uint8Array): Uint8Array =>
  Object.keys(report.variation).length === 0 ? original : varyMinidump(original, report.variation)

interface Device {
  index: number
  upgrades: { at: number; swversion: string }[]
  claimsAt(at: number): Claims
}

function createDevice(index: number, start: number, random: () => number): Device {
  const hwmodel = index % 3 === 0 ? 'T200' : 'T100'
  const upgrades = [{ at: -Infinity, swversion: random() < 0.15 ? '3.9.2' : '4.1.0' }]
  if (random() < 0.5) {
    const at = start + 8 * DAY + random() * 3 * DAY
    upgrades.push({ at, swversion: '4.2.0' }, { at: Math.max(at + DAY, start + 11.5 * DAY + random() * DAY), swversion: '4.2.1' })
  }
  const bootedAt = start - random() * 20 * DAY
  return {
    index,
    upgrades,
    claimsAt(at) {
      const on = upgrades.findLast((upgrade) => upgrade.at <= at)!
      const since = Math.max(bootedAt, on.at)
      return { hwmodel, swname: 'thermostat', swversion: on.swversion, uptimeSeconds: Math.floor((at - since) / 1000), resetReason: 'software' }
    },
  }
}

/** Each report gets its place in its device's life: a boot per crash, except where the process restarts within seconds. */
function number(reports: PlannedReport[]): PlannedReport[] {
  const lives = new Map<number, { bootcount: number; seq: number; at: number }>()
  return reports.map((report) => {
    const life = lives.get(report.device)
    const sameBoot = life !== undefined && report.at - life.at < 120_000
    const next = sameBoot ? { bootcount: life.bootcount, seq: life.seq + 1, at: report.at } : { bootcount: (life?.bootcount ?? 100) + 1, seq: 0, at: report.at }
    lives.set(report.device, next)
    return { ...report, at: Math.floor(report.at), claims: { ...report.claims, bootcount: next.bootcount, seq: next.seq } }
  })
}

/** mulberry32: the same seed tells the same story on every machine. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Knuth's method; the means here are below 10. */
function poisson(mean: number, random: () => number): number {
  const limit = Math.exp(-mean)
  let count = 0
  for (let product = random(); product > limit; product *= random()) count++
  return count
}
