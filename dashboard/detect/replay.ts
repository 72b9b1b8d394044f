import type { Detector, Finding, Reason, Severity } from './finding.ts'
import { commonParams, ENGINE_SETTINGS_SQL } from './counted.ts'
import { SAMPLE, STRATA, worse } from './finding.ts'
import { PLACE } from '../queries/scope.ts'
import { RECORD_SQL } from './surroundings.ts'
import { HOUR, iso, msOf } from './time.ts'
import * as words from './words.ts'

/**
 * PRB-REPLAY: reports that one honest device with one key could not have sent.
 *
 *   counter-reuse  one (boot, report) of a key stands for two dumps: a cloned key, or flash that was set back
 *   shared-key     one key speaks for two devices
 *   two-places     one key in two far-apart networks at once: within an hour its boot count falls at least twice just as
 *                  its network changes to another /16 (IPv6: /32). A device that roams changes networks, and a device
 *                  that sends late sends old boots; going back in both together, twice, takes two devices
 *   rollback       the security version is lower than in an earlier boot: what was fixed is back
 *
 * A device whose boot count was reset, and which somebody rebased, uses its counters again in a new epoch: that is no reuse
 * and no going back, and its earlier epochs stay earlier, so that a reset hides no rollback.
 *
 * Everything is asked by the time of receipt, which no device can choose, and of the reports as they are rather than of
 * how ingest or the worker judged them: where two processes raced and both counted, the finding is the same. All standings
 * are read, since the report that was set aside is the evidence; reports that prove nothing about their sender are not.
 *
 * There is no FINAL: it would merge the whole table each time, since its key does not hold the time of receipt. Suspects are
 * looked for among the rows as they stand, where a report that stands twice hides nobody, and only their reports are made one
 * row each (onceSql).
 *
 * At 100 M rows in 28 days: two passes over one day of 12 columns (the index by time of receipt), one for counters and one for
 * security versions; one row per device and key, and one per device and security version. Each sign that has suspects reads
 * their reports of the day in a pass more.
 */
const PROVEN_SQL = `fleet = {fleet:String} AND auth_level IN ('payload-signed', 'transport-authenticated') AND device_key != '' AND received_at <= {now:DateTime64(3, 'UTC')}`
const DAY_SQL = `${PROVEN_SQL} AND received_at > {now:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR`
const HOUR_SQL = `${PROVEN_SQL} AND received_at > {now:DateTime64(3, 'UTC')} - INTERVAL 1 HOUR AND source NOT IN ('', 'unknown') AND bootcount IS NOT NULL`

/** What is said of the reports behind each sign. */
const REPORTS_SQL = `min(received_at) AS first, max(received_at) AS last, count() AS crashes, arraySort(groupUniqArray(${SAMPLE})(toString(source))) AS sources,
  arraySort(groupUniqArray(${SAMPLE})(toString(swversion))) AS versions, groupArray(${SAMPLE})(id) AS ids, groupUniqArray(24)(toStartOfHour(received_at)) AS hours, argMax(bucket, received_at) AS newest_bucket`

/** The /16 or /32 that a network lies in. */
const WIDE_SQL = `if(position(source, ':') > 0, arrayStringConcat(arraySlice(splitByChar(':', source), 1, 2), ':'), arrayStringConcat(arraySlice(splitByChar('.', source), 1, 2), '.'))`

/** A report's counter and its place in the log, which is the same however often it stands. They find suspects only, so two counters may have one hash. */
const COUNTER_SQL = 'cityHash64(device_key, epoch, ifNull(bootcount, 0), ifNull(seq, 0))'

/** These reports, each once and as its highest revision has it. A revision may change standing and bucket, which `where` must not ask. */
const onceSql = (from: string, where: string): string => `
  (
    SELECT * FROM ${from}
    WHERE ${where}
    ORDER BY revision DESC
    LIMIT 1 BY event_time, id
  )`

export const REPLAY_SQL = `
SELECT * FROM
(
  SELECT 'counter-reuse' AS sign, device, [device] AS devices, toUInt64(uniqExact(device_key, epoch, bootcount, seq)) AS times,
    arrayStringConcat(arraySort(groupUniqArray(3)(concat('boot ', toString(bootcount), ' report ', toString(seq)))), ', ') AS detail, ${REPORTS_SQL}
  FROM
  (
    SELECT *, max(standing = 'counter-reuse') OVER of_counter OR min(digest) OVER of_counter != max(digest) OVER of_counter AS reused
    FROM ${onceSql('crashes', `${DAY_SQL} AND bootcount IS NOT NULL AND seq IS NOT NULL AND ${COUNTER_SQL} IN
    (
      SELECT ${COUNTER_SQL} AS counter FROM crashes
      WHERE ${DAY_SQL} AND bootcount IS NOT NULL AND seq IS NOT NULL
      GROUP BY counter
      HAVING min(${PLACE}) != max(${PLACE}) OR max(standing = 'counter-reuse')
    )`)}
    WINDOW of_counter AS (PARTITION BY device_key, epoch, bootcount, seq)
  )
  WHERE reused
  GROUP BY device
  UNION ALL
  SELECT 'shared-key' AS sign, subject AS device, names AS devices, named AS times, device_key AS detail, ${REPORTS_SQL}
  FROM ${onceSql(`crashes INNER JOIN
    (
      SELECT device_key, min(device) AS subject, arraySort(groupUniqArray(${SAMPLE})(device)) AS names, uniqExact(device) AS named FROM devices
      WHERE fleet = {fleet:String} AND device_key IN
        (SELECT device_key FROM devices WHERE fleet = {fleet:String} AND device_key != '' GROUP BY device_key HAVING min(device) != max(device))
      GROUP BY device_key
    ) AS shared USING (device_key)`, DAY_SQL)}
  GROUP BY device_key, subject, names, named
  UNION ALL
  SELECT 'two-places' AS sign, device, [device] AS devices, countIf(place != place_before AND boot < boot_before) AS times,
    arrayStringConcat(arraySort(groupUniqArray(3)(place)), ' and ') AS detail, ${REPORTS_SQL}
  FROM
  (
    SELECT device, device_key, (epoch, ifNull(bootcount, 0)) AS boot, ${WIDE_SQL} AS place, lagInFrame(place) OVER of_key AS place_before, lagInFrame(boot) OVER of_key AS boot_before,
      received_at, source, swversion, id, bucket
    FROM ${onceSql('crashes', `${HOUR_SQL} AND device_key IN (SELECT device_key FROM crashes WHERE ${HOUR_SQL} GROUP BY device_key HAVING uniqExact(${WIDE_SQL}) > 1)`)}
    WINDOW of_key AS (PARTITION BY device_key ORDER BY received_at, epoch, ifNull(bootcount, 0), ifNull(seq, 0), id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
  )
  GROUP BY device, device_key
  HAVING times >= 2
  UNION ALL
  SELECT 'rollback' AS sign, device, [device] AS devices, uniqExact(bootcount) AS times,
    concat(toString(argMax(ifNull(svn, 0), received_at)), ' after ', toString(max(highest))) AS detail, ${REPORTS_SQL}
  FROM ${onceSql(`crashes INNER JOIN
    (
      SELECT device, max(svns.svn) AS highest, groupArray((svns.svn, (svns.epoch, first_boot))) AS known FROM svns
      WHERE fleet = {fleet:String} AND device IN
      (
        SELECT device
        FROM crashes INNER JOIN (SELECT device, max(svns.svn) AS top FROM svns WHERE fleet = {fleet:String} GROUP BY device HAVING min(svns.svn) < top) AS tops USING (device)
        WHERE ${DAY_SQL} AND svn < top
      )
      GROUP BY device
    ) AS versions USING (device)`, `${DAY_SQL} AND svn IS NOT NULL AND arrayExists(version -> version.1 > ifNull(svn, 0) AND version.2 < (epoch, ifNull(bootcount, 0)), known)`)}
  WHERE standing IN ('counted', 'claimed')
  GROUP BY device
)
ORDER BY device, sign
LIMIT 1000
SETTINGS max_execution_time = 30, ${ENGINE_SETTINGS_SQL}`

type Sign = 'counter-reuse' | 'shared-key' | 'two-places' | 'rollback'
interface Row {
  sign: Sign; device: string; devices: string[]; times: string; detail: string
  first: string; last: string; crashes: string; sources: string[]; versions: string[]; ids: string[]; hours: string[]; newest_bucket: string
}

/** What each sign means: in words, how severe alone, how much it outranks (an assumption, like every term), and what honest cause it may have. */
const SIGNS: Record<Sign, { title: string; severity: Severity; term: number; fact: string; says(row: Row): string; against: Reason }> = {
  'counter-reuse': {
    title: 'one counter for two dumps', severity: 'high', term: 10, fact: 'counters with two dumps',
    says: ({ times, detail }) => `${times} of its counters stand for two dumps each (${detail}): a copy of its key is in use, or its flash was set back`,
    against: { slug: 'lost-counter', text: 'a device that loses power before it has written its counter, or is restored from a backup, uses it again' },
  },
  'shared-key': {
    title: 'one key under several names', severity: 'high', term: 12, fact: 'names of the key',
    says: ({ times, devices }) => `one key speaks for ${times} devices: ${devices.slice(0, 5).join(', ')}`,
    against: { slug: 'provisioned-alike', text: 'a factory that gives devices one image with the key inside, or renames a device and keeps its key, looks the same' },
  },
  'two-places': {
    title: 'one key in two places at once', severity: 'medium', term: 8, fact: 'times it went back',
    says: ({ times, detail }) => `within an hour it went back ${times} times to an earlier boot in another network (${detail})`,
    against: { slug: 'roaming', text: 'a device with two uplinks that sends its oldest reports last can do this too' },
  },
  rollback: {
    title: 'an older security version is back', severity: 'high', term: 10, fact: 'boots with it',
    says: ({ times, detail }) => `it ran security version ${detail}, in ${times} later ${times === '1' ? 'boot' : 'boots'}: what was fixed is back`,
    against: { slug: 'service', text: 'a service technician may have put the older firmware on it' },
  },
}

export const replay: Detector = {
  pattern: 'PRB-REPLAY',
  describe: 'Reports that one honest device could not have sent: a cloned key, a counter used twice, a security version that went back.',
  async evaluate(input) {
    const queryParams = commonParams(input)
    const ask = async <T>(query: string): Promise<T[]> =>
      (await input.clickhouse.query({ query, query_params: { ...queryParams, pattern: 'PRB-REPLAY' }, format: 'JSONEachRow' })).json<T>()
    const byDevice = new Map<string, Row[]>()
    for (const row of await ask<Row>(REPLAY_SQL)) byDevice.set(row.device, [...byDevice.get(row.device) ?? [], row])
    if (byDevice.size === 0) return []
    const [record] = await ask<{ judged: string; wrong: string }>(RECORD_SQL)
    const judged = { judged: Number(record?.judged ?? 0), wrong: Number(record?.wrong ?? 0) }
    return [...byDevice.values()].map((rows) => ({ ...toFinding(rows, words.trackRecord(judged), input.now), fleet: input.fleet, query: REPLAY_SQL, queryParams }))
  },
}

function toFinding(rows: readonly Row[], falseAlarms: string, now: number): Omit<Finding, 'fleet' | 'query' | 'queryParams'> {
  const { device } = rows[0]!
  const devices = merged(rows, (row) => row.devices)
  const crashes = Math.max(...rows.map((row) => Number(row.crashes)))
  const newest = rows.reduce((a, b) => (a.last >= b.last ? a : b))
  const hours = new Set(rows.flatMap((row) => row.hours.map(msOf)))
  const thisHour = Math.floor(now / HOUR) * HOUR
  return {
    pattern: 'PRB-REPLAY', bucket: newest.newest_bucket, device, stratum: 'one-device', opens: true,
    severity: rows.map(({ sign }) => SIGNS[sign].severity).reduce(worse),
    title: `${device} may be copied or set back: ${rows.map(({ sign }) => SIGNS[sign].title).join(', ')}`,
    firstEvent: Math.min(...rows.map((row) => msOf(row.first))), lastEvent: msOf(newest.last), devices: devices.length, crashes, lnP: null,
    evidence: {
      queue: STRATA['one-device'].queue,
      what: `Reports of ${device} in the last 24 h could not come from one honest device: ${rows.map((row) => SIGNS[row.sign].says(row)).join('; ')}`,
      facts: rows.map((row) => ({ name: SIGNS[row.sign].fact, value: row.times, usual: row.sign === 'shared-key' ? '1' : '0' })),
      for: rows.map((row) => ({ slug: row.sign, text: SIGNS[row.sign].says(row) })),
      against: rows.map(({ sign }) => SIGNS[sign].against),
      unknown: ['which of the reports come from the device itself and which from a copy: both are signed by its key'],
      series: Array.from({ length: 24 }, (_, slot) => thisHour - (23 - slot) * HOUR).map((at) => ({ at: iso(at), devices: hours.has(at) ? 1 : 0 })),
      score_terms: rows.map(({ sign }) => ({ name: SIGNS[sign].title, value: SIGNS[sign].term })),
      false_alarms: falseAlarms,
      do_now: [
        `Compare the reports of ${device} that were set aside with the others: firmware, network, time.`,
        'If its key was copied: revoke it and give the device a new one.',
        'After a factory reset or a repair of your own: mark the verdict.',
      ],
      attack: [{ id: 'T1565', name: 'Data Manipulation' }, { id: 'T0856', name: 'Spoof Reporting Message' }],
      devices,
      firmware: merged(rows, (row) => row.versions).map((swversion) => ({ swversion, devices: 1 })),
      sources: merged(rows, (row) => row.sources).map((source) => ({ source, devices: 1 })),
      peers: [],
      buckets: merged(rows, (row) => [row.newest_bucket]),
      first_crash_ids: merged(rows, (row) => row.ids),
    },
  }
}

const merged = (rows: readonly Row[], of: (row: Row) => string[]): string[] => [...new Set(rows.flatMap(of))].slice(0, SAMPLE)
