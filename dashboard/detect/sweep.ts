import type { Detector, DetectorInput, Finding } from './finding.ts'
import { commonParams, COUNTED_SQL, ENGINE_SETTINGS_SQL } from './counted.ts'
import { STRATA } from './finding.ts'
import { PROGRAM_SQL, describeDevice, readDeviceHours, type DeviceHours } from './one-device.ts'
import { stormSweeps } from './storm.ts'
import { msOf } from './time.ts'
import * as words from './words.ts'

/**
 * PRB-SWEEP: guessing addresses on one device (brute force against address randomisation, blind return-oriented probing).
 *
 * The first 1,000 crashes of one program on one device in an hour; at least 8, mostly less than 30 s apart, and
 *   bytes   the fault addresses differ in their low 12 bits (half of them or more): randomisation moves whole pages, so
 *           a bug that crashes again and again keeps them; or
 *   march   the fault addresses go up or down with time (rank correlation of 0.9 over 16: by chance 1 in a million); or
 *   pages   the program counter is in no module and differs (half of them or more), whatever the page offset:
 *           page by page guesses keep the low bits, and a benign crash keeps its module.
 *
 * What a device counted itself instead of sending each dump is read too (storm.ts).
 *
 * Stays quiet: a crash loop (low bits constant); an uninitialised pointer (random but rare: the time between two crashes
 * is the larger of the clock's and the device's own uptime, so that an upload of a week's crashes isn't a burst);
 * failing memory (less than 70 % of the device's crashes are one program's); stack exhaustion (the stack's start is
 * randomised by 16 bytes, so its low bits differ honestly); addresses near null.
 *
 * At 100 M rows in 28 days: one hour (150,000 rows) of 14 columns.
 */
export const SWEEP_SQL = `
WITH hour AS
(
  SELECT device, ${PROGRAM_SQL} AS program, event_time, title, bucket, uptime_s, bootcount,
    evidence >= 2 AND kind != 'stack-exhaustion' AND address_class NOT IN ('null', 'near-null') AS wild,
    if(wild, fault_address, NULL) AS fault, if(wild AND pc_outside_modules = 1, pc, NULL) AS stray,
    row_number() OVER device_program AS place, lagInFrame(event_time, 1, event_time) OVER device_program AS time_before,
    lagInFrame(toNullable(uptime_s), 1, NULL) OVER device_program AS uptime_before, lagInFrame(toNullable(bootcount), 1, NULL) OVER device_program AS boot_before,
    greatest(date_diff('millisecond', time_before, event_time) / 1000,
      toFloat64(ifNull(multiIf(bootcount = boot_before, toInt64(uptime_s) - toInt64(uptime_before), bootcount != boot_before, toInt64(uptime_s), 0), 0))) AS gap_s
  FROM crashes FINAL
  WHERE ${COUNTED_SQL} AND event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 1 HOUR AND event_time <= {now:DateTime64(3, 'UTC')}
  WINDOW device_program AS (PARTITION BY device, program ORDER BY ifNull(bootcount, 0), ifNull(seq, 0), event_time, id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
),
watched AS
(
  SELECT device, program, count() AS crashes, count(fault) AS faults, uniqExact(bitAnd(fault, 0xfff)) AS low_bits, uniqExact(fault) AS addresses,
    count(stray) AS strays, uniqExact(stray) AS stray_pcs, if(faults >= 16, rankCorrIf(place, toFloat64(assumeNotNull(fault)), fault IS NOT NULL), 0) AS march,
    quantileExactIf(0.5)(gap_s, place > 1) AS gap, min(event_time) AS first, max(event_time) AS last, argMax(bucket, event_time) AS bucket,
    argMax(title, event_time) AS title, crashes / sum(crashes) OVER (PARTITION BY device) AS share
  FROM hour
  WHERE place <= 1000
  GROUP BY device, program
)
SELECT *, faults >= 8 AND low_bits >= 0.5 * faults AS by_bytes, faults >= 16 AND abs(march) >= 0.9 AS by_march, strays >= 8 AND stray_pcs >= 0.5 * strays AS by_pages
FROM watched
WHERE (by_bytes OR by_march OR by_pages) AND gap < 30 AND share >= 0.7
ORDER BY crashes DESC, device
LIMIT 1 BY device
LIMIT 200
SETTINGS max_execution_time = 30, ${ENGINE_SETTINGS_SQL}`

interface Row {
  device: string; program: string; crashes: string; faults: string; low_bits: string; addresses: string; strays: string; stray_pcs: string; march: number; gap: number
  first: string; last: string; bucket: string; title: string; by_bytes: number; by_march: number; by_pages: number
}

/** How much a sweep outranks other alerts, in the score's logarithmic units: an assumption, like every term. */
const SWEEP_TERM = 12

export const sweep: Detector = {
  pattern: 'PRB-SWEEP',
  describe: 'One program on one device crashes again and again at addresses that are being tried out.',
  async evaluate(input) {
    const queryParams = commonParams(input)
    const result = await input.clickhouse.query({ query: SWEEP_SQL, query_params: queryParams, format: 'JSONEachRow' })
    const rows = await result.json<Row>()
    const hours = rows.length === 0 ? null : await readDeviceHours(input, rows.map((row) => row.device), 'PRB-SWEEP')
    const found = hours === null ? [] : rows.map((row) => ({ ...toFinding(row, hours, input), fleet: input.fleet, query: SWEEP_SQL, queryParams }))
    return [...found, ...await stormSweeps(input, found, SWEEP_TERM)]
  },
}

function toFinding(row: Row, hours: DeviceHours, input: DetectorInput): Omit<Finding, 'fleet' | 'query' | 'queryParams'> {
  const [first, last] = [msOf(row.first), msOf(row.last)]
  const device = describeDevice(row.device, row.program, hours, input.now, input.releases)
  const took = words.span(last - first)
  const usual = hours.byDevice.get(row.device)?.usual.get(row.program) ?? 0
  return {
    pattern: 'PRB-SWEEP', bucket: row.bucket, device: row.device, stratum: 'one-device', severity: STRATA['one-device'].severity, opens: true,
    title: `Possible attack: addresses are being guessed in ${row.program} on ${row.device}, ${words.crashes(Number(row.crashes))} in ${took}`,
    firstEvent: first, lastEvent: last, devices: 1, crashes: Number(row.crashes), lnP: null,
    evidence: {
      queue: STRATA['one-device'].queue,
      what: `${row.program} on ${row.device} crashed ${row.crashes} times in ${took}, half of the time within ${words.rate(row.gap)} s of the crash before, at addresses that look tried out one after the other`,
      facts: [
        { name: 'crashes in the hour', value: row.crashes, usual: `${words.rate(usual)} an hour` },
        { name: 'time between crashes', value: `${words.rate(row.gap)} s (median)` },
        { name: 'fault addresses', value: `${row.addresses} different of ${row.faults}` },
        { name: 'low 12 bits of them', value: `${row.low_bits} different`, usual: '1: randomisation moves whole pages' },
        { name: 'program counters outside any module', value: `${row.stray_pcs} different of ${row.strays}`, usual: '0' },
      ],
      ...device,
      for: [...ways(row), ...device.for],
      score_terms: [{ name: 'address guessing', value: SWEEP_TERM }],
      do_now: [`Take ${row.device} off the network, or restart ${row.program} with a new layout after each crash.`, 'Look at what talked to it in that hour.', 'Keep the full dumps.', 'Mark the verdict.'],
      attack: [{ id: 'T1190', name: 'Exploit Public-Facing Application' }, { id: 'T1210', name: 'Exploitation of Remote Services' }],
    },
  }
}

function ways(row: Row): { slug: string; text: string }[] {
  return [
    ...(row.by_bytes ? [{ slug: 'bytes', text: `${row.low_bits} of ${row.faults} fault addresses differ in their low 12 bits; a bug that repeats under address randomisation keeps them` }] : []),
    ...(row.by_march ? [{ slug: 'march', text: `the fault addresses go ${row.march > 0 ? 'up' : 'down'} with time (rank correlation ${row.march.toFixed(2)})` }] : []),
    ...(row.by_pages ? [{ slug: 'pages', text: `the program counter was in no module ${row.strays} times, at ${row.stray_pcs} different places` }] : []),
  ]
}
