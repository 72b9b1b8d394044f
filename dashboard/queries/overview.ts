import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, askOne, flag, iso, number, sqlTime, strings } from './ask.ts'
import { askCounts, type Revised } from './counts.ts'
import type { Merges } from './merges.ts'
import { COUNTED, DEVICE, MERGED, mergeParams, MOVED, PLACE, scopeParams, VERIFIED, type Scope } from './scope.ts'
import { DAY, HOUR } from './spans.ts'

/**
 * What changed: crashes, devices, new buckets and dead letters of this hour and the 23 before it against the day before, up to the same minute,
 * and both by the hour? A day of whole hours, so that it is the one that lists of buckets show.
 *
 * Counted from sets of hours over all buckets (infra/clickhouse/schema/011-counts-at-scale.sql): five rows an hour, whatever the number
 * of crashes. The hour that the minute a day ago divides, and those from which a crash was taken away since, are read crash by crash:
 * some 15,000 at 10 M crashes in 28 days. A crash that was analysed again stays what it was in every number but that of its evidence,
 * so it is taken out of the sets and counted with the evidence that it has now; its device stays.
 *
 * A crash has one hour and one evidence, so sets of crashes are united once, by both, and their sizes are added; devices come again,
 * so theirs are united by hour and by day too.
 */
const ONE = 'event_time, evidence, partition, offset, device, device_number, auth_level'
const REVISED_ARM = `
        UNION ALL
        SELECT ${ONE} FROM revised_crashes FINAL WHERE ${COUNTED}`
/** As they came, not FINAL: in a set a row that was written twice is one, and those that were analysed again are in the other arm. */
const divided = (revised: boolean) => `
        SELECT ${ONE} FROM crashes
        WHERE fleet = {fleet:String} AND event_time >= {middle_hour:DateTime64(3)} AND event_time < {middle:DateTime64(3)} AND standing IN ('counted', 'claimed') AND revision = 0${revised ? `
          AND NOT bitmapContains(${MOVED}, ${PLACE})${REVISED_ARM}` : ''}`
/** Hours that no range of the key tells: both days are looked through for them, and each crash is what it is now. */
const DIVIDED_AND_OTHERS = `
        SELECT ${ONE} FROM crashes FINAL WHERE ${COUNTED} AND toUnixTimestamp(toStartOfHour(event_time)) IN {single:Array(UInt32)}${REVISED_ARM}
          AND toUnixTimestamp(toStartOfHour(event_time)) NOT IN {single:Array(UInt32)}`
const COUNTED_HOURS = {
  sql: (SINGLE: string, revised: boolean) => `
SELECT grouping(half) = 0 AS by_half, half, slot, sum(united.crashes) AS crashes, sumMap([united.evidence], [united.crashes]) AS by_evidence,
       bitmapOrCardinality(groupBitmapMergeState(united.verified), groupBitmapMergeState(united.unverified)) AS devices
FROM
(
  SELECT half, evidence, slot, groupBitmapMerge(sets.crashes) AS crashes, groupBitmapMergeState(sets.verified) AS verified, groupBitmapMergeState(sets.unverified) AS unverified
  FROM
  (
    SELECT if(start >= {middle:DateTime64(3)}, 'now', 'before') AS half, evidence, toInt64(intDiv(toUnixTimestamp(start) - intDiv({from_ms:Int64}, 1000), 3600)) AS slot,
           ${revised ? `bitmapAndnot(fleet_counts.crashes, ${MOVED})` : 'fleet_counts.crashes'} AS crashes, verified, unverified
    FROM fleet_counts
    WHERE fleet = {fleet:String} AND start >= {from:DateTime64(3)} AND start < {to:DateTime64(3)} AND toUnixTimestamp(start) NOT IN {single:Array(UInt32)}
    UNION ALL
    SELECT multiIf(event_time >= {middle:DateTime64(3)}, 'now', event_time < {before_end:DateTime64(3)}, 'before', '') AS half, evidence, intDiv(toUnixTimestamp64Milli(event_time) - {from_ms:Int64}, 3600000) AS slot,
           groupBitmapState(${PLACE}) AS crashes,
           groupBitmapStateIf(${DEVICE}, ${VERIFIED}) AS verified,
           groupBitmapStateIf(${DEVICE}, NOT ${VERIFIED}) AS unverified
    FROM (${SINGLE})
    GROUP BY half, evidence, slot
  ) AS sets
  GROUP BY half, evidence, slot
) AS united
GROUP BY GROUPING SETS ((slot), (half))`,
  row: z.object({ by_half: flag, half: z.string(), slot: number, crashes: number, by_evidence: z.tuple([z.array(number), z.array(number)]), devices: number }),
}

// Hours from which crashes were taken away (overrun device forget): sets of devices can't tell what is left.
const TAKEN_AWAY = {
  sql: `
SELECT DISTINCT toUnixTimestamp(start) AS hour FROM fleet_counts
WHERE fleet = {fleet:String} AND start >= {from:DateTime64(3)} AND start < {to:DateTime64(3)}
  AND bitmapHasAny(fleet_counts.crashes, (SELECT groupBitmapState(${PLACE}) FROM revised_crashes
    WHERE fleet = {fleet:String} AND standing = 'forgotten' AND event_time >= {from:DateTime64(3)} AND event_time < {to:DateTime64(3)}))`,
  row: z.object({ hour: number }),
}

/** What waits for symbols: only sets of buckets that do. */
const WAITING = {
  sql: (COUNTS: string) => `
SELECT groupBitmapMerge(sets.crashes) AS crashes, bitmapOrCardinality(groupBitmapMergeState(verified), groupBitmapMergeState(unverified)) AS devices, length(groupUniqArrayArray(sets.modules)) AS modules
FROM (${COUNTS}) AS sets`,
  row: z.object({ crashes: number, devices: number, modules: number }),
}

/** With the newest fifty of the last day, as they are without merges. As many rows as there are buckets. */
const NEW_BUCKETS = {
  sql: `
SELECT countIf(first >= {middle:DateTime64(3)} AND first < {to:DateTime64(3)}) AS now, countIf(first >= {from:DateTime64(3)} AND first < {before_end:DateTime64(3)}) AS before,
       arrayFlatten(arrayMap(x -> x.2, arraySlice(arrayReverseSort(groupArrayIf((first, members), first >= {middle:DateTime64(3)})), 1, 50))) AS newest
FROM (SELECT ${MERGED} AS id, min(first_seen) AS first, groupUniqArray(bucket) AS members FROM buckets WHERE fleet = {fleet:String} GROUP BY id)`,
  row: z.object({ now: number, before: number, newest: strings }),
}

const DEAD_LETTERS = {
  sql: `
SELECT countIf(at >= {middle:DateTime64(3)}) AS now, countIf(at < {before_end:DateTime64(3)}) AS before
FROM dead_letters FINAL
WHERE at >= {from:DateTime64(3)} AND at < {to:DateTime64(3)}`,
  row: z.object({ now: number, before: number }),
}

const NOTHING: Pick<z.output<typeof COUNTED_HOURS.row>, 'crashes' | 'devices' | 'by_evidence'> = { crashes: 0, devices: 0, by_evidence: [[], []] }

/** Two days of whole hours, the second up to the end of this one; `beforeEnd` is now, a day ago. */
export interface TwoDays { fleet: string; from: number; middle: number; beforeEnd: number; to: number }

export function twoDaysUntil(now: number, fleet: string): TwoDays {
  const to = Math.floor(now / HOUR + 1) * HOUR
  return { fleet, from: to - 2 * DAY, middle: to - DAY, beforeEnd: now + 1 - DAY, to }
}

const paramsOf = (days: TwoDays) => ({ ...scopeParams(days), middle: sqlTime(days.middle), before_end: sqlTime(days.beforeEnd) })

export async function readChanges(clickhouse: ClickHouse, days: TwoDays, revised: Revised) {
  const { from, middle, to } = days
  const [rows, waiting, deadLetters] = await Promise.all([
    countHours(clickhouse, days, revised), countWaiting(clickhouse, { ...days, from: middle }, revised), askOne(clickhouse, DEAD_LETTERS, paramsOf(days)),
  ])
  const of = (half: 'now' | 'before') => rows.find((row) => row.by_half && row.half === half) ?? NOTHING
  const [now, before] = [of('now'), of('before')]
  const slots = Array.from({ length: (to - from) / HOUR }, (_, slot) => rows.find((row) => !row.by_half && row.slot === slot))
  return {
    crashes: { now: now.crashes, before: before.crashes },
    devices: { now: now.devices, before: before.devices },
    dead_letters: deadLetters,
    by_evidence: [0, 1, 2, 3, 4].map((evidence) => now.by_evidence[1][now.by_evidence[0].indexOf(evidence)] ?? 0),
    unsymbolicated: waiting,
    series: { from: iso(from), step_seconds: HOUR / 1000, crashes: slots.map((row) => row?.crashes ?? 0), devices: slots.map((row) => row?.devices ?? 0) },
  }
}

/** How many buckets are new, and which: at most fifty, newest first, each with what was merged into it. */
export const readNewBuckets = (clickhouse: ClickHouse, days: TwoDays, merges: Merges): Promise<z.output<typeof NEW_BUCKETS.row>> => askOne(clickhouse, NEW_BUCKETS, { ...paramsOf(days), ...mergeParams(merges) })

async function countHours(clickhouse: ClickHouse, days: TwoDays, { buckets, taken_away }: Revised): Promise<z.output<typeof COUNTED_HOURS.row>[]> {
  const params = { ...paramsOf(days), from_ms: days.from, middle_hour: sqlTime(days.middle - HOUR) }
  const takenAway = taken_away ? await ask(clickhouse, TAKEN_AWAY, params) : []
  const revised = buckets.length > 0
  const SQL = COUNTED_HOURS.sql(takenAway.length === 0 ? divided(revised) : DIVIDED_AND_OTHERS, revised)
  return ask(clickhouse, { sql: SQL, row: COUNTED_HOURS.row }, { ...params, single: [...new Set([(days.middle - HOUR) / 1000, ...takenAway.map(({ hour }) => hour)])] })
}

async function countWaiting(clickhouse: ClickHouse, scope: Scope, revised: Revised): Promise<z.output<typeof WAITING.row>> {
  const [counted] = await askCounts(clickhouse, { scope, columns: ['crashes', 'verified', 'unverified', 'modules'], waiting: true, revised }, WAITING)
  return counted ?? { crashes: 0, devices: 0, modules: 0 }
}
