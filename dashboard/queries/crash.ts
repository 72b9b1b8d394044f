import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { address, ask, flag, number, optionalNumber, strings, time } from './ask.ts'
import { CRASH_COLUMNS, crashRow } from './crash-columns.ts'

/** Everything that is known of one crash, by its id. Two look-ups by primary key: milliseconds at any size. */
const note = z.object({ slug: z.string(), text: z.string() })
const QUESTION = {
  sql: `
SELECT ${CRASH_COLUMNS}, fleet, written_at, topic, partition, offset, anchor, build_id, svn, last_input_age_ms, peer, listener_port, fingerprint, dbgstat, annotations,
       content_type, encoding, digest, size, pack, dump_offset, dump_length, manifest_pack, manifest_offset, manifest_length, status_reason, format, os, cpu, cwe,
       evidence_for, evidence_against, sp, pattern, pc_outside_modules, ruleset, signature, signature_frames, signature_notes, missing_symbols, report
FROM crashes FINAL
WHERE (fleet, event_time, id) IN (SELECT fleet, event_time, id FROM crash_ids WHERE id = {id:String}) AND ({fleet:String} = '' OR fleet = {fleet:String})
ORDER BY event_time
LIMIT 1`,
  row: crashRow.extend({
    fleet: z.string(), written_at: time, topic: z.string(), partition: number, offset: number, anchor: z.string(), build_id: z.string(), svn: optionalNumber,
    last_input_age_ms: optionalNumber, peer: z.string(), listener_port: optionalNumber, fingerprint: z.string(), dbgstat: optionalNumber, annotations: z.record(z.string(), z.string()),
    content_type: z.string(), encoding: z.string(), digest: z.string(), size: number, pack: z.string(), dump_offset: number, dump_length: number,
    manifest_pack: z.string(), manifest_offset: number, manifest_length: number, status_reason: z.string(), format: z.string(), os: z.string(), cpu: z.string(),
    cwe: z.array(number), evidence_for: z.array(note), evidence_against: z.array(note), sp: address, pattern: z.string(), pc_outside_modules: flag, ruleset: number,
    signature: z.string(), signature_frames: strings, signature_notes: z.array(z.object({ rule: z.string(), from: z.string(), to: z.string(), why: z.string() })),
    missing_symbols: z.array(z.object({ debug_file: z.string(), debug_id: z.string(), code_id: z.string() })), report: z.string(),
  }),
}
export type StoredCrash = z.output<typeof QUESTION.row>

export async function readCrash(clickhouse: ClickHouse, id: string, fleet = ''): Promise<StoredCrash | null> {
  return (await ask(clickhouse, QUESTION, { id, fleet }))[0] ?? null
}
