import type { AlertEvidence, Reason } from './finding.ts'
import { SAMPLE } from './finding.ts'
import { countBy, sharedNetwork, type BucketDevice, type Surroundings } from './surroundings.ts'
import { iso } from './time.ts'
import * as words from './words.ts'

/**
 * What speaks for an attack on a bucket and what against it, each computed from rows, each with its term in the score.
 * The score ranks, it doesn't decide; the terms are assumptions until a fleet has judged enough alerts to learn them from.
 */
export interface Sign extends Reason { term?: { name: string; value: number } }
export interface Signs { for: Sign[]; against: Sign[]; unknown: string[] }

/** What was hit: a bucket, the class of its median device, whether it faces the network, its first crash in the window. */
export interface Hit { bucket: string; class: number; net: boolean; first: number }

export function signsOf(row: Hit, surroundings: Surroundings): Signs {
  const devices = surroundings.devices.get(row.bucket) ?? []
  const yes: Sign[] = []
  const no: Sign[] = []
  const unknown: string[] = []
  const share = (test: (device: BucketDevice) => boolean) => devices.filter(test).length / Math.max(1, devices.length)
  const all = words.devices(devices.length)

  if (row.class === 4) yes.push({ slug: 'control-flow', text: 'the program counter went where no program is, or a control-flow check failed (E4)', term: { name: 'control flow', value: 3.5 } })
  if (row.class === 3) yes.push({ slug: 'memory-corruption', text: 'corrupted memory was caught, or a wild write (E3)', term: { name: 'memory corruption', value: 2 } })
  if (row.net) yes.push({ slug: 'faces-network', text: 'the part that crashes reads what strangers send', term: { name: 'faces the network', value: 1.2 } })

  const first = surroundings.firstSeen.get(row.bucket)
  if (first !== undefined && first >= row.first) yes.push({ slug: 'never-seen', text: `this crash was never seen before ${iso(first)}`, term: { name: 'never seen', value: 0.7 } })
  else if (first !== undefined) no.push({ slug: 'seen-before', text: `this crash has been known since ${iso(first)}` })

  const shared = sharedNetwork(surroundings, row.bucket)
  if (shared) {
    yes.push({
      slug: `shared-${shared.origin}`, term: { name: `shared ${shared.origin}`, value: 3 },
      text: shared.origin === 'peer'
        ? `${shared.devices} of ${all} had just heard ${shared.network}; usually ${words.percent(shared.usual)} of the crashing devices have`
        : `${shared.devices} of ${all} reported from ${shared.network}; usually ${words.percent(shared.usual)} of the crashing devices do`,
    })
  }
  if (devices.every((device) => device.source === '')) unknown.push('from which networks the reports came')
  else if (shared?.origin !== 'source') {
    const [top] = countBy(devices, (device) => device.source)
    if (top && top.count * 2 >= devices.length && devices.length >= 3) no.push({ slug: 'usual-source', text: `${top.count} of ${all} reported from ${top.value}, as the fleet usually does: it may be a NAT or one site` })
  }

  const saidInput = devices.filter((device) => device.inputAgeMs !== null)
  if (saidInput.length === 0) unknown.push('whether network input came just before: the devices do not say (last-input-age)')
  else if (share((device) => device.inputAgeMs !== null && device.inputAgeMs < 1000) >= 0.5) {
    yes.push({ slug: 'after-input', text: `on ${saidInput.filter((d) => d.inputAgeMs! < 1000).length} of ${all} network input came less than a second before`, term: { name: 'after input', value: 1.5 } })
  } else no.push({ slug: 'no-input', text: 'on most devices no network input came just before' })

  pushFirmware(yes, no, unknown, devices, surroundings)

  const models = countBy(devices, (device) => device.hwmodel)
  if (devices.length >= 4 && models.length === 1 && surroundings.fleet.models > 1) {
    no.push({ slug: 'one-model', text: `only hardware model ${models[0]!.value || 'unnamed'} is hit, and the fleet has ${surroundings.fleet.models}`, term: { name: 'single hardware model', value: -1.5 } })
  } else if (models.length > 1) yes.push({ slug: 'many-models', text: `${models.length} hardware models are hit` })

  const flips = share((device) => device.bitFlip)
  if (flips > 0.5) no.push({ slug: 'bit-flips', text: `on ${words.percent(flips)} of the devices a flipped bit would explain the crash: failing memory?`, term: { name: 'bit flips', value: -2.5 } })
  else if (flips === 0) yes.push({ slug: 'no-bit-flips', text: 'no crash looks like a flipped bit' })

  const { ordinary } = surroundings
  if (ordinary.now >= 10 && ordinary.now > 3 * ordinary.usual) {
    no.push({
      slug: 'outage', text: `${words.devices(ordinary.now)} had ordinary failures in the same 6 h (usual: ${words.rate(ordinary.usual)}): an outage is going on`,
      ...(row.class <= 1 ? { term: { name: 'outage', value: -2 } } : {}),
    })
  } else yes.push({ slug: 'no-outage', text: 'the rest of the fleet fails no more than usual' })

  const troubled = devices.filter((device) => device.otherBuckets >= 3)
  if (troubled.length * 2 > devices.length) no.push({ slug: 'troubled-devices', text: `${troubled.length} of ${all} also crash in three or more other ways: failing or experimental devices?` })
  return { for: yes, against: no, unknown }
}

function pushFirmware(yes: Sign[], no: Sign[], unknown: string[], devices: BucketDevice[], surroundings: Surroundings): void {
  const versions = countBy(devices, (device) => device.swversion)
  const isNew = (device: BucketDevice) => surroundings.releases.some((release) => release.swname === device.swname && release.swversion === device.swversion)
  const fresh = devices.filter(isNew).length
  if (versions.every(({ value }) => value === '')) unknown.push('which firmware the devices run')
  else if (fresh === devices.length) {
    const release = surroundings.releases.find((candidate) => candidate.swversion === versions[0]!.value)
    const age = release ? `, first seen ${words.span(surroundings.now - Date.parse(`${release.since.replace(' ', 'T')}Z`))} ago` : ''
    no.push({ slug: 'newest-firmware-only', text: `only new firmware is hit (${versions.map(({ value }) => value).join(', ')}${age}): the release may have brought the bug`, term: { name: 'only on new firmware', value: -2 } })
  } else if (versions.length > 1) {
    yes.push({ slug: 'many-versions', text: `${versions.length} firmware versions are hit, so no single release brought it`, term: { name: 'many versions', value: 1 } })
  } else if (surroundings.fleet.versions > 1) no.push({ slug: 'one-version', text: `only firmware ${versions[0]!.value} is hit, and the fleet runs ${surroundings.fleet.versions}` })
}

export const reasonsOf = (signs: Sign[]): Reason[] => signs.map(({ slug, text }) => ({ slug, text }))
export const termsOf = (signs: Signs): { name: string; value: number }[] => [...signs.for, ...signs.against].flatMap(({ term }) => term ?? [])

/** Whom a bucket hit, as a sample and as counts. */
export function affected(bucket: string, surroundings: Surroundings): Pick<AlertEvidence, 'devices' | 'firmware' | 'sources' | 'peers' | 'buckets' | 'first_crash_ids'> {
  const devices = surroundings.devices.get(bucket) ?? []
  return {
    devices: devices.slice(0, SAMPLE).map((device) => device.device),
    firmware: countBy(devices, (device) => device.swversion).slice(0, SAMPLE).map(({ value, count }) => ({ swversion: value, devices: count })),
    sources: countBy(devices, (device) => device.source).slice(0, SAMPLE).map(({ value, count }) => ({ source: value, devices: count })),
    peers: countBy(devices.filter(({ peer }) => peer !== ''), (device) => device.peer).slice(0, SAMPLE).map(({ value, count }) => ({ peer: value, devices: count })),
    buckets: [bucket],
    first_crash_ids: devices.slice(0, SAMPLE).map((device) => device.firstCrash),
  }
}
