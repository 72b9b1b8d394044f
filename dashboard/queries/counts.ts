import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, askOne, sqlTime, strings } from './ask.ts'
import { DEVICE, PLACE, VERIFIED, type Scope } from './scope.ts'
import { spansOf, WEEK, wholeSpans } from './spans.ts'

/**
 * Crashes of a range as sets, exact at any moment: what lists, charts and totals are counted from.
 *
 * Whole weeks, days, quarters of days and hours (spans.ts) come from `bucket_counts`, what is left at the edges from `crashes FINAL`; together they
 * are sets that are united, so that a crash that was written twice, late or in between is one (infra/clickhouse/schema/009-counts.sql).
 * A row of `bucket_counts` that holds a crash that was analysed again is left out: such crashes count one by one from
 * `revised_crashes`, and those that shared a row with them, which is rare, from `bucket_crashes`. Only sets of buckets that such
 * crashes were in at first are asked whether they hold one. While crashes are being analysed again a number may be that of
 * a moment ago; it is exact as soon as the last of them is written.
 *
 * The text has only the arms that a range needs, because analysing one costs the engine 10 ms of CPU, however few rows it finds.
 * With 600 buckets, whatever the number of crashes: 24 h are some 5,000 rows of sets, 28 days 10,000, and up to two hours of
 * crashes at the edges. Measured at 10 M crashes in 28 days: 10 us a row for reading a set of a day of a bucket, as much for uniting it.
 */
const ROW = 'bucket, evidence, kind, waiting, start, crashes, verified, unverified, provisional, first_seen, last_seen, strongest, oldest, newest, swversions, compartments, modules'

const OF_FLEET = `fleet = {fleet:String} AND (empty({only:Array(String)}) OR bucket IN {only:Array(String)})`
const SPANS = wholeSpans('bucket_counts')
const IN_HOURS = `event_time >= {hours_from:DateTime64(3)} AND event_time < {hours_to:DateTime64(3)}`
const WAITING = `(NOT {waiting:UInt8} OR waiting)`

/** The crashes of the whole hours that were analysed again. */
const MOVED = `(SELECT groupBitmapState(${PLACE}) FROM revised_crashes WHERE fleet = {fleet:String} AND ${IN_HOURS})`
const MAY_HOLD_MOVED = `(has({first_buckets:Array(String)}, '') OR bucket IN {first_buckets:Array(String)})`

const SETS = `SELECT ${ROW} FROM bucket_counts WHERE ${OF_FLEET} AND ${WAITING} AND ${SPANS}`
const SETS_WITHOUT_MOVED = `${SETS} AND NOT (${MAY_HOLD_MOVED} AND bitmapHasAny(crashes, ${MOVED}))`

/** One by one, as sets of the longest span that may be read. */
const ONE_BY_ONE = `
  SELECT bucket, evidence, kind, notEmpty(its.modules) AS waiting, toDateTime64(intDiv(toUnixTimestamp64Milli(its.event_time), {longest:Int64}) * intDiv({longest:Int64}, 1000), 0, 'UTC') AS start,
         groupBitmapState(${PLACE}) AS crashes,
         groupBitmapStateIf(${DEVICE}, ${VERIFIED}) AS verified,
         groupBitmapStateIf(${DEVICE}, NOT ${VERIFIED}) AS unverified,
         min(its.provisional) AS provisional, min(event_time) AS first_seen, max(event_time) AS last_seen,
         argMax((its.evidence, event_time, id, title, signature, toString(severity)), (its.evidence, event_time, id)) AS strongest,
         (min(event_time), argMin(id, event_time)) AS oldest, (max(event_time), argMax(id, event_time)) AS newest,
         groupUniqArrayIf(toString(swversion), swversion != '') AS swversions, groupUniqArrayIf(toString(compartment), compartment != '') AS compartments,
         groupUniqArrayArray(its.modules) AS modules`
const ONE = 'bucket, evidence, kind, event_time, id, partition, offset, device, device_number, auth_level, provisional, title, signature, severity, swversion, compartment'

const AT_EDGES = `
    SELECT ${ONE}, arrayMap(module -> module.debug_id, missing_symbols) AS modules
    FROM crashes FINAL
    WHERE ${OF_FLEET} AND standing IN ('counted', 'claimed')
      AND ((event_time >= {from:DateTime64(3)} AND event_time < {hours_from:DateTime64(3)}) OR (event_time >= {hours_to:DateTime64(3)} AND event_time < {to:DateTime64(3)}))
      AND ({swversion:String} = '' OR swversion = {swversion:String})`
const REVISED = `
    SELECT ${ONE}, modules
    FROM revised_crashes FINAL
    WHERE ${OF_FLEET} AND standing IN ('counted', 'claimed') AND ${IN_HOURS}`
const LEFT_BEHIND = `
    SELECT ${ONE}, modules
    FROM bucket_crashes FINAL
    WHERE fleet = {fleet:String} AND bucket IN {left_buckets:Array(String)} AND standing IN ('counted', 'claimed') AND revision = 0
      AND event_time >= {left_from:DateTime64(3)} AND event_time < {left_to:DateTime64(3)}
      AND id NOT IN (SELECT id FROM revised_crashes WHERE fleet = {fleet:String} AND ${IN_HOURS})
      AND ((3600, intDiv(toUnixTimestamp64Milli(event_time), 3600000) * 3600, bucket) IN (SELECT arrayJoin(arrayZip({left_spans:Array(UInt32)}, {left_starts:Array(Int64)}, {left_buckets:Array(String)})))
        OR (21600, intDiv(toUnixTimestamp64Milli(event_time), 21600000) * 21600, bucket) IN (SELECT arrayJoin(arrayZip({left_spans:Array(UInt32)}, {left_starts:Array(Int64)}, {left_buckets:Array(String)})))
        OR (604800, intDiv(toUnixTimestamp64Milli(event_time), 604800000) * 604800, bucket) IN (SELECT arrayJoin(arrayZip({left_spans:Array(UInt32)}, {left_starts:Array(Int64)}, {left_buckets:Array(String)})))
        OR (86400, intDiv(toUnixTimestamp64Milli(event_time), 86400000) * 86400, bucket) IN (SELECT arrayJoin(arrayZip({left_spans:Array(UInt32)}, {left_starts:Array(Int64)}, {left_buckets:Array(String)}))))`

export interface CountsAsked {
  scope: Scope
  /** Buckets; none means all. */
  only?: readonly string[]
  /** Only crashes on this firmware, which sets don't know: the whole range is read crash by crash. */
  swversion?: string
  /** The longest sets that may be read, ms: no longer than the slots of a chart. */
  longest?: number
  /** Only crashes that wait for symbols. */
  waiting?: boolean
}

/** SQL with a row for each set, for a FROM, and what it is bound with. */
export interface Counts { COUNTS: string; params: Record<string, unknown> }

export async function countsOf(clickhouse: ClickHouse, { scope: { fleet, from, to }, only = [], swversion = '', longest = WEEK, waiting = false }: CountsAsked): Promise<Counts> {
  const { hours, params: spans } = spansOf(swversion === '' ? { from, to } : { from: to, to }, longest)
  const params = { fleet, only, swversion, longest, waiting: waiting ? 1 : 0, from: sqlTime(from), to: sqlTime(to), ...spans }
  const whole = hours.from < hours.to
  const { first_buckets, buckets } = whole ? await askOne(clickhouse, REVISED_BUCKETS, params) : { first_buckets: [], buckets: [] }
  const concerns = (some: readonly string[]) => some.length > 0 && (only.length === 0 || some.includes('') || only.some((bucket) => some.includes(bucket)))
  const held = concerns(first_buckets)
  const left = held ? await ask(clickhouse, LEFT, { ...params, first_buckets }) : []
  const starts = left.map(({ start }) => start * 1000)

  const single = [...(from < hours.from || hours.to < to ? [AT_EDGES] : []), ...(concerns(buckets) ? [REVISED] : []), ...(left.length > 0 ? [LEFT_BEHIND] : [])]
  const arms = [...(whole ? [held ? SETS_WITHOUT_MOVED : SETS] : []), ...(single.length > 0 || !whole ? [grouped(single.length > 0 ? single : [AT_EDGES])] : [])]
  return {
    COUNTS: arms.join(' UNION ALL '),
    params: {
      ...params, first_buckets,
      left_from: sqlTime(Math.min(...starts, from)), left_to: sqlTime(Math.max(0, ...starts) + WEEK),
      left_spans: left.map(({ span }) => span), left_starts: left.map(({ start }) => start), left_buckets: left.map(({ bucket }) => bucket),
    },
  }
}

const grouped = (single: readonly string[]): string => [ONE_BY_ONE, 'FROM (', single.join(' UNION ALL '), ') AS its WHERE', HAVE_WAITED, 'GROUP BY bucket, evidence, kind, waiting, start'].join(' ')
const HAVE_WAITED = `(NOT {waiting:UInt8} OR notEmpty(its.modules))`

// Reads a range of a table that has only what was analysed again.
const REVISED_BUCKETS = {
  sql: `SELECT groupUniqArray(first_bucket) AS first_buckets, groupUniqArray(bucket) AS buckets FROM revised_crashes WHERE fleet = {fleet:String} AND ${IN_HOURS}`,
  row: z.object({ first_buckets: strings, buckets: strings }),
}

/** Rows of `bucket_counts` that some crashes have left and others not. Asked only where crashes were analysed again, of the buckets that they were in. */
const LEFT = {
  sql: `
WITH ${MOVED} AS moved
SELECT DISTINCT span, toUnixTimestamp64Milli(toDateTime64(start, 3, 'UTC')) / 1000 AS start, bucket
FROM bucket_counts
WHERE ${OF_FLEET} AND ${WAITING} AND ${SPANS} AND ${MAY_HOLD_MOVED} AND bitmapHasAny(crashes, moved) AND NOT bitmapHasAll(moved, crashes)`,
  row: z.object({ span: z.number(), start: z.number(), bucket: z.string() }),
}
