import type { AlertEvidence, DetectorInput } from './finding.ts'
import { commonParams, COUNTED_SQL, ENGINE_SETTINGS_SQL, PEER_NETWORK_SQL } from './counted.ts'
import { SAMPLE } from './finding.ts'
import { RECORD_SQL, countBy } from './surroundings.ts'
import { HOUR, iso, msOf } from './time.ts'
import * as words from './words.ts'

/** What one device did, for the detectors whose subject is a device (PRB-SWEEP, PRB-CANARY). */
export interface DeviceHour {
  /** Of the last hour, oldest first, at most 1,000. */
  crashes: { id: string; at: number; program: string; bucket: string; swname: string; swversion: string; source: string; peer: string; bitFlip: boolean; inputAgeMs: number | null }[]
  /** Crashes an hour of each program in the 28 days before. */
  usual: Map<string, number>
}
export interface DeviceHours { byDevice: Map<string, DeviceHour>; record: { judged: number; wrong: number } }

interface WireCrash {
  device: string; id: string; event_time: string; program: string; bucket: string; swname: string; swversion: string
  source: string; peer: string; bit_flip: number; last_input_age_ms: string | null
}

/** A program is a process, or the compartment where a device names no process. */
export const PROGRAM_SQL = `if(process = '', compartment, process)`
const SETTINGS = `SETTINGS max_execution_time = 30, ${ENGINE_SETTINGS_SQL}`

// At 100 M rows in 28 days: asked only for devices that already look suspicious; the index by device narrows the history.
const HOUR_SQL = `
WITH ${PEER_NETWORK_SQL}
SELECT device, id, event_time, ${PROGRAM_SQL} AS program, bucket, swname, swversion, source, peer_network(crashes.peer) AS peer,
  arrayExists(mark -> position(mark.slug, 'flip') > 0, evidence_against) AS bit_flip, last_input_age_ms
FROM crashes FINAL
WHERE ${COUNTED_SQL} AND device IN ({devices:Array(String)})
  AND event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 1 HOUR AND event_time <= {now:DateTime64(3, 'UTC')}
ORDER BY event_time, id
LIMIT 1000 BY device
${SETTINGS}`

const USUAL_SQL = `
SELECT device, ${PROGRAM_SQL} AS program, count() / 672 AS an_hour
FROM crashes FINAL
WHERE ${COUNTED_SQL} AND device IN ({devices:Array(String)})
  AND event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 673 HOUR AND event_time <= {now:DateTime64(3, 'UTC')} - INTERVAL 1 HOUR
GROUP BY device, program
${SETTINGS}`

export async function readDeviceHours(input: DetectorInput, devices: string[], pattern: string): Promise<DeviceHours> {
  const ask = async <Row>(query: string): Promise<Row[]> => {
    const result = await input.clickhouse.query({ query, query_params: { ...commonParams(input), devices, pattern }, format: 'JSONEachRow' })
    return result.json<Row>()
  }
  const [crashes, usual, record] = await Promise.all([
    ask<WireCrash>(HOUR_SQL), ask<{ device: string; program: string; an_hour: number }>(USUAL_SQL), ask<{ judged: string; wrong: string }>(RECORD_SQL),
  ])
  const byDevice = new Map<string, DeviceHour>(devices.map((device) => [device, { crashes: [], usual: new Map() }]))
  for (const row of crashes) {
    byDevice.get(row.device)?.crashes.push({
      id: row.id, at: msOf(row.event_time), program: row.program, bucket: row.bucket, swname: row.swname, swversion: row.swversion, source: row.source, peer: row.peer,
      bitFlip: row.bit_flip === 1, inputAgeMs: row.last_input_age_ms === null ? null : Number(row.last_input_age_ms),
    })
  }
  for (const row of usual) byDevice.get(row.device)?.usual.set(row.program, row.an_hour)
  return { byDevice, record: { judged: Number(record[0]?.judged ?? 0), wrong: Number(record[0]?.wrong ?? 0) } }
}

/** The parts of the evidence that are the same whatever the device was caught doing. */
export function describeDevice(device: string, program: string, hours: DeviceHours, now: number, releases: DetectorInput['releases']):
  Pick<AlertEvidence, 'for' | 'against' | 'unknown' | 'series' | 'false_alarms' | 'devices' | 'firmware' | 'sources' | 'peers' | 'buckets' | 'first_crash_ids'> {
  const { crashes, usual } = hours.byDevice.get(device) ?? { crashes: [], usual: new Map<string, number>() }
  const its = crashes.filter((crash) => crash.program === program)
  const result: Pick<AlertEvidence, 'for' | 'against' | 'unknown'> = { for: [], against: [], unknown: [] }
  const before = usual.get(program) ?? 0
  if (before * 10 < its.length) result.for.push({ slug: 'not-usual', text: `${program} usually crashes ${words.rate(before * 24)} times a day on this device` })
  else result.against.push({ slug: 'crashes-often', text: `${program} crashes ${words.rate(before * 24)} times a day on this device anyway` })

  const others = new Set(crashes.filter((crash) => crash.program !== program).map((crash) => crash.program))
  if (others.size === 0) result.for.push({ slug: 'one-program', text: 'nothing else on the device crashes, so its memory is probably sound' })
  else result.against.push({ slug: 'other-programs', text: `${[...others].slice(0, 5).join(', ')} crashed on the device too: failing hardware?` })

  const flips = its.filter((crash) => crash.bitFlip).length
  if (flips > 0) result.against.push({ slug: 'bit-flips', text: `a flipped bit would explain ${flips} of ${words.crashes(its.length)}` })
  const newest = its.at(-1)
  if (newest && releases.some((release) => release.swname === newest.swname && release.swversion === newest.swversion)) {
    result.against.push({ slug: 'new-firmware', text: `the device runs ${newest.swversion}, which is new` })
  }
  const inputs = its.filter((crash) => crash.inputAgeMs !== null)
  if (inputs.length === 0) result.unknown.push('whether network input came just before: the device does not say (last-input-age)')
  else {
    const soon = inputs.filter((crash) => crash.inputAgeMs! < 1000).length
    ;(soon * 2 >= inputs.length ? result.for : result.against).push({ slug: 'input', text: `network input came less than a second before ${soon} of ${words.crashes(inputs.length)}` })
  }
  return {
    ...result,
    series: Array.from({ length: 60 }, (_, minute) => {
      const from = now - HOUR + minute * 60_000
      return { at: iso(from), devices: its.some((crash) => crash.at >= from && crash.at < from + 60_000) ? 1 : 0 }
    }),
    false_alarms: words.trackRecord(hours.record),
    devices: [device],
    firmware: newest ? [{ swversion: newest.swversion, devices: 1 }] : [],
    sources: countBy(its, (crash) => crash.source).slice(0, SAMPLE).map(({ value }) => ({ source: value, devices: 1 })),
    peers: countBy(its.filter(({ peer }) => peer !== ''), (crash) => crash.peer).slice(0, SAMPLE).map(({ value }) => ({ peer: value, devices: 1 })),
    buckets: countBy(its, (crash) => crash.bucket).slice(0, SAMPLE).map(({ value }) => value),
    first_crash_ids: its.slice(0, SAMPLE).map((crash) => crash.id),
  }
}
