import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, askOne, flag, sqlTime, strings } from './ask.ts'
import { DEVICE, IN_RANGE, MOVED, PLACE, scopeParams, VERIFIED, type Scope } from './scope.ts'
import { spansOf, WEEK } from './spans.ts'

/**
 * Crashes of a range as sets, exact at any moment: what lists, charts and totals are counted from.
 *
 * Whole weeks, days, quarters of days and hours (spans.ts) come from `bucket_counts`, what is left at the edges from `crashes`, as they came and
 * not FINAL, which is a third of the time; together they are sets that are united, so that a crash that was written twice, late or in
 * between is one (infra/clickhouse/schema/009-counts.sql).
 * A row of `bucket_counts` that holds a crash that was analysed again is left out: such crashes count one by one from
 * `revised_crashes`, and those that shared a row with them, which is rare, from `bucket_crashes`. Only sets of buckets that such
 * crashes were in at first are asked whether they hold one. While crashes are being analysed again a number may be that of
 * a moment ago; it is exact as soon as the last of them is written.
 *
 * The text has only what a range needs: reading and analysing a statement of 3,000 letters costs the engine 25 ms of CPU, however few rows it finds.
 * With 600 buckets, whatever the number of crashes: 24 h are some 5,000 rows of sets, 28 days 10,000, and up to two hours of
 * crashes at the edges. Measured at 10 M crashes in 28 days: 10 us a row for reading a set of a day of a bucket, as much for uniting it; a list of
 * 24 h takes 0.12 s. Nine whole days, which have as many rows and as large sets as 24 h have at 100 M, take 0.2 s.
 */

/** What a set tells, and how the same is told of crashes one by one (`its`), as sets of the longest span that may be read. */
const KEYS = {
  bucket: 'bucket', evidence: 'its.evidence', kind: 'kind', start: `toDateTime64(intDiv(toUnixTimestamp64Milli(its.event_time), {longest:Int64}) * intDiv({longest:Int64}, 1000), 0, 'UTC')`,
}
const VALUES = {
  crashes: `groupBitmapState(${PLACE})`,
  verified: `groupBitmapStateIf(${DEVICE}, ${VERIFIED})`, unverified: `groupBitmapStateIf(${DEVICE}, NOT ${VERIFIED})`,
  provisional: 'min(its.provisional)', first_seen: 'min(event_time)', last_seen: 'max(event_time)',
  // Of one evidence, which is a key here, it is the newest; a tuple for each row would cost half as much again.
  strongest: '(its.evidence, max(event_time), argMax(id, event_time), argMax(title, event_time), argMax(signature, event_time), toString(argMax(severity, event_time)))',
  oldest: '(min(event_time), argMin(id, event_time))', newest: '(max(event_time), argMax(id, event_time))',
  swversions: `groupUniqArrayIf(toString(swversion), swversion != '')`, compartments: `groupUniqArrayIf(toString(compartment), compartment != '')`,
  modules: 'groupUniqArrayArray(its.modules)',
}
export type Column = keyof typeof KEYS | keyof typeof VALUES

const MAY_HOLD_MOVED = `(has({first_buckets:Array(String)}, '') OR bucket IN {first_buckets:Array(String)})`

const WITHOUT_MOVED = ` AND NOT (${MAY_HOLD_MOVED} AND bitmapHasAny(crashes, ${MOVED}))`

const ONE = 'bucket, evidence, kind, event_time, id, partition, offset, device, device_number, auth_level, provisional, title, signature, severity, swversion, compartment'

const atEdges = (WHICH: string, revised: boolean) => `
    SELECT ${ONE}, arrayMap(module -> module.debug_id, missing_symbols) AS modules
    FROM crashes
    WHERE ${WHICH} AND standing IN ('counted', 'claimed') AND revision = 0
      AND ((event_time >= {from:DateTime64(3)} AND event_time < {hours_from:DateTime64(3)}) OR (event_time >= {hours_to:DateTime64(3)} AND event_time < {to:DateTime64(3)}))${revised ? `
      AND NOT bitmapContains(${MOVED}, ${PLACE})` : ''}`
const revisedOf = (WHICH: string) => `
    SELECT ${ONE}, modules
    FROM revised_crashes FINAL
    WHERE ${WHICH} AND standing IN ('counted', 'claimed') AND ${IN_RANGE}`
const LEFT_BEHIND = `
    SELECT ${ONE}, modules
    FROM bucket_crashes FINAL
    ARRAY JOIN [3600, 21600, 86400, 604800] AS span
    WHERE fleet = {fleet:String} AND bucket IN {left_buckets:Array(String)} AND standing IN ('counted', 'claimed') AND revision = 0
      AND event_time >= {left_from:DateTime64(3)} AND event_time < {left_to:DateTime64(3)}
      AND id NOT IN (SELECT id FROM revised_crashes WHERE fleet = {fleet:String} AND ${IN_RANGE})
      AND (span, intDiv(toUnixTimestamp64Milli(event_time), span * 1000) * span, bucket) IN (SELECT arrayJoin(arrayZip({left_spans:Array(UInt32)}, {left_starts:Array(Int64)}, {left_buckets:Array(String)})))`

export interface CountsAsked {
  scope: Scope
  columns: readonly Column[]
  /** Buckets; none means all. */
  only?: readonly string[]
  /** Only crashes on this firmware, which sets don't know: the whole range is read crash by crash. */
  swversion?: string
  /** The longest sets that may be read, ms: no longer than the slots of a chart. */
  longest?: number
  /** Only crashes that wait for symbols. */
  waiting?: boolean
  /** Of a range that covers this one, where somebody has asked for it before. */
  revised?: Revised | undefined
}

/** SQL with a row for each set, for a FROM, and what it is bound with. */
export interface Counts { COUNTS: string; params: Record<string, unknown> }

interface Plan {
  revised: Revised
  /** Asked only where crashes were analysed again, of the buckets that they were in. */
  readLeft(): Promise<Left[]>
  counts(left: readonly Left[]): Counts
}

/** For whoever keeps the text of the question, as an alert does; everybody else asks askCounts(). */
export async function countsOf(clickhouse: ClickHouse, asked: CountsAsked): Promise<Counts> {
  const plan = await planOf(clickhouse, asked)
  return plan.counts(await plan.readLeft())
}

/**
 * Most of the time no set was left by some of its crashes alone, so the question is asked while that is looked up, and once more
 * if there is one. Where crashes were taken away there nearly always is.
 */
export async function askCounts<Row extends z.ZodType>(clickhouse: ClickHouse, asked: CountsAsked, question: { sql: (COUNTS: string) => string; row: Row }, more: Record<string, unknown> = {}): Promise<z.output<Row>[]> {
  const plan = await planOf(clickhouse, asked)
  const answer = (left: readonly Left[]) => {
    const { COUNTS, params } = plan.counts(left)
    return ask(clickhouse, { sql: question.sql(COUNTS), row: question.row }, { ...params, ...more })
  }
  if (plan.revised.taken_away) return answer(await plan.readLeft())
  const [answered, left] = await Promise.all([answer([]), plan.readLeft()])
  return left.length === 0 ? answered : answer(left)
}

async function planOf(clickhouse: ClickHouse, { scope, columns, only = [], swversion = '', longest = WEEK, waiting = false, ...known }: CountsAsked): Promise<Plan> {
  const { fleet, from, to } = scope
  const { hours, params: spans, rowsOf } = spansOf(swversion === '' ? { from, to } : { from: to, to }, longest)
  const whole = hours.from < hours.to
  const revised = known.revised ?? await readRevised(clickhouse, scope)
  // A row of an earlier worker doesn't say which bucket it was in first: it may be any.
  const asked = (some: readonly string[]) => (only.length === 0 ? some : some.filter((bucket) => bucket === '' || only.includes(bucket)))
  const firstBuckets = asked(revised.first_buckets)
  const held = whole && firstBuckets.length > 0
  const params = { fleet, only, swversion, longest, first_buckets: firstBuckets, from: sqlTime(from), to: sqlTime(to), ...spans }

  const BUCKETS = only.length > 0 ? ' AND bucket IN {only:Array(String)}' : ''
  const WHICH = `fleet = {fleet:String}${BUCKETS}`
  const ROWS = [WHICH, ...(waiting ? ['waiting'] : []), rowsOf('bucket_counts')].join(' AND ')
  const COLUMNS = columns.join(', ')
  const SETS = `SELECT ${COLUMNS} FROM bucket_counts WHERE ${ROWS}`
  const edges = from < hours.from || hours.to < to || !whole
  return {
    revised,
    readLeft: async () => (held ? ask(clickhouse, { sql: LEFT.sql(ROWS), row: LEFT.row }, params) : []),
    counts(left) {
      const SINGLE = swversion === '' ? WHICH : `${WHICH} AND swversion = {swversion:String}`
      const single = [...(edges ? [atEdges(SINGLE, revised.buckets.length > 0)] : []), ...(asked(revised.buckets).length > 0 ? [revisedOf(SINGLE)] : []), ...(left.length > 0 ? [LEFT_BEHIND] : [])]
      const arms = [...(whole ? [held ? SETS + WITHOUT_MOVED : SETS] : []), ...(single.length > 0 ? [oneByOne(single, columns, waiting)] : [])]
      const starts = left.map(({ start }) => start * 1000)
      return {
        COUNTS: arms.join(' UNION ALL '),
        params: {
          ...params, left_from: sqlTime(Math.min(...starts, from)), left_to: sqlTime(Math.max(0, ...starts) + WEEK),
          left_spans: left.map(({ span }) => span), left_starts: left.map(({ start }) => start), left_buckets: left.map(({ bucket }) => bucket),
        },
      }
    },
  }
}

function oneByOne(arms: readonly string[], columns: readonly Column[], waiting: boolean): string {
  const told = columns.map((column) => [{ ...KEYS, ...VALUES }[column], column].join(' AS ')).join(', ')
  const keys = columns.filter((column) => column in KEYS).join(', ') || '()'
  return ['SELECT', told, 'FROM (', arms.join(' UNION ALL '), ') AS its', ...(waiting ? ['WHERE notEmpty(its.modules)'] : []), 'GROUP BY', keys].join(' ')
}

/** Buckets that crashes of a range were in before they were analysed again, and are in since; and whether some were taken away. Reads the range of a table that has no others. */
const REVISED = {
  sql: `SELECT groupUniqArray(first_bucket) AS first_buckets, groupUniqArray(bucket) AS buckets, countIf(standing = 'forgotten') > 0 AS taken_away FROM revised_crashes WHERE fleet = {fleet:String} AND ${IN_RANGE}`,
  row: z.object({ first_buckets: strings, buckets: strings, taken_away: flag }),
}
export type Revised = z.output<typeof REVISED.row>

export const readRevised = (clickhouse: ClickHouse, scope: Scope): Promise<Revised> => askOne(clickhouse, REVISED, scopeParams(scope))

/** Rows of `bucket_counts` that some crashes have left and others not. */
const LEFT = {
  sql: (ROWS: string) => `
WITH ${MOVED} AS moved
SELECT DISTINCT span, toUnixTimestamp64Milli(toDateTime64(start, 3, 'UTC')) / 1000 AS start, bucket
FROM bucket_counts
WHERE ${ROWS} AND ${MAY_HOLD_MOVED} AND bitmapHasAny(crashes, moved) AND NOT bitmapHasAll(moved, crashes)`,
  row: z.object({ span: z.number(), start: z.number(), bucket: z.string() }),
}
type Left = z.output<typeof LEFT.row>
