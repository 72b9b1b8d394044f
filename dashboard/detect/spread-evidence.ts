import type { AlertEvidence } from './finding.ts'
import type { SpreadRow } from './spread.ts'
import { STRATA } from './finding.ts'
import { affected, reasonsOf, signsOf, termsOf } from './signs.ts'
import { sharedNetwork, type BucketDevice, type Surroundings } from './surroundings.ts'
import * as words from './words.ts'

/**
 * Why a spreading crash may be an attack, and why it may not: plain words first, numbers next, both sides always.
 * The score is ln(1/p) and a term for each sign (signs.ts).
 */
export function describeSpread(row: SpreadRow, surroundings: Surroundings): { title: string; evidence: AlertEvidence } {
  const devices = surroundings.devices.get(row.bucket) ?? []
  const signs = signsOf(row, surroundings)
  const usualDevices = (row.devicesBefore / row.historyHours) * row.windowHours
  const took = words.span(row.last - row.first)
  return {
    title: titleOf(row, took),
    evidence: {
      queue: STRATA[row.stratum].queue,
      what: `${words.devices(row.devicesInWindow)} crashed in the same way within ${row.windowHours} h (usual: ${words.rate(usualDevices)}; chance ${words.chance(row.lnP)}): ${row.title}`,
      facts: [
        { name: 'devices', value: `${row.devicesInWindow} in ${row.windowHours} h`, usual: `${words.rate(usualDevices)} in ${row.windowHours} h` },
        { name: 'chance', value: words.chance(row.lnP) },
        { name: 'history', value: `${words.rate(row.devicesBefore)} device-days in the ${words.span(row.historyHours * 3_600_000)} before` },
        { name: 'crashes', value: `${row.crashes} on ${words.devices(row.devices)} in 24 h` },
        { name: 'evidence class', value: `E${row.class}: ${STRATA[row.stratum].says}` },
        ...(row.phi > 1 ? [{ name: 'dispersion', value: `counts of this bucket swing ${words.rate(row.phi)} times as much as chance; allowed for` }] : []),
        ...(row.exposure > 1.05 ? [{ name: 'exposure', value: `${words.rate(row.exposure)} times as many devices as on the average before; allowed for` }] : []),
      ],
      for: reasonsOf(signs.for),
      against: reasonsOf(signs.against),
      unknown: signs.unknown,
      series: surroundings.series.get(row.bucket) ?? [],
      score_terms: [{ name: 'rarity', value: Math.round(-row.lnP * 10) / 10 }, ...termsOf(signs)],
      false_alarms: words.trackRecord(surroundings.record),
      do_now: whatToDo(row, devices, surroundings),
      attack: STRATA[row.stratum].queue === 'security' ? [
        { id: 'T1210', name: 'Exploitation of Remote Services' },
        { id: 'T0866', name: 'Exploitation of Remote Services (ICS)' },
      ] : [],
      ...affected(row.bucket, surroundings),
    },
  }
}

function titleOf(row: SpreadRow, took: string): string {
  const same = `on ${words.devices(row.devices)} in ${took}: ${row.title}`
  if (row.stratum === 'release') return `Came with a new release, ${same}`
  if (row.stratum === 'rest') return `Unusually many failures, ${same}`
  return `Possible attack: the same ${row.class === 4 ? 'loss of control flow' : 'memory corruption'} ${same}`
}

function whatToDo(row: SpreadRow, devices: BucketDevice[], surroundings: Surroundings): string[] {
  if (row.stratum === 'release') return ['Hold the rollout back until the crash is understood.', 'Compare the change list with the top frames of the bucket.', 'Mark the verdict.']
  if (row.stratum === 'rest') return ['Look for an outage of the services that these devices need.', 'Mark the verdict.']
  const shared = sharedNetwork(surroundings, row.bucket)
  const last = devices.toSorted((a, b) => b.last - a.last)[0]
  return [
    ...(shared ? [shared.origin === 'peer' ? `Watch or block ${shared.network} at the edge.` : `Look at the site behind ${shared.network}.`] : []),
    `Keep full dumps and network captures of ${words.devices(row.devices)}.`,
    ...(last ? [`Isolate ${last.device}, the last one that was hit, if it can be spared.`] : []),
    `Open a bug for ${row.title}.`,
    'Mark the verdict.',
  ]
}
