import { commonParams, COUNTED_SQL, ENGINE_SETTINGS_SQL } from './counted.ts'
import { STRATA, type DetectorInput, type Finding } from './finding.ts'
import { describeDevice, PROGRAM_SQL, readDeviceHours } from './one-device.ts'
import { msOf } from './time.ts'
import * as words from './words.ts'

/**
 * PRB-SWEEP by the word of the device: one that limits how many dumps it sends tells of the rest in a signed storm digest
 * (symbolicate/crash-storm.ts), so that the limit hides no guessing. Such a digest is marked `storm-sweep` when at least 8
 * crashes, on average less than 30 s apart, had mostly different page offsets.
 *
 * At 100 M rows in 28 days: one hour (150,000 rows) of 6 columns.
 */
export const STORM_SQL = `
SELECT device, ${PROGRAM_SQL} AS program, argMax(bucket, event_time) AS newest_bucket, min(event_time) AS first, max(event_time) AS last, count() AS digests,
  argMax(arrayMap(fact -> fact.text, evidence_for), event_time) AS facts
FROM crashes FINAL
WHERE ${COUNTED_SQL} AND event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 1 HOUR AND event_time <= {now:DateTime64(3, 'UTC')}
  AND kind = 'crash-storm' AND arrayExists(fact -> fact.slug = 'storm-sweep', evidence_for)
GROUP BY device, program
ORDER BY device, program
LIMIT 1000
SETTINGS max_execution_time = 30, ${ENGINE_SETTINGS_SQL}`

interface Row { device: string; program: string; newest_bucket: string; first: string; last: string; digests: string; facts: string[] }

/** Findings for programs that `found` has none for yet; `term` is what a sweep adds to the score. */
export async function stormSweeps(input: DetectorInput, found: readonly Pick<Finding, 'device'>[], term: number): Promise<Finding[]> {
  const queryParams = commonParams(input)
  const rows = await (await input.clickhouse.query({ query: STORM_SQL, query_params: queryParams, format: 'JSONEachRow' })).json<Row>()
  const news = rows.filter(({ device }) => !found.some((finding) => finding.device === device))
  if (news.length === 0) return []
  const hours = await readDeviceHours(input, news.map(({ device }) => device), 'PRB-SWEEP')
  return news.map(({ device, program, newest_bucket: bucket, first, last, digests, facts }) => {
    const described = describeDevice(device, program, hours, input.now, input.releases)
    return {
      pattern: 'PRB-SWEEP', fleet: input.fleet, bucket, device, stratum: 'one-device', severity: STRATA['one-device'].severity, opens: true,
      title: `Possible attack: addresses are being guessed in ${program} on ${device}, by its own count`,
      firstEvent: msOf(first), lastEvent: msOf(last), devices: 1, crashes: Number(digests), lnP: null, query: STORM_SQL, queryParams,
      evidence: {
        queue: STRATA['one-device'].queue,
        what: `${program} on ${device} crashed too often to send each dump; its signed count says: ${facts.join('; ')}`,
        facts: [{ name: 'storm digests in the hour', value: digests, usual: `${words.rate(hours.byDevice.get(device)?.usual.get(program) ?? 0)} crashes an hour` }],
        ...described,
        for: [{ slug: 'storm-sweep', text: facts.at(-1) ?? '' }, ...described.for],
        unknown: ['the dumps that stayed on the device: the digest has 16 of its addresses at most', ...described.unknown],
        score_terms: [{ name: 'address guessing', value: term }],
        do_now: [`Take ${device} off the network, or restart ${program} with a new layout after each crash.`, 'Fetch the dumps that are still on the device.', 'Look at what talked to it in that hour.', 'Mark the verdict.'],
        attack: [{ id: 'T1190', name: 'Exploit Public-Facing Application' }, { id: 'T1210', name: 'Exploitation of Remote Services' }],
      },
    }
  })
}
