import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, flag, number, sqlTime, strings, time } from './ask.ts'
import { askCounts, type Revised } from './counts.ts'
import { ALWAYS } from './scope.ts'

/**
 * What is this bucket: its whole life, and the crash that says most about it (highest evidence, then newest)?
 * Over all time, from sets of days (counts.ts): one row for each of its days, and a column of all days of the fleet, which is
 * 10 ms a year of 600 buckets, however many crashes there are. Then one crash by its key.
 */
const LIFE = {
  sql: (COUNTS: string) => `
SELECT min(sets.first_seen) AS first_seen, max(sets.last_seen) AS last_seen, groupBitmapMerge(sets.crashes) AS crashes, max(sets.evidence) AS evidence, min(sets.provisional) AS provisional,
       max((sets.strongest, sets.kind)) AS says, says.1.2 AS at, says.1.3 AS strongest, says.1.4 AS title, says.1.5 AS signature, says.1.6 AS severity, says.2 AS kind,
       max(sets.newest).2 AS newest, min(sets.oldest).2 AS oldest,
       arraySort(groupUniqArrayArray(20)(sets.swversions)) AS swversions, arraySort(groupUniqArrayArray(20)(sets.compartments)) AS compartments
FROM (${COUNTS}) AS sets
HAVING crashes > 0`,
  row: z.object({
    first_seen: time, last_seen: time, evidence: number, provisional: flag, at: time, strongest: z.string(), title: z.string(), signature: z.string(), severity: z.string(), kind: z.string(),
    newest: z.string(), oldest: z.string(), swversions: strings, compartments: strings,
  }),
}

const note = z.object({ slug: z.string(), text: z.string() })
// By primary key.
const STRONGEST = {
  sql: `
SELECT access, cwe, evidence_for, evidence_against, ruleset, signature_frames, signature_notes
FROM crashes FINAL
WHERE fleet = {fleet:String} AND event_time = {at:DateTime64(3)} AND id = {id:String}`,
  row: z.object({
    access: z.string(), cwe: z.array(number), evidence_for: z.array(note), evidence_against: z.array(note), ruleset: number,
    signature_frames: strings, signature_notes: z.array(z.object({ rule: z.string(), from: z.string(), to: z.string(), why: z.string() })),
  }),
}
export type BucketLife = Omit<z.output<typeof LIFE.row>, 'at'> & z.output<typeof STRONGEST.row>

/** null when no crash ever had it. */
export async function readBucketLife(clickhouse: ClickHouse, fleet: string, members: readonly string[], revised?: Revised): Promise<BucketLife | null> {
  const [life] = await askCounts(clickhouse, { scope: { fleet, ...ALWAYS }, only: members, revised, columns: ['crashes', 'evidence', 'kind', 'provisional', 'first_seen', 'last_seen', 'strongest', 'oldest', 'newest', 'swversions', 'compartments'] }, LIFE)
  if (life === undefined) return null
  const { at, ...said } = life
  const [crash] = await ask(clickhouse, STRONGEST, { fleet, at: sqlTime(Date.parse(at)), id: life.strongest })
  return crash === undefined ? null : { ...said, ...crash }
}
