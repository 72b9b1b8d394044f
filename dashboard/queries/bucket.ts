import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, flag, number, strings, time } from './ask.ts'

/**
 * What is this bucket: its whole life, and the crash that says most about it (highest evidence, then newest)?
 * Over all time, through the index on bucket: tens of milliseconds for a small bucket, a second for one of 10 M crashes.
 */
const note = z.object({ slug: z.string(), text: z.string() })
const QUESTION = {
  sql: `
SELECT min(event_time) AS first_seen, max(event_time) AS last_seen, count() AS crashes,
       argMax(id, strength) AS strongest, argMax(id, age) AS newest, argMin(id, age) AS oldest, max(evidence) AS evidence, min(provisional) AS provisional,
       argMax(title, strength) AS title, argMax(kind, strength) AS kind, argMax(severity, strength) AS severity, argMax(access, strength) AS access, argMax(cwe, strength) AS cwe,
       argMax(evidence_for, strength) AS evidence_for, argMax(evidence_against, strength) AS evidence_against,
       argMax(ruleset, strength) AS ruleset, argMax(signature, strength) AS signature,
       argMax(signature_frames, strength) AS signature_frames, argMax(signature_notes, strength) AS signature_notes,
       arraySort(groupUniqArrayIf(20)(swversion, swversion != '')) AS swversions, arraySort(groupUniqArrayIf(20)(compartment, compartment != '')) AS compartments
FROM
(
    SELECT *, (evidence, event_time, id) AS strength, (event_time, id) AS age
    FROM crashes FINAL
    WHERE fleet = {fleet:String} AND bucket IN {members:Array(String)} AND standing IN ('counted', 'claimed')
)
HAVING crashes > 0`,
  row: z.object({
    first_seen: time, last_seen: time, strongest: z.string(), newest: z.string(), oldest: z.string(), evidence: number, title: z.string(), kind: z.string(),
    severity: z.string(), access: z.string(), cwe: z.array(number), evidence_for: z.array(note), evidence_against: z.array(note), ruleset: number, signature: z.string(),
    signature_frames: strings, signature_notes: z.array(z.object({ rule: z.string(), from: z.string(), to: z.string(), why: z.string() })),
    provisional: flag, swversions: strings, compartments: strings,
  }),
}
export type BucketLife = z.output<typeof QUESTION.row>

/** null when no crash ever had it. */
export async function readBucketLife(clickhouse: ClickHouse, fleet: string, members: readonly string[]): Promise<BucketLife | null> {
  return (await ask(clickhouse, QUESTION, { fleet, members }))[0] ?? null
}
