import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, askOne, flag, iso, number, sqlTime } from './ask.ts'
import { countsOf } from './counts.ts'
import type { Merges } from './merges.ts'
import { DEVICE, MERGED, mergeParams, PLACE, scopeParams, VERIFIED, type Scope } from './scope.ts'
import { HOUR } from './spans.ts'

/**
 * What changed: crashes, devices, new buckets and dead letters of the last span against the span before, and both by the hour?
 * `scope` is both spans; `middle` divides them.
 *
 * Counted from sets of hours over all buckets (infra/clickhouse/schema/011-counts-at-scale.sql): five rows an hour, whatever the number
 * of crashes. The hours at the edges of the spans, and those from which a crash was taken away since, are read crash by crash:
 * some 45,000 at 10 M crashes in 28 days. A crash that was analysed again stays what it was in every number but that of its evidence,
 * so it is taken out of the sets and counted with the evidence that it has now; its device stays.
 *
 * A crash has one hour and one evidence, so sets of crashes are united once, by both, and their sizes are added; devices come again,
 * so theirs are united by hour and by span too.
 */
const MOVED = `(SELECT groupBitmapState(${PLACE}) FROM revised_crashes
    WHERE fleet = {fleet:String} AND event_time >= {first:DateTime64(3)} AND event_time < {to:DateTime64(3)})`
const ONE = 'event_time, evidence, partition, offset, device, device_number, auth_level'
const IN_SPANS = `fleet = {fleet:String} AND standing IN ('counted', 'claimed') AND event_time >= {first:DateTime64(3)} AND event_time < {to:DateTime64(3)}`
/** As they came, not FINAL: in a set a row that was written twice is one, and those that were analysed again are in the other half. */
const EDGES = `
        SELECT ${ONE} FROM crashes
        WHERE ${IN_SPANS} AND revision = 0
          AND ((event_time < {first_end:DateTime64(3)}) OR (event_time >= {middle_hour:DateTime64(3)} AND event_time < {middle_end:DateTime64(3)}) OR (event_time >= {last_hour:DateTime64(3)}))
          AND NOT bitmapContains(${MOVED}, ${PLACE})
        UNION ALL
        SELECT ${ONE} FROM revised_crashes FINAL WHERE ${IN_SPANS}`
/** Hours that no range of the key tells: all of both spans are looked through for them, and each crash is what it is now. */
const EDGES_AND_OTHERS = `
        SELECT ${ONE} FROM crashes FINAL WHERE ${IN_SPANS} AND toUnixTimestamp(toStartOfHour(event_time)) IN {single:Array(UInt32)}
        UNION ALL
        SELECT ${ONE} FROM revised_crashes FINAL WHERE ${IN_SPANS} AND toUnixTimestamp(toStartOfHour(event_time)) NOT IN {single:Array(UInt32)}`
const COUNTED_HOURS = {
  sql: (SINGLE: string) => `
SELECT grouping(half) = 0 AS by_half, half, slot, sum(united.crashes) AS crashes, sumMap([united.evidence], [united.crashes]) AS by_evidence,
       bitmapOrCardinality(groupBitmapMergeState(united.verified), groupBitmapMergeState(united.unverified)) AS devices
FROM
(
  SELECT half, evidence, slot, groupBitmapMerge(sets.crashes) AS crashes, groupBitmapMergeState(sets.verified) AS verified, groupBitmapMergeState(sets.unverified) AS unverified
  FROM
  (
    SELECT if(start >= {middle:DateTime64(3)}, 'now', 'before') AS half, evidence, toInt64(intDiv(toUnixTimestamp(start) - intDiv({first_ms:Int64}, 1000), 3600)) AS slot,
           bitmapAndnot(fleet_counts.crashes, ${MOVED}) AS crashes, verified, unverified
    FROM fleet_counts
    WHERE fleet = {fleet:String} AND start >= {first:DateTime64(3)} AND start < {to:DateTime64(3)} AND toUnixTimestamp(start) NOT IN {single:Array(UInt32)}
    UNION ALL
    SELECT multiIf(event_time >= {middle:DateTime64(3)}, 'now', event_time >= {from:DateTime64(3)}, 'before', '') AS half, evidence, intDiv(toUnixTimestamp64Milli(event_time) - {first_ms:Int64}, 3600000) AS slot,
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
WHERE fleet = {fleet:String} AND start >= {first:DateTime64(3)} AND start < {to:DateTime64(3)}
  AND bitmapHasAny(fleet_counts.crashes, (SELECT groupBitmapState(${PLACE}) FROM revised_crashes FINAL
    WHERE fleet = {fleet:String} AND standing NOT IN ('counted', 'claimed') AND event_time >= {first:DateTime64(3)} AND event_time < {to:DateTime64(3)}))`,
  row: z.object({ hour: number }),
}

/** What waits for symbols, of the last span in whole hours: only sets of buckets that do. */
const WAITING = {
  sql: (COUNTS: string) => `
SELECT groupBitmapMerge(sets.crashes) AS crashes, bitmapOrCardinality(groupBitmapMergeState(verified), groupBitmapMergeState(unverified)) AS devices, length(groupUniqArrayArray(sets.modules)) AS modules
FROM (${COUNTS}) AS sets`,
  row: z.object({ crashes: number, devices: number, modules: number }),
}

const NEW_BUCKETS = {
  sql: `
SELECT countIf(first >= {middle:DateTime64(3)} AND first < {to:DateTime64(3)}) AS now, countIf(first >= {from:DateTime64(3)} AND first < {middle:DateTime64(3)}) AS before
FROM (SELECT ${MERGED} AS id, min(first_seen) AS first FROM buckets WHERE fleet = {fleet:String} GROUP BY id)`,
  row: z.object({ now: number, before: number }),
}

const DEAD_LETTERS = {
  sql: `
SELECT countIf(at >= {middle:DateTime64(3)}) AS now, countIf(at < {middle:DateTime64(3)}) AS before
FROM dead_letters FINAL
WHERE at >= {from:DateTime64(3)} AND at < {to:DateTime64(3)}`,
  row: z.object({ now: number, before: number }),
}

const NOTHING: Pick<z.output<typeof COUNTED_HOURS.row>, 'crashes' | 'devices' | 'by_evidence'> = { crashes: 0, devices: 0, by_evidence: [[], []] }

export async function readChanges(clickhouse: ClickHouse, scope: Scope, middle: number, merges: Merges) {
  const first = Math.floor(scope.from / HOUR) * HOUR
  const params = { ...scopeParams(scope), ...mergeParams(merges), middle: sqlTime(middle), first: sqlTime(first), first_ms: first }
  const [rows, waiting, buckets, deadLetters] = await Promise.all([
    countHours(clickhouse, params, [scope.from, middle, scope.to]), countWaiting(clickhouse, { ...scope, from: Math.floor(middle / HOUR) * HOUR, to: Math.ceil(scope.to / HOUR) * HOUR }),
    askOne(clickhouse, NEW_BUCKETS, params), askOne(clickhouse, DEAD_LETTERS, params),
  ])
  const of = (half: 'now' | 'before') => rows.find((row) => row.by_half && row.half === half) ?? NOTHING
  const [now, before] = [of('now'), of('before')]
  const slots = Array.from({ length: Math.ceil((scope.to - first) / HOUR) }, (_, slot) => rows.find((row) => !row.by_half && row.slot === slot))
  return {
    crashes: { now: now.crashes, before: before.crashes },
    devices: { now: now.devices, before: before.devices },
    new_buckets: buckets,
    dead_letters: deadLetters,
    by_evidence: [0, 1, 2, 3, 4].map((evidence) => now.by_evidence[1][now.by_evidence[0].indexOf(evidence)] ?? 0),
    unsymbolicated: waiting,
    series: { from: iso(first), step_seconds: HOUR / 1000, crashes: slots.map((row) => row?.crashes ?? 0), devices: slots.map((row) => row?.devices ?? 0) },
  }
}

async function countHours(clickhouse: ClickHouse, params: Record<string, unknown>, edges: readonly number[]): Promise<z.output<typeof COUNTED_HOURS.row>[]> {
  const takenAway = await ask(clickhouse, TAKEN_AWAY, params)
  const [first = 0, middle = 0, last = 0] = edges.map((edge) => Math.floor(edge / HOUR) * HOUR)
  const single = [...[first, middle, last].map((ms) => ms / 1000), ...takenAway.map(({ hour }) => hour)]
  const SQL = COUNTED_HOURS.sql(takenAway.length === 0 ? EDGES : EDGES_AND_OTHERS)
  return ask(clickhouse, { sql: SQL, row: COUNTED_HOURS.row }, {
    ...params, single: [...new Set(single)], first_end: sqlTime(first + HOUR), middle_hour: sqlTime(middle), middle_end: sqlTime(middle + HOUR), last_hour: sqlTime(last),
  })
}

async function countWaiting(clickhouse: ClickHouse, scope: Scope): Promise<z.output<typeof WAITING.row>> {
  const { COUNTS, params } = await countsOf(clickhouse, { scope, waiting: true })
  return askOne(clickhouse, { sql: WAITING.sql(COUNTS), row: WAITING.row }, params)
}
