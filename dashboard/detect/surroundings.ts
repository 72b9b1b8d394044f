import type { DetectorInput } from './finding.ts'
import { commonParams, COUNTED_SQL, CURRENT_SQL, ENGINE_SETTINGS_SQL, MERGED_SQL, membersOf, PEER_NETWORK_SQL } from './counted.ts'
import { HOUR, iso, msOf } from './time.ts'

/**
 * What lies around a suspicious bucket: whom it hit, and what the rest of the fleet was doing at the time.
 * The reasons for and against an attack (spread-evidence.ts) are computed from this and from nothing else.
 */
export interface BucketDevice {
  device: string
  first: number
  last: number
  crashes: number
  swname: string
  swversion: string
  hwmodel: string
  /** Network that the report came from: the device's own site. */
  source: string
  /** Network of the last peer that the device heard before it crashed, as it says; '' when it doesn't. */
  peer: string
  process: string
  /** Shortest time between an input and the crash, ms; null when the device doesn't say. */
  inputAgeMs: number | null
  /** A flipped bit would explain the crash. */
  bitFlip: boolean
  /** Other buckets of this device in 7 days. */
  otherBuckets: number
  firstCrash: string
}

export interface Surroundings {
  now: number
  releases: DetectorInput['releases']
  /** Devices per bucket in the last 24 h, first hit first; at most 500 of each. */
  devices: Map<string, BucketDevice[]>
  firstSeen: Map<string, number>
  /** Distinct devices per hour of the last three days, no hour missing. */
  series: Map<string, { at: string; devices: number }[]>
  /** Share of the fleet's crashing devices of 7 days, per network of origin and per network of the last peer. */
  usual: Record<Origin, Map<string, number>>
  fleet: { devices: number; versions: number; models: number }
  /** Devices with ordinary failures (E0, E1) in the last 6 h, and in the average 6 h of the 7 days before. */
  ordinary: { now: number; usual: number }
  /** Verdicts of 8 weeks on this detector's alerts. */
  record: { judged: number; wrong: number }
}

/** Where reports come from, and whom devices had heard: a site says `source`, somebody at the door says `peer`. */
export type Origin = 'source' | 'peer'
export interface SharedNetwork { origin: Origin; network: string; devices: number; usual: number }

const SERIES_HOURS = 72
/** Of six hours: the last, and those of the week before. */
const ORDINARY_SLOTS = 29

export async function readSurroundings(input: DetectorInput, buckets: string[], pattern = 'PRB-SPREAD'): Promise<Surroundings> {
  const { clickhouse, now, releases } = input
  const ask = async <Row>(query: string, more: Record<string, unknown> = {}): Promise<Row[]> => {
    const result = await clickhouse.query({ query, query_params: { ...commonParams(input), ...more }, format: 'JSONEachRow' })
    return result.json<Row>()
  }
  const [hit, seen, hours, networks, inventory, ordinary, verdicts] = await Promise.all([
    ask<HitRow>(HIT_SQL, { buckets }),
    ask<{ bucket: string; first: string }>(FIRST_SEEN_SQL, { buckets }),
    ask<{ merged: string; slot: number; devices: string }>(SERIES_SQL, { members: membersOf(input.merges, buckets), hours: SERIES_HOURS }),
    ask<{ origin: Origin; network: string; share: number }>(NETWORKS_SQL),
    ask<{ devices: string; versions: string; models: string }>(FLEET_SQL),
    ask<{ slot: number; devices: string }>(ORDINARY_SQL),
    ask<{ judged: string; wrong: string }>(RECORD_SQL, { pattern }),
  ])
  const slots = Array.from({ length: ORDINARY_SLOTS }, (_, slot) => Number(ordinary.find((row) => row.slot === slot)?.devices ?? 0))
  return {
    now,
    releases,
    devices: groupBy(hit, (row) => row.merged, toBucketDevice),
    firstSeen: new Map(seen.map((row) => [row.bucket, msOf(row.first)])),
    series: toSeries(hours, buckets, now),
    usual: { source: sharesOf(networks, 'source'), peer: sharesOf(networks, 'peer') },
    fleet: { devices: Number(inventory[0]?.devices ?? 0), versions: Number(inventory[0]?.versions ?? 0), models: Number(inventory[0]?.models ?? 0) },
    ordinary: { now: slots[0]!, usual: slots.slice(1).reduce((sum, devices) => sum + devices, 0) / (ORDINARY_SLOTS - 1) },
    record: { judged: Number(verdicts[0]?.judged ?? 0), wrong: Number(verdicts[0]?.wrong ?? 0) },
  }
}

/**
 * The network that most of the devices have in common, unless the fleet usually has it too (a NAT, a broker, everybody's
 * cloud): the one they had heard before the one they reported from.
 */
export function sharedNetwork(surroundings: Surroundings, bucket: string): SharedNetwork | undefined {
  const devices = surroundings.devices.get(bucket) ?? []
  for (const origin of ['peer', 'source'] as const) {
    const [top] = countBy(devices.filter((device) => device[origin] !== ''), (device) => device[origin])
    if (top === undefined || devices.length < 3 || top.count < 3 || top.count * 2 < devices.length) continue
    const usual = surroundings.usual[origin].get(top.value) ?? 0
    if (usual * 2 < top.count / devices.length) return { origin, network: top.value, devices: top.count, usual }
  }
  return undefined
}

export function countBy<T>(items: readonly T[], key: (item: T) => string): { value: string; count: number }[] {
  const counts = new Map<string, number>()
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + 1)
  return [...counts].map(([value, count]) => ({ value, count })).sort((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1))
}

interface HitRow {
  merged: string; device: string; first: string; last: string; crashes: string; swname: string; swversion: string; hwmodel: string
  source: string; peer: string; process: string; input_age: string | null; bit_flip: number; others: string; first_crash: string
}

const WITHIN = `${COUNTED_SQL} AND event_time <= {now:DateTime64(3, 'UTC')} AND event_time > {now:DateTime64(3, 'UTC')}`
const SETTINGS = `SETTINGS max_execution_time = 30, ${ENGINE_SETTINGS_SQL}`

// Asked only when something is suspicious; at 100 M rows in 28 days: one day with 14 columns, and a week of those devices' own rows.
const HIT_SQL = `
WITH ${MERGED_SQL}, ${PEER_NETWORK_SQL}, hit AS
(
  SELECT merged_into(bucket) AS merged, device, min(event_time) AS first, max(event_time) AS last, count() AS crashes,
    argMax(swname, event_time) AS swname, argMax(swversion, event_time) AS swversion, argMax(hwmodel, event_time) AS hwmodel,
    argMax(source, event_time) AS source, argMax(peer_network(peer), event_time) AS peer, argMax(process, event_time) AS process, min(last_input_age_ms) AS input_age,
    max(arrayExists(mark -> position(mark.slug, 'flip') > 0, evidence_against)) AS bit_flip, argMin(id, event_time) AS first_crash
  FROM crashes FINAL
  WHERE ${WITHIN} - INTERVAL 24 HOUR AND merged_into(bucket) IN ({buckets:Array(String)})
  GROUP BY merged, device
  ORDER BY first, device
  LIMIT 500 BY merged
)
SELECT hit.*, ifNull(others, 0) AS others
FROM hit LEFT JOIN
(
  SELECT device, uniqExact(merged_into(bucket)) - 1 AS others FROM device_crashes FINAL
  WHERE ${WITHIN} - INTERVAL 7 DAY AND device IN (SELECT device FROM hit)
  GROUP BY device
) AS week USING (device)
ORDER BY first, device
LIMIT 20000
${SETTINGS}`

const FIRST_SEEN_SQL = `
WITH ${MERGED_SQL}
SELECT merged_into(bucket) AS bucket, min(proven_since) AS first FROM buckets
WHERE fleet = {fleet:String} AND merged_into(buckets.bucket) IN ({buckets:Array(String)})
GROUP BY 1
${SETTINGS}`

export const SERIES_SQL = `
WITH ${MERGED_SQL}
SELECT merged_into(bucket) AS merged, toUInt32(date_diff('second', event_time, {now:DateTime64(3, 'UTC')}) / 3600) AS slot, uniqExact(device) AS devices
FROM bucket_crashes FINAL
WHERE ${WITHIN} - toIntervalHour({hours:UInt32}) AND bucket IN ({members:Array(String)}) AND ${CURRENT_SQL}
GROUP BY merged, slot
${SETTINGS}`

// Seven whole days, the last of them the one before yesterday: sets of devices by day and network.
const NETWORKS_SQL = `
SELECT property AS origin, value AS network, groupBitmapMerge(devices) AS its_devices, its_devices / sum(its_devices) OVER (PARTITION BY origin) AS share
FROM property_counts
WHERE fleet = {fleet:String} AND span = 86400 AND property IN ('source', 'peer') AND value != '' AND proven
  AND start >= toStartOfDay({now:DateTime64(3, 'UTC')}) - INTERVAL 8 DAY AND start < toStartOfDay({now:DateTime64(3, 'UTC')}) - INTERVAL 1 DAY
GROUP BY origin, network
ORDER BY share DESC, network
LIMIT 1000 BY origin
${SETTINGS}`

const FLEET_SQL = `
SELECT count() AS devices, uniqExact(version) AS versions, uniqExact(model) AS models FROM
(
  SELECT device, argMaxMerge(swversion) AS version, argMaxMerge(hwmodel) AS model, max(last_seen) AS last FROM devices
  WHERE fleet = {fleet:String} GROUP BY device HAVING last > {now:DateTime64(3, 'UTC')} - INTERVAL 28 DAY
)
${SETTINGS}`

// Whole hours back from the beginning of this one, six at a time; this hour belongs to the first six.
const ORDINARY_SQL = `
SELECT toUInt8(intDiv(greatest(1, toUnixTimestamp(toStartOfHour({now:DateTime64(3, 'UTC')})) - toUnixTimestamp(start)) - 1, 21600)) AS slot, groupBitmapMerge(verified) AS devices
FROM fleet_counts
WHERE fleet = {fleet:String} AND start > {now:DateTime64(3, 'UTC')} - INTERVAL 175 HOUR AND start <= {now:DateTime64(3, 'UTC')} AND evidence <= 1
GROUP BY slot
${SETTINGS}`

export const RECORD_SQL = `
SELECT count() AS judged, countIf(verdict != 'attack') AS wrong FROM
(
  SELECT subject, argMax(JSONExtractString(body, 'verdict'), number) AS verdict FROM events FINAL
  WHERE fleet = {fleet:String} AND kind = 'alert.verdict' AND at > {now:DateTime64(3, 'UTC')} - INTERVAL 56 DAY AND at <= {now:DateTime64(3, 'UTC')}
    AND startsWith(subject, 'alert:') AND substring(subject, 7) IN (SELECT id FROM alerts WHERE fleet = {fleet:String} AND pattern = {pattern:String})
  GROUP BY subject
)
${SETTINGS}`

function sharesOf(rows: { origin: Origin; network: string; share: number }[], origin: Origin): Map<string, number> {
  return new Map(rows.filter((row) => row.origin === origin).map(({ network, share }) => [network, share]))
}

function toBucketDevice(row: HitRow): BucketDevice {
  return {
    device: row.device, first: msOf(row.first), last: msOf(row.last), crashes: Number(row.crashes), swname: row.swname, swversion: row.swversion,
    hwmodel: row.hwmodel, source: row.source, peer: row.peer, process: row.process, inputAgeMs: row.input_age === null ? null : Number(row.input_age),
    bitFlip: row.bit_flip === 1, otherBuckets: Number(row.others), firstCrash: row.first_crash,
  }
}

function toSeries(rows: { merged: string; slot: number; devices: string }[], buckets: string[], now: number) {
  const counts = new Map(rows.map((row) => [`${row.merged} ${row.slot}`, Number(row.devices)]))
  const slots = Array.from({ length: SERIES_HOURS }, (_, index) => SERIES_HOURS - 1 - index)
  return new Map(buckets.map((bucket) => [bucket, slots.map((slot) => ({ at: iso(now - (slot + 1) * HOUR), devices: counts.get(`${bucket} ${slot}`) ?? 0 }))]))
}

function groupBy<Row, T>(rows: Row[], key: (row: Row) => string, value: (row: Row) => T): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const row of rows) {
    const group = groups.get(key(row))
    if (group === undefined) groups.set(key(row), [value(row)])
    else group.push(value(row))
  }
  return groups
}
