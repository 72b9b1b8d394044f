import type { Detector, DetectorInput, Finding } from './finding.ts'
import { commonParams, COUNTED_SQL, ENGINE_SETTINGS_SQL, FACES_NETWORK_SQL } from './counted.ts'
import { STRATA } from './finding.ts'
import { PROGRAM_SQL, describeDevice, readDeviceHours, type DeviceHours } from './one-device.ts'
import { msOf } from './time.ts'
import * as words from './words.ts'

/**
 * PRB-CANARY: guessing the stack's guard value byte by byte, against a server that is forked again after each miss.
 *
 * Crashes by a destroyed stack guard of one network-facing program on one device: 5 in 10 minutes is medium, 10 in an hour
 * is high. Only crashes that come 10 minutes or more after the device booted count, and the device must not have rebooted
 * in between (more than half of them in one boot): a deterministic overflow in a boot loop does neither.
 *
 * At 100 M rows in 28 days: one hour (150,000 rows) of 9 columns.
 */
export const CANARY_SQL = `
WITH ${FACES_NETWORK_SQL}
SELECT device, ${PROGRAM_SQL} AS program, count() AS misses, countIf(event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 10 MINUTE) AS lately,
  arrayMax(mapValues(sumMap(map(ifNull(bootcount, 0), 1)))) AS in_one_boot, min(event_time) AS first, max(event_time) AS last,
  argMax(bucket, event_time) AS newest_bucket, argMax(title, event_time) AS title
FROM crashes FINAL
WHERE ${COUNTED_SQL} AND kind = 'stack-guard' AND faces_network(compartment, process) AND ifNull(uptime_s, 600) >= 600
  AND event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 1 HOUR AND event_time <= {now:DateTime64(3, 'UTC')}
GROUP BY device, program
HAVING (misses >= 10 OR lately >= 5) AND in_one_boot * 2 > misses
ORDER BY misses DESC, device
LIMIT 1 BY device
LIMIT 200
SETTINGS max_execution_time = 30, ${ENGINE_SETTINGS_SQL}`

interface Row { device: string; program: string; misses: string; lately: string; first: string; last: string; newest_bucket: string; title: string }

const CANARY_TERM = { medium: 8, high: 12 } as const

export const canary: Detector = {
  pattern: 'PRB-CANARY',
  describe: 'One program on one device destroys its stack guard again and again without a reboot.',
  async evaluate(input) {
    const queryParams = { ...commonParams(input), net_facing: input.settings.netFacing }
    const result = await input.clickhouse.query({ query: CANARY_SQL, query_params: queryParams, format: 'JSONEachRow' })
    const rows = await result.json<Row>()
    if (rows.length === 0) return []
    const hours = await readDeviceHours(input, rows.map((row) => row.device), 'PRB-CANARY')
    return rows.map((row) => ({ ...toFinding(row, hours, input), fleet: input.fleet, query: CANARY_SQL, queryParams }))
  },
}

function toFinding(row: Row, hours: DeviceHours, input: DetectorInput): Omit<Finding, 'fleet' | 'query' | 'queryParams'> {
  const misses = Number(row.misses)
  const severity = misses >= 10 ? 'high' : 'medium'
  const device = describeDevice(row.device, row.program, hours, input.now, input.releases)
  const took = words.span(msOf(row.last) - msOf(row.first))
  const usual = hours.byDevice.get(row.device)?.usual.get(row.program) ?? 0
  return {
    pattern: 'PRB-CANARY', bucket: row.newest_bucket, device: row.device, stratum: 'one-device', severity, opens: true,
    title: `Possible attack: the stack guard of ${row.program} is being guessed on ${row.device}, ${misses} misses in ${took}`,
    firstEvent: msOf(row.first), lastEvent: msOf(row.last), devices: 1, crashes: misses, lnP: null,
    evidence: {
      queue: STRATA['one-device'].queue,
      what: `${row.program} on ${row.device} destroyed its stack guard ${misses} times in ${took} without a reboot, as it happens when the guard is guessed byte by byte`,
      facts: [
        { name: 'misses in the hour', value: row.misses, usual: `${words.rate(usual)} crashes an hour` },
        { name: 'misses in the last 10 min', value: row.lately },
      ],
      ...device,
      for: [{ slug: 'no-reboot', text: 'the program starts again and the device does not' }, { slug: 'faces-network', text: 'the program reads what strangers send' }, ...device.for],
      score_terms: [{ name: 'guard guessing', value: CANARY_TERM[severity] }],
      do_now: [`Take ${row.device} off the network, or let ${row.program} draw a new guard at each start.`, 'Look at what talked to it in that hour.', 'Mark the verdict.'],
      attack: [{ id: 'T1190', name: 'Exploit Public-Facing Application' }, { id: 'T1210', name: 'Exploitation of Remote Services' }],
    },
  }
}
