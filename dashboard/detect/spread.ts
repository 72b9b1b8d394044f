import type { Detector, DetectorInput, Finding } from './finding.ts'
import type { SpreadStratum } from './settings.ts'
import { commonParams, COUNTED_SQL, ENGINE_SETTINGS_SQL, FACES_NETWORK_SQL, MERGED_SQL } from './counted.ts'
import { STRATA } from './finding.ts'
import { describeSpread } from './spread-evidence.ts'
import { readSurroundings, sharedNetwork, type Surroundings } from './surroundings.ts'
import { LN_TAIL_SQL } from './tail.ts'
import { msOf } from './time.ts'

/**
 * PRB-SPREAD: the same crash racing across the fleet (a worm, or somebody scanning).
 *
 * For each bucket: n distinct devices in the last 1, 6 and 24 hours against the 28 days before, by the Gamma-Poisson
 * predictive tail (tail.ts); p = 3 x the smallest of the three. A device counts once per bucket and 24 h, so that
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
 * At 100 M rows in 28 days (3.6 M a day): each run reads one day of 7 columns; the 28 days are read once, with 6 columns,
 * only when there is a bucket that could be surprising, and only for such buckets; devices are counted by their numbers, in
 * bitmaps, so that the history's memory stays small. Measured with 1 M rows on two busy cores: 0.1 to 0.3 s, then 0.2 s for one
 * bucket and 1 to 2 s for 77. It grows with the rows, so past some 20 M the history wants sets of its own hours.
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

export const SPREAD_SQL = `
WITH ${LN_TAIL_SQL}, ${MERGED_SQL}, ${FACES_NETWORK_SQL},
  ${IS_NEW_SQL}, ${THRESHOLD_SQL},
  {now:DateTime64(3, 'UTC')} AS t,
  [1, 6, 24] AS windows,
  ifNull((SELECT date_diff('second', min(first_seen), t) / 3600 FROM buckets WHERE fleet = {fleet:String}), 0) AS age_hours,
  arrayMap(w -> greatest(24, least(672, age_hours - w)), windows) AS histories,
  if(age_hours < 673, 1, ifNull((
    SELECT least(4, greatest(1, ifNotFinite(count() / sum(least(1, date_diff('second', first, t) / 3600 / histories[3])), 1)))
    FROM
    (
      SELECT device, min(first_seen) AS first, max(last_seen) AS last, argMaxMerge(auth_level) AS auth FROM devices
      WHERE fleet = {fleet:String} GROUP BY device
      HAVING auth IN ('payload-signed', 'transport-authenticated') AND last > t - INTERVAL 28 DAY AND first <= t
    )
  ), 1)) AS exposure,
  arrayMap((w, history) -> w * exposure / (history + w * exposure), windows, histories) AS shares,
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
  history AS
  (
    SELECT merged, groupBitmapResample(0, 28, 1)(its_number, day_1) AS days_1, groupBitmapResample(0, 28, 1)(its_number, day_6) AS days_6,
      groupBitmapResample(0, 28, 1)(its_number, day_24) AS days_24, uniqExactIf((its_number, day_24), NOT fresh AND day_24 >= 0) AS older
    FROM
    (
      SELECT merged_into(bucket) AS merged, is_new(swname, swversion) AS fresh,
        if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number) AS its_number,
        date_diff('millisecond', event_time, t) / 3600000 AS hours_ago,
        toInt32(floor((hours_ago - 1) / 24)) AS day_1, toInt32(floor((hours_ago - 6) / 24)) AS day_6, toInt32(floor((hours_ago - 24) / 24)) AS day_24
      FROM crashes FINAL
      WHERE ${COUNTED_SQL} AND event_time > t - INTERVAL 29 DAY AND event_time <= t - INTERVAL 1 HOUR
        AND merged_into(bucket) IN {candidates:Array(String)}
    )
    GROUP BY merged
  ),
  -- One step per level: the analyzer copies an alias into each place that uses it, and the copies multiply.
  compared AS
  (
    SELECT active.*, with_release AND older < 3 AS released, arrayMap(days -> toFloat64(arraySum(days)), [days_1, days_6, days_24]) AS before,
      arraySlice(days_24, 1, toUInt64(ceil(histories[3] / 24))) AS days, arrayAvg(days) AS mean
    FROM active LEFT JOIN history USING (merged)
  ),
  dispersed AS
  (
    SELECT *, if(before[3] >= 28 AND length(days) >= 7, arraySum(c -> pow(c - mean, 2), days) / (length(days) - 1) / mean, 1) AS ratio,
      if(ratio > 1.2, ratio, 1) AS phi
    FROM compared
  ),
  tested AS
  (
    SELECT *, arrayMap((n, r, q) -> ln_tail(floor(n / phi), r / phi + 0.5, q), n, before, shares) AS ln_each,
      if(released, greatest(threshold(stratum), threshold('release')), threshold(stratum)) AS ln_threshold
    FROM dispersed
  ),
  decided AS
  (
    SELECT *, arrayMin(ln_each) AS smallest, indexOf(ln_each, smallest) AS best, least(0, log(3) + smallest) AS ln_p FROM tested
  )
SELECT merged AS bucket, title, stratum, class, net, released, n[3] AS devices, first, last, crashes, exposure, phi, ln_p, ln_threshold,
  windows[best] AS window_hours, n[best] AS devices_in_window, before[best] AS devices_before, histories[best] AS history_hours
FROM decided
WHERE ln_p < ln_threshold / 2
ORDER BY ln_p, bucket
LIMIT 200
SETTINGS max_execution_time = 60, ${ENGINE_SETTINGS_SQL}`

interface WireRow {
  bucket: string; title: string; stratum: Exclude<SpreadStratum, 'release'>; class: number; net: boolean | number; released: boolean | number
  devices: string; first: string; last: string; crashes: string; exposure: number; phi: number
  window_hours: number; devices_in_window: string; devices_before: number; history_hours: number; ln_p: number; ln_threshold: number
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
  sql: SPREAD_SQL,
  async evaluate(input) {
    const scope = spreadParams(input)
    const candidates = await input.clickhouse.query({ query: CANDIDATES_SQL, query_params: scope, format: 'JSONEachRow' })
    const buckets = (await candidates.json<{ merged: string }>()).map(({ merged }) => merged)
    if (buckets.length === 0) return []
    const queryParams = { ...scope, candidates: buckets }
    const result = await input.clickhouse.query({ query: SPREAD_SQL, query_params: queryParams, format: 'JSONEachRow' })
    const rows = (await result.json<WireRow>()).map(fromWire)
    if (rows.length === 0) return []
    const surroundings = await readSurroundings(input, rows.map((row) => row.bucket))
    return rows.map((row) => toFinding(route(row, surroundings, input.settings.spreadTau), input, surroundings, queryParams))
  },
}

export function spreadParams(input: Omit<DetectorInput, 'clickhouse'>): Record<string, unknown> {
  const { settings, releases } = input
  return {
    ...commonParams(input),
    net_facing: settings.netFacing,
    released: releases.map((release) => `${release.swname} ${release.swversion}`),
    strata: Object.keys(settings.spreadTau),
    ln_tau: Object.values(settings.spreadTau).map(Math.log),
  }
}

function fromWire(row: WireRow): SpreadRow {
  return {
    bucket: row.bucket, title: row.title, stratum: row.stratum, class: row.class, net: Boolean(row.net), released: Boolean(row.released),
    devices: Number(row.devices), windowHours: row.window_hours, devicesInWindow: Number(row.devices_in_window), devicesBefore: row.devices_before,
    historyHours: row.history_hours, crashes: Number(row.crashes), exposure: row.exposure, phi: row.phi, first: msOf(row.first), last: msOf(row.last),
    lnP: row.ln_p, lnThreshold: row.ln_threshold,
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

function toFinding(row: SpreadRow, input: DetectorInput, surroundings: Surroundings, queryParams: Record<string, unknown>): Finding {
  const { severity } = STRATA[row.stratum]
  return {
    pattern: 'PRB-SPREAD', fleet: input.fleet, bucket: row.bucket, device: '', stratum: row.stratum,
    // Memory corruption in the release queue is where a patient attacker hides: somebody reads it the same day.
    severity: row.stratum === 'release' && row.class >= 3 && row.net ? 'medium' : severity,
    opens: row.lnP < row.lnThreshold, firstEvent: row.first, lastEvent: row.last, devices: row.devices, crashes: row.crashes, lnP: row.lnP,
    ...describeSpread(row, surroundings), query: SPREAD_SQL, queryParams,
  }
}
