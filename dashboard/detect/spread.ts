import { countsOf } from '../queries/counts.ts'
import type { Detector, DetectorInput, Finding } from './finding.ts'
import type { SpreadStratum } from './settings.ts'
import { commonParams, COUNTED_SQL, CURRENT_SQL, ENGINE_SETTINGS_SQL, FACES_NETWORK_SQL, MERGED_SQL, membersOf } from './counted.ts'
import { STRATA } from './finding.ts'
import { describeSpread } from './spread-evidence.ts'
import { readSurroundings, sharedNetwork, type Surroundings } from './surroundings.ts'
import { LN_TAIL_SQL } from './tail.ts'
import { DAY, HOUR, msOf, sqlTime } from './time.ts'

/**
 * PRB-SPREAD: the same crash racing across the fleet (a worm, or somebody scanning).
 *
 * For each bucket: n distinct devices in the last 1, 6 and 24 hours against the 28 days before these 24 hours, by the
 * Gamma-Poisson predictive tail (tail.ts); p = 3 x the smallest of the three. A device counts once per bucket and day, so that
 * retransmissions, crash loops and one stolen key can't move it. A bucket's class is the lower median of its devices'.
 *
 * Corrections that are in:
 *  - history: a fleet that was connected d days ago has d days of it (at least one), never 28 days of assumed silence;
 *  - exposure: W is stretched when more devices are known now than on the average of 28 days (1 to 4 times). Only
 *    authenticated devices count, and it never shrinks W, so that noise can't be used to make this blind or jumpy. A device
 *    is known by its first crash, which in a young fleet tells of our learning and not of growth: full history only;
 *  - dispersion: above 28 device-days of history, n and N are divided by phi, the variance over the mean of the daily
 *    counts, when that is above 1.2 (and there are 7 days). Below that phi is noise, and the prior already carries the doubt;
 *  - release rule: 90 % of the devices on firmware that is new (releases.ts) and fewer than 3 device-days on older one:
 *    the release queue, unless it is control-flow evidence or comes from one source network that is not the usual one.
 * Not in: cleaning the history of earlier alerts (what goes on for weeks becomes usual, which ends an alert; what
 * a person decided about it stays), reports that arrive more than a day late (they count in the history only), and
 * thresholds learnt from the fleet's own last weeks (fleet setting `spread_tau` overrides them).
 *
 * The last day is read crash by crash, by every run; the days before, of buckets that could be surprising, from the sets of days
 * that pages are counted from (queries/counts.ts), so that they take as long at any number of crashes. Days are those of UTC; the
 * first and the last are parts of one, which dispersion leaves out. Sets don't know firmware: whether a bucket was there
 * before a release is asked of its own rows, and only where it matters. Measured at 10 M crashes in 28 days with all of
 * 600 buckets surprising: 0.3 s of CPU for finding them, 1.3 s for comparing them with their history.
 */

const IS_NEW_SQL = `(swname, swversion) -> has({released:Array(String)}, concat(swname, ' ', swversion)) AS is_new`
const THRESHOLD_SQL = `stratum -> transform(stratum, {strata:Array(String)}, {ln_tau:Array(Float64)}, 0.) AS threshold`

/**
 * The buckets that could be surprising at all, because the whole question takes ten times as long and most of the time there
 * are none. Nothing is rarer than n devices after 28 empty days, and -ln p of that is below n ln(1/q) + ln(n + 1) + 2, where
 * 1/q is 673, 113 and 29 for windows of 1, 6 and 24 h.
 */
export const CANDIDATES_SQL = `
WITH ${MERGED_SQL}, ${IS_NEW_SQL}, ${THRESHOLD_SQL}
SELECT merged_into(bucket) AS merged, uniqExact(device) AS n, uniqExactIf(device, event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 6 HOUR) AS n_6,
  uniqExactIf(device, event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 1 HOUR) AS n_1, max(evidence) AS class, max(is_new(swname, swversion)) AS fresh,
  multiIf(class >= 3, arrayMax({ln_tau:Array(Float64)}), fresh = 1, greatest(threshold('rest'), threshold('release')), threshold('rest')) AS ln_tau
FROM crashes FINAL
WHERE ${COUNTED_SQL} AND bucket != '' AND event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR AND event_time <= {now:DateTime64(3, 'UTC')}
GROUP BY merged
HAVING n >= 2 AND greatest(n * log(29), n_6 * log(113), n_1 * log(673)) + log(n + 1) + 2 > -ln_tau / 2
ORDER BY class DESC, n DESC, merged
LIMIT 1000
SETTINGS max_execution_time = 30, ${ENGINE_SETTINGS_SQL}`

const spreadSql = (COUNTS: string): string => `
WITH ${LN_TAIL_SQL}, ${MERGED_SQL}, ${FACES_NETWORK_SQL},
  ${IS_NEW_SQL}, ${THRESHOLD_SQL},
  {now:DateTime64(3, 'UTC')} AS t,
  [1, 6, 24] AS windows,
  ifNull((SELECT date_diff('second', min(first_seen), t) / 3600 FROM buckets WHERE fleet = {fleet:String}), 0) AS age_hours,
  greatest(24, least(672, age_hours - 24)) AS history_h,
  if(age_hours < 673, 1, ifNull((
    SELECT least(4, greatest(1, ifNotFinite(count() / sum(least(1, date_diff('second', first, t) / 3600 / history_h)), 1)))
    FROM
    (
      SELECT device, min(first_seen) AS first, max(last_seen) AS last, argMaxMerge(auth_level) AS auth FROM devices
      WHERE fleet = {fleet:String} GROUP BY device
      HAVING auth IN ('payload-signed', 'transport-authenticated') AND last > t - INTERVAL 28 DAY AND first <= t
    )
  ), 1)) AS exposure,
  arrayMap(w -> w * exposure / (history_h + w * exposure), windows) AS shares,
  recent AS
  (
    SELECT merged_into(bucket) AS merged, device, min(event_time) AS first_hit, max(event_time) AS last_hit, max(evidence) AS its_class,
      max(faces_network(compartment, process)) AS its_net, argMax(is_new(swname, swversion), event_time) AS its_fresh, count() AS hits,
      argMax(title, event_time) AS its_title
    FROM crashes FINAL
    WHERE ${COUNTED_SQL} AND merged_into(bucket) IN {candidates:Array(String)} AND event_time > t - INTERVAL 24 HOUR AND event_time <= t
    GROUP BY merged, device
  ),
  active AS
  (
    SELECT merged, [countIf(last_hit > t - INTERVAL 1 HOUR), countIf(last_hit > t - INTERVAL 6 HOUR), count()] AS n,
      quantileExactLow(0.5)(its_class) AS class, avg(its_net) >= 0.5 AS net, avg(its_fresh) AS fresh, sum(hits) AS crashes,
      min(first_hit) AS first, max(last_hit) AS last, argMax(its_title, last_hit) AS title,
      multiIf(class = 4 AND net, 'E4-net', class = 3 AND net, 'E3-net', class >= 3, 'E34-inside', 'rest') AS stratum,
      fresh >= 0.9 AND class < 4 AS with_release
    FROM recent
    GROUP BY merged
  ),
  days AS
  (
    SELECT merged_into(bucket) AS merged, toDate(start) AS day, groupBitmapMerge(verified) AS devices
    FROM (${COUNTS}) AS sets
    GROUP BY merged, day
  ),
  history AS
  (
    SELECT merged, sumIf(devices, day < {released_since:Date}) AS older, toFloat64(sum(devices)) AS before,
      groupArrayIf(toFloat64(devices), day > toDate(t) - 29 AND day < toDate(t) - 1) AS seen
    FROM days
    GROUP BY merged
  ),
  -- One step per level: the analyzer copies an alias into each place that uses it, and the copies multiply.
  compared AS
  (
    SELECT active.*, with_release, older, before, arrayResize(seen, greatest(length(seen), least(27, toUInt64(floor(history_h / 24))))) AS days, arrayAvg(days) AS mean
    FROM active LEFT JOIN history USING (merged)
  ),
  dispersed AS
  (
    SELECT *, if(before >= 28 AND length(days) >= 7, arraySum(c -> pow(c - mean, 2), days) / (length(days) - 1) / mean, 1) AS ratio,
      if(ratio > 1.2, ratio, 1) AS phi
    FROM compared
  ),
  tested AS
  (
    SELECT *, arrayMap((n, q) -> ln_tail(floor(n / phi), before / phi + 0.5, q), n, shares) AS ln_each,
      threshold(stratum) AS ln_own, if(with_release AND older < 3, greatest(ln_own, threshold('release')), ln_own) AS ln_released
    FROM dispersed
  ),
  decided AS
  (
    SELECT *, arrayMin(ln_each) AS smallest, indexOf(ln_each, smallest) AS best, least(0, log(3) + smallest) AS ln_p FROM tested
  )
SELECT merged AS bucket, title, stratum, class, net, with_release AND older < 3 AS may_be_released, older, n[3] AS devices, first, last, crashes, exposure, phi, ln_p, ln_own, ln_released,
  windows[best] AS window_hours, n[best] AS devices_in_window, before AS devices_before, history_h AS history_hours
FROM decided
WHERE ln_p < ln_released / 2
ORDER BY ln_p, bucket
LIMIT 200
SETTINGS max_execution_time = 60, ${ENGINE_SETTINGS_SQL}`

/** Device-days of these buckets on firmware that was there before the releases: since the first of them, since sets told of the days before. */
const OLDER_SQL = `
WITH ${MERGED_SQL}, ${IS_NEW_SQL}
SELECT merged_into(bucket) AS merged, uniqExact(device, toDate(event_time)) AS older
FROM bucket_crashes FINAL
WHERE ${COUNTED_SQL} AND bucket IN {members:Array(String)} AND event_time >= {released_since:Date} AND event_time < {history_to:DateTime64(3)} AND NOT is_new(swname, swversion) AND ${CURRENT_SQL}
GROUP BY merged
SETTINGS max_execution_time = 30, ${ENGINE_SETTINGS_SQL}`

interface WireRow {
  bucket: string; title: string; stratum: Exclude<SpreadStratum, 'release'>; class: number; net: boolean | number; may_be_released: boolean | number; older: string
  devices: string; first: string; last: string; crashes: string; exposure: number; phi: number
  window_hours: number; devices_in_window: string; devices_before: number; history_hours: number; ln_p: number; ln_own: number; ln_released: number
}

export interface SpreadRow {
  bucket: string
  title: string
  stratum: SpreadStratum
  /** Evidence class of the bucket's median device. */
  class: number
  net: boolean
  released: boolean
  /** Distinct devices in 24 h, and in the window that was the most surprising. */
  devices: number
  windowHours: number
  devicesInWindow: number
  devicesBefore: number
  historyHours: number
  crashes: number
  exposure: number
  phi: number
  first: number
  last: number
  lnP: number
  lnThreshold: number
}

export const spread: Detector = {
  pattern: 'PRB-SPREAD',
  describe: 'The same crash on more devices than chance explains, within 1, 6 or 24 hours.',
  async evaluate(input) {
    const scope = spreadParams(input)
    const candidates = await input.clickhouse.query({ query: CANDIDATES_SQL, query_params: scope, format: 'JSONEachRow' })
    const buckets = (await candidates.json<{ merged: string }>()).map(({ merged }) => merged)
    if (buckets.length === 0) return []
    const to = Math.floor(input.now / HOUR) * HOUR - DAY
    const { COUNTS, params } = await countsOf(input.clickhouse, { scope: { fleet: input.fleet, from: to - 28 * DAY, to }, only: membersOf(input.merges, buckets), columns: ['bucket', 'start', 'verified'], longest: DAY })
    const query = spreadSql(COUNTS)
    const queryParams = { ...params, ...scope, candidates: buckets }
    const result = await input.clickhouse.query({ query, query_params: queryParams, format: 'JSONEachRow' })
    const wire = await result.json<WireRow>()
    const older = await readOlder(input, { ...scope, history_to: sqlTime(to) }, wire.filter((row) => Boolean(row.may_be_released)).map(({ bucket }) => bucket))
    const rows = wire.map((row) => fromWire(row, Boolean(row.may_be_released) && Number(row.older) + (older.get(row.bucket) ?? 0) < 3)).filter((row) => row.lnP < row.lnThreshold / 2)
    if (rows.length === 0) return []
    const surroundings = await readSurroundings(input, rows.map((row) => row.bucket))
    return rows.map((row) => ({ ...toFinding(route(row, surroundings, input.settings.spreadTau), input, surroundings), query, queryParams }))
  },
}

async function readOlder(input: DetectorInput, params: Record<string, unknown>, buckets: readonly string[]): Promise<Map<string, number>> {
  if (buckets.length === 0) return new Map()
  const result = await input.clickhouse.query({ query: OLDER_SQL, query_params: { ...params, members: membersOf(input.merges, buckets) }, format: 'JSONEachRow' })
  return new Map((await result.json<{ merged: string; older: string }>()).map(({ merged, older }) => [merged, Number(older)]))
}

export function spreadParams(input: Omit<DetectorInput, 'clickhouse'>): Record<string, unknown> {
  const { settings, releases } = input
  return {
    ...commonParams(input),
    net_facing: settings.netFacing,
    released: releases.map((release) => `${release.swname} ${release.swversion}`),
    // Before the first of them all firmware was older. Without a release there is no day before it.
    released_since: releases.length === 0 ? '1970-01-01' : releases.map(({ since }) => since).toSorted()[0]!.slice(0, 10),
    strata: Object.keys(settings.spreadTau),
    ln_tau: Object.values(settings.spreadTau).map(Math.log),
  }
}

function fromWire(row: WireRow, released: boolean): SpreadRow {
  return {
    bucket: row.bucket, title: row.title, stratum: row.stratum, class: row.class, net: Boolean(row.net), released,
    devices: Number(row.devices), windowHours: row.window_hours, devicesInWindow: Number(row.devices_in_window), devicesBefore: row.devices_before,
    historyHours: row.history_hours, crashes: Number(row.crashes), exposure: row.exposure, phi: row.phi, first: msOf(row.first), last: msOf(row.last),
    lnP: row.ln_p, lnThreshold: released ? row.ln_released : row.ln_own,
  }
}

/**
 * A crash that came with a release goes to the release queue. An attacker who waits for release days counts on that:
 * so memory corruption whose devices have a network in common that the fleet usually hasn't stays with security.
 */
function route(row: SpreadRow, surroundings: Surroundings, tau: Record<SpreadStratum, number>): SpreadRow {
  if (!row.released) return row
  const own = Math.log(tau[row.stratum])
  if (row.class >= 3 && row.net && row.lnP < own && sharedNetwork(surroundings, row.bucket) !== undefined) return { ...row, lnThreshold: own }
  return { ...row, stratum: 'release' }
}

function toFinding(row: SpreadRow, input: DetectorInput, surroundings: Surroundings): Omit<Finding, 'query' | 'queryParams'> {
  const { severity } = STRATA[row.stratum]
  return {
    pattern: 'PRB-SPREAD', fleet: input.fleet, bucket: row.bucket, device: '', stratum: row.stratum,
    // Memory corruption in the release queue is where a patient attacker hides: somebody reads it the same day.
    severity: row.stratum === 'release' && row.class >= 3 && row.net ? 'medium' : severity,
    opens: row.lnP < row.lnThreshold, firstEvent: row.first, lastEvent: row.last, devices: row.devices, crashes: row.crashes, lnP: row.lnP,
    ...describeSpread(row, surroundings),
  }
}
