import type { Event } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, flag, parseJson } from './ask.ts'
import { hashOf, storedEventRow } from './event-log.ts'

/**
 * What did people do, newest first; to some subjects or at all? Each line comes with whether the line that it names as the
 * one before it exists. As many rows as people made decisions: milliseconds, whatever `crashes` holds.
 */
const QUESTION = {
  sql: `
SELECT fleet, at, number, actor, kind, subject, body, prev_hash, hash,
       (number = 1 AND prev_hash = '') OR (toUInt64(number - 1), prev_hash) IN (SELECT number, hash FROM events WHERE fleet = {fleet:String}) AS linked
FROM events FINAL
WHERE fleet = {fleet:String} AND number < {before:UInt64} AND (empty({subjects:Array(String)}) OR subject IN {subjects:Array(String)})
ORDER BY number DESC, hash DESC
LIMIT {limit:UInt32}`,
  row: storedEventRow.extend({ linked: flag }),
}

export interface EventsAsked { subjects?: readonly string[]; before?: number; limit: number }

export async function readEvents(clickhouse: ClickHouse, fleet: string, { subjects = [], before = Number.MAX_SAFE_INTEGER, limit }: EventsAsked): Promise<Event[]> {
  const rows = await ask(clickhouse, QUESTION, { fleet, subjects, before, limit })
  return rows.map(({ linked, ...row }) => ({ ...row, body: shownOf(row.kind, objectOf(parseJson(row.body))), intact: linked && hashOf(row) === row.hash }))
}

/** A revocation list has megabytes, and its event names it well enough; so does the number of thousands of devices. */
function shownOf(kind: string, { pem, ...body }: Record<string, unknown>): Record<string, unknown> {
  if (kind === 'fleet.devices-admitted') return { devices: Array.isArray(body.devices) ? body.devices.length : 0 }
  return kind === 'fleet.crl-imported' || pem === undefined ? body : { ...body, pem }
}

const objectOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
