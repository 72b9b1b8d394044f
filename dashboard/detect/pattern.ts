import type { Detector, Finding } from './finding.ts'
import { commonParams, COUNTED_SQL, ENGINE_SETTINGS_SQL, FACES_NETWORK_SQL, MERGED_SQL } from './counted.ts'
import { STRATA } from './finding.ts'
import { affected, reasonsOf, signsOf, termsOf } from './signs.ts'
import { readSurroundings, type Surroundings } from './surroundings.ts'
import { msOf } from './time.ts'
import * as words from './words.ts'

/**
 * PRB-PATTERN: a value shaped by somebody in the program counter or in registers.
 *
 * A cyclic pattern or a repeated printable byte that is no known fill value is enough once. Text alone is weak (a wild
 * 32-bit value is all printable in 1.9 % of the cases, and honest bugs overrun pointers with names): two devices in 24 h.
 * How likely a random 32-bit value has the shape: window of the cyclic pattern 4.7e-6, repeated printable byte 2.2e-8.
 *
 * At 100 M rows in 28 days: one day of 4 columns.
 */
const LN_CHANCE = { cyclic: Math.log(4.7e-6), repeated: Math.log(2.2e-8), printable: Math.log(0.019) } as const

export const PATTERN_SQL = `
WITH ${MERGED_SQL}, ${FACES_NETWORK_SQL}
SELECT merged_into(bucket) AS merged, argMax(title, event_time) AS title, min(event_time) AS first, max(event_time) AS last, count() AS crashes,
  uniqExact(device) AS devices, uniqExactIf(device, pattern = 'cyclic') AS cyclic, uniqExactIf(device, pattern = 'repeated') AS repeated,
  max(evidence) AS class, max(faces_network(compartment, process)) AS net
FROM crashes FINAL
WHERE ${COUNTED_SQL} AND bucket != '' AND pattern IN ('cyclic', 'repeated', 'printable')
  AND event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR AND event_time <= {now:DateTime64(3, 'UTC')}
GROUP BY merged
HAVING cyclic + repeated >= 1 OR devices >= 2
ORDER BY devices DESC, merged
LIMIT 200
SETTINGS max_execution_time = 30, ${ENGINE_SETTINGS_SQL}`

interface Row {
  merged: string; title: string; first: string; last: string; crashes: string
  devices: string; cyclic: string; repeated: string; class: number; net: number
}

export const pattern: Detector = {
  pattern: 'PRB-PATTERN',
  describe: 'A crash whose program counter or registers hold a value that somebody chose.',
  async evaluate(input) {
    const queryParams = { ...commonParams(input), net_facing: input.settings.netFacing }
    const result = await input.clickhouse.query({ query: PATTERN_SQL, query_params: queryParams, format: 'JSONEachRow' })
    const rows = await result.json<Row>()
    if (rows.length === 0) return []
    const surroundings = await readSurroundings(input, rows.map((row) => row.merged), 'PRB-PATTERN')
    return rows.map((row) => ({ ...toFinding(row, surroundings), fleet: input.fleet, query: PATTERN_SQL, queryParams }))
  },
}

function toFinding(row: Row, surroundings: Surroundings): Omit<Finding, 'fleet' | 'query' | 'queryParams'> {
  const hit = { bucket: row.merged, class: row.class, net: row.net === 1, first: msOf(row.first) }
  const devices = Number(row.devices)
  const shape = row.repeated !== '0' ? 'repeated' : row.cyclic !== '0' ? 'cyclic' : 'printable'
  const lnP = LN_CHANCE[shape] * (shape === 'printable' ? devices : 1)
  const signs = signsOf(hit, surroundings)
  const said = { repeated: 'one printable byte repeated', cyclic: 'a piece of a cyclic pattern, as exploit tools write it', printable: 'text' }[shape]
  return {
    pattern: 'PRB-PATTERN', bucket: row.merged, device: '', stratum: 'one-event', severity: devices >= 2 && hit.net ? 'critical' : 'high', opens: true,
    title: `Somebody's value in the program counter or registers on ${words.devices(devices)}: ${row.title}`,
    firstEvent: hit.first, lastEvent: msOf(row.last), devices, crashes: Number(row.crashes), lnP,
    evidence: {
      queue: STRATA['one-event'].queue,
      what: `${words.devices(devices)} crashed with ${said} where an address belongs; a random value looks like that with chance ${words.chance(lnP)}: ${row.title}`,
      facts: [
        { name: 'devices', value: words.devices(devices), usual: '0' },
        { name: 'shape', value: said },
        { name: 'chance', value: words.chance(lnP) },
        { name: 'evidence class', value: `E${row.class}` },
      ],
      for: reasonsOf(signs.for),
      against: [
        ...reasonsOf(signs.against),
        ...(shape === 'printable' ? [{ slug: 'honest-text', text: 'an honest bug can overrun a pointer with text, such as a name or an address of a page' }] : []),
      ],
      unknown: ['whether these devices belong to a laboratory that fuzzes with the same tools', ...signs.unknown],
      series: surroundings.series.get(row.merged) ?? [],
      score_terms: [{ name: 'shape of the value', value: Math.round(-lnP * 10) / 10 }, ...termsOf(signs)],
      false_alarms: words.trackRecord(surroundings.record),
      do_now: ['Keep the full dumps: they may hold what was sent.', `Open a bug for ${row.title}.`, 'Mark the verdict (lab, if it is yours).'],
      attack: [{ id: 'T1190', name: 'Exploit Public-Facing Application' }, { id: 'T0819', name: 'Exploit Public-Facing Application (ICS)' }],
      ...affected(row.merged, surroundings),
    },
  }
}
