import { z } from 'zod'
import type { Series } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, iso, number } from './ask.ts'
import { askCounts, type Revised } from './counts.ts'
import { COUNTED, scopeParams, type Scope } from './scope.ts'
import { DAY, HOUR, QUARTER, WEEK } from './spans.ts'

/**
 * How many crashes and distinct devices fell into each slot of the range? Of everything, of some buckets, or of a device.
 * Slots of whole hours or days are counted from sets (counts.ts). Shorter ones read time, device and bucket of the range, which is
 * half a day at most: 0.04 s at 10 M crashes in 28 days, ten times that at 100 M. Of one device its own rows are read, which lie side
 * by side: milliseconds at any size.
 */
const row = z.object({ slot: number, crashes: number, devices: number })
const FROM_SETS = {
  sql: (COUNTS: string) => `
SELECT intDiv(toUnixTimestamp64Milli(toDateTime64(sets.start, 3, 'UTC')) - {first:Int64}, {step:Int64}) AS slot, groupBitmapMerge(sets.crashes) AS crashes,
       bitmapOrCardinality(groupBitmapMergeState(verified), groupBitmapMergeState(unverified)) AS devices
FROM (${COUNTS}) AS sets
GROUP BY slot`,
  row,
}
const FROM_CRASHES = {
  sql: (CRASHES: string) => `
SELECT intDiv(toUnixTimestamp64Milli(event_time) - {first:Int64}, {step:Int64}) AS slot, count() AS crashes, uniqExact(device) AS devices
FROM ${CRASHES} FINAL
WHERE ${COUNTED}
  AND (empty({only:Array(String)}) OR bucket IN {only:Array(String)})
  AND ({device:String} = '' OR device = {device:String})
GROUP BY slot`,
  row,
}

export async function readSeries(clickhouse: ClickHouse, scope: Scope, stepMs: number, { buckets: only = [], device = '', revised }: { buckets?: readonly string[]; device?: string; revised?: Revised } = {}): Promise<Series> {
  const slots = Math.max(1, Math.ceil((scope.to - scope.from) / stepMs))
  const slotting = { first: scope.from, step: stepMs }
  const rows = device === '' && isWhole(scope, stepMs, HOUR)
    ? await askCounts(clickhouse, { scope, only, columns: ['start', 'crashes', 'verified', 'unverified'], longest: longestIn(scope, stepMs), revised }, FROM_SETS, slotting)
    : await ask(clickhouse, { sql: FROM_CRASHES.sql(device === '' ? 'crashes' : 'device_crashes'), row }, { ...scopeParams(scope), ...slotting, only, device })
  const crashes = new Array<number>(slots).fill(0)
  const devices = new Array<number>(slots).fill(0)
  for (const row of rows) {
    if (row.slot >= slots) continue
    crashes[row.slot] = row.crashes
    devices[row.slot] = row.devices
  }
  return { from: iso(scope.from), step_seconds: stepMs / 1000, crashes, devices }
}

const MINUTE = 60_000

/** Whether each slot is made of whole units. */
export const isWhole = ({ from, to }: Scope, stepMs: number, unit: number): boolean => from % unit === 0 && to % unit === 0 && stepMs % unit === 0

/** The longest sets, ms, of which each lies in one slot. */
export const longestIn = (scope: Scope, stepMs: number): number => [WEEK, DAY, QUARTER].find((unit) => isWhole(scope, stepMs, unit)) ?? HOUR

const STEPS = [MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, QUARTER, 12 * HOUR, DAY, WEEK]

/** The range widened to whole steps, with the smallest step of at least `atLeastMs` that keeps within `slots`. */
export function slotted(scope: Scope, slots: number, atLeastMs = MINUTE): { scope: Scope; stepMs: number } {
  const stepMs = STEPS.find((step) => step >= atLeastMs && (scope.to - scope.from) / step <= slots - 1) ?? Math.ceil((scope.to - scope.from) / (slots - 1) / HOUR) * HOUR
  return { stepMs, scope: { ...scope, from: Math.floor(scope.from / stepMs) * stepMs, to: Math.ceil(scope.to / stepMs) * stepMs } }
}
