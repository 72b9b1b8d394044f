import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, sqlTime } from './ask.ts'
import type { Scope } from './scope.ts'

/**
 * Crashes of a range as sets, exact at any moment: what lists, charts and totals are counted from.
 *
 *   |--edge--|--hours--|-------- days --------|--hours--|--edge--|
 *   from   hours_from  days_from        days_to    hours_to      to
 *
 * Whole days and hours come from `bucket_counts`, what is left at the edges from `crashes FINAL`; together they are sets that
 * are united, so that a crash that was written twice, late or in between is one (infra/clickhouse/schema/009-counts.sql).
 * A row of `bucket_counts` that holds a crash that was analysed again is left out: such crashes count one by one from
 * `revised_crashes`, and those that shared a row with them, which is rare, from `crashes FINAL`. While crashes are being
 * analysed again a number may be that of a moment ago; it is exact as soon as the last of them is written.
 *
 * With 600 buckets and 28 days, whatever the number of crashes: 17,000 rows of days, up to 30,000 rows of hours, and two hours
 * of crashes (at 10 M rows 30,000 of them, at 100 M 300,000). Reading and uniting sets costs the engine some 20 us a row and
 * 50 to 100 ns a crash that is not in a dense set: measured at 10 M, 1 s of CPU for the crashes of 28 days and 0.7 s for their
 * devices; at 100 M the same rows hold denser sets, about two and a half times that. 24 h: a tenth of it.
 */
export const COUNTS = `
  SELECT bucket, evidence, kind, waiting, start, crashes, verified, unverified, provisional, first_seen, last_seen, strongest, oldest, newest, swversions, compartments, modules
  FROM bucket_counts
  WHERE fleet = {fleet:String} AND (empty({only:Array(String)}) OR bucket IN {only:Array(String)})
    AND ((span = 86400 AND start >= {days_from:DateTime64(3)} AND start < {days_to:DateTime64(3)})
      OR (span = 3600 AND start >= {hours_from:DateTime64(3)} AND start < {days_from:DateTime64(3)})
      OR (span = 3600 AND start >= {days_to:DateTime64(3)} AND start < {hours_to:DateTime64(3)}))
    AND (NOT {revised:UInt8} OR NOT bitmapHasAny(crashes, (
      SELECT groupBitmapState(bitShiftLeft(toUInt64(partition), 40) + offset) FROM revised_crashes
      WHERE fleet = {fleet:String} AND event_time >= {hours_from:DateTime64(3)} AND event_time < {hours_to:DateTime64(3)})))
  UNION ALL
  SELECT bucket, evidence, kind, notEmpty(its.modules) AS waiting, toDateTime64(intDiv(toUnixTimestamp64Milli(its.event_time), 3600000) * 3600, 0, 'UTC') AS start,
         groupBitmapState(bitShiftLeft(toUInt64(partition), 40) + offset) AS crashes,
         groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level IN ('payload-signed', 'transport-authenticated')) AS verified,
         groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level NOT IN ('payload-signed', 'transport-authenticated')) AS unverified,
         min(its.provisional) AS provisional, min(event_time) AS first_seen, max(event_time) AS last_seen,
         max((its.evidence, event_time, id, title, signature, toString(severity))) AS strongest, min((event_time, id)) AS oldest, max((event_time, id)) AS newest,
         groupUniqArrayIf(toString(swversion), swversion != '') AS swversions, groupUniqArrayIf(toString(compartment), compartment != '') AS compartments,
         groupUniqArrayArray(its.modules) AS modules
  FROM
  (
    SELECT bucket, evidence, kind, event_time, id, partition, offset, device, device_number, auth_level, provisional, title, signature, severity, swversion, compartment,
           arrayMap(module -> module.debug_id, missing_symbols) AS modules
    FROM crashes FINAL
    WHERE fleet = {fleet:String} AND standing IN ('counted', 'claimed') AND (empty({only:Array(String)}) OR bucket IN {only:Array(String)})
      AND ((event_time >= {from:DateTime64(3)} AND event_time < {hours_from:DateTime64(3)}) OR (event_time >= {hours_to:DateTime64(3)} AND event_time < {to:DateTime64(3)}))
      AND ({swversion:String} = '' OR swversion = {swversion:String})
    UNION ALL
    SELECT bucket, evidence, kind, event_time, id, partition, offset, device, device_number, auth_level, provisional, title, signature, severity, swversion, compartment, modules
    FROM revised_crashes FINAL
    WHERE {revised:UInt8} AND fleet = {fleet:String} AND standing IN ('counted', 'claimed') AND (empty({only:Array(String)}) OR bucket IN {only:Array(String)})
      AND event_time >= {hours_from:DateTime64(3)} AND event_time < {hours_to:DateTime64(3)}
    UNION ALL
    SELECT bucket, evidence, kind, event_time, id, partition, offset, device, device_number, auth_level, provisional, title, signature, severity, swversion, compartment,
           arrayMap(module -> module.debug_id, missing_symbols) AS modules
    FROM crashes FINAL
    WHERE fleet = {fleet:String} AND standing IN ('counted', 'claimed') AND revision = 0
      AND event_time >= {left_from:DateTime64(3)} AND event_time < {left_to:DateTime64(3)}
      AND ((3600, intDiv(toUnixTimestamp64Milli(event_time), 3600000) * 3600, bucket) IN (SELECT arrayJoin(arrayZip({left_spans:Array(UInt32)}, {left_starts:Array(Int64)}, {left_buckets:Array(String)})))
        OR (86400, intDiv(toUnixTimestamp64Milli(event_time), 86400000) * 86400, bucket) IN (SELECT arrayJoin(arrayZip({left_spans:Array(UInt32)}, {left_starts:Array(Int64)}, {left_buckets:Array(String)}))))
  ) AS its
  GROUP BY bucket, evidence, kind, waiting, start`

export interface CountsAsked {
  scope: Scope
  /** Buckets; none means all. */
  only?: readonly string[]
  /** Only crashes on this firmware, which sets don't know: the whole range is read crash by crash. */
  swversion?: string
  /** False where slots shorter than a day are wanted of everything. */
  byDay?: boolean
}

/** The parameters that COUNTS is bound with. */
export async function countsParams(clickhouse: ClickHouse, { scope: { fleet, from, to }, only = [], swversion = '', byDay = true }: CountsAsked): Promise<Record<string, unknown>> {
  const hours = swversion === '' ? within(from, to, HOUR) : { from: to, to }
  const days = byDay ? within(hours.from, hours.to, DAY) : { from: hours.from, to: hours.from }
  const [daysFrom, daysTo] = days.from < days.to ? [days.from, days.to] : [hours.from, hours.from]
  const params = {
    fleet, only, swversion, from: sqlTime(from), to: sqlTime(to), hours_from: sqlTime(hours.from), hours_to: sqlTime(hours.to), days_from: sqlTime(daysFrom), days_to: sqlTime(daysTo),
  }
  const [revised] = hours.from < hours.to ? await ask(clickhouse, REVISED, params) : []
  const left = revised?.any ? await ask(clickhouse, LEFT, params) : []
  const starts = left.map(({ start }) => start * 1000)
  return {
    ...params, revised: revised?.any ? 1 : 0,
    left_from: sqlTime(left.length === 0 ? 0 : Math.min(...starts)), left_to: sqlTime(left.length === 0 ? 0 : Math.max(...starts) + DAY),
    left_spans: left.map(({ span }) => span), left_starts: left.map(({ start }) => start), left_buckets: left.map(({ bucket }) => bucket),
  }
}

const HOUR = 3_600_000
const DAY = 24 * HOUR

/** The whole units inside a range; empty at its end when there is none. */
function within(from: number, to: number, unit: number): { from: number; to: number } {
  const [first, last] = [Math.ceil(from / unit) * unit, Math.floor(to / unit) * unit]
  return first < last ? { from: first, to: last } : { from: to, to }
}

// Reads a range of a table that has only what was analysed again.
const REVISED = {
  sql: `SELECT count() > 0 AS any FROM revised_crashes WHERE fleet = {fleet:String} AND event_time >= {hours_from:DateTime64(3)} AND event_time < {hours_to:DateTime64(3)}`,
  row: z.object({ any: z.number() }),
}

/** Rows of `bucket_counts` that some crashes have left and others not. Asked only where crashes were analysed again. */
const LEFT = {
  sql: `
WITH
(
    SELECT groupBitmapState(bitShiftLeft(toUInt64(partition), 40) + offset) FROM revised_crashes
    WHERE fleet = {fleet:String} AND event_time >= {hours_from:DateTime64(3)} AND event_time < {hours_to:DateTime64(3)}
) AS moved
SELECT DISTINCT span, toUnixTimestamp64Milli(toDateTime64(start, 3, 'UTC')) / 1000 AS start, bucket
FROM bucket_counts
WHERE fleet = {fleet:String} AND (empty({only:Array(String)}) OR bucket IN {only:Array(String)})
  AND ((span = 86400 AND bucket_counts.start >= {days_from:DateTime64(3)} AND bucket_counts.start < {days_to:DateTime64(3)})
    OR (span = 3600 AND bucket_counts.start >= {hours_from:DateTime64(3)} AND bucket_counts.start < {days_from:DateTime64(3)})
    OR (span = 3600 AND bucket_counts.start >= {days_to:DateTime64(3)} AND bucket_counts.start < {hours_to:DateTime64(3)}))
  AND bitmapHasAny(crashes, moved) AND NOT bitmapHasAll(moved, crashes)`,
  row: z.object({ span: z.number(), start: z.number(), bucket: z.string() }),
}
