import { z } from 'zod'
import type { DEVICE_SORTS } from '../api/requests.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, number, time } from './ask.ts'
import { COUNTED, MERGED, mergeParams, scopeParams, type Scope } from './scope.ts'
import type { Merges } from './merges.ts'

/**
 * Which devices do we know, and how much did each crash in the range, in one of three orders, a page at a time?
 * Their order first, from the name and the newest report of each device of the fleet and the range of `crashes`; what else is said of a
 * device, and in how many buckets it crashed, of those on the page alone: all that is said of 100,000 devices takes 0.4 s, and sets of
 * their buckets don't fit into the memory of a statement. At 10 M crashes in 28 days 0.15 s for 24 h and 0.45 s for 14 days, most of it
 * for the range: some ten times that at 100 M.
 */
const QUESTION = {
  sql: (CRASHES: string, HAVING: string) => `
SELECT known.device AS device, counted.crashes AS crashes, counted.evidence AS evidence,
       multiIf({sort:String} = 'last_seen', toUInt64(toUnixTimestamp64Milli(known.last_seen)), {sort:String} = 'evidence', toUInt64(evidence), crashes) AS key_1, crashes AS key_2
FROM
(
    SELECT device, max(devices.last_seen) AS last_seen
    FROM devices
    WHERE fleet = {fleet:String} AND (empty({only:Array(String)}) OR device IN {only:Array(String)})
      AND ({q:String} = '' OR positionCaseInsensitiveUTF8(device, {q:String}) > 0)
    GROUP BY device${HAVING}
) AS known
LEFT JOIN
(
    SELECT device, count() AS crashes, max(its.evidence) AS evidence
    FROM ${CRASHES} AS its FINAL
    WHERE ${COUNTED} AND (empty({only:Array(String)}) OR device IN {only:Array(String)})
    GROUP BY device
) AS counted ON counted.device = known.device
WHERE NOT {after:UInt8} OR (key_1, key_2, known.device) < ({after_1:UInt64}, {after_2:UInt64}, {after_device:String})
ORDER BY key_1 DESC, key_2 DESC, known.device DESC
LIMIT {limit:UInt32}`,
  row: z.object({ device: z.string(), crashes: number, evidence: number, key_1: number, key_2: number }),
}
const PENDING = `
    HAVING argMaxMerge(devices.auth_level) = 'pending'`

// By primary key.
const SAID = {
  sql: `
SELECT device, min(devices.first_seen) AS first_seen, max(devices.last_seen) AS last_seen, uniqExactIf(device_key, device_key != '') AS device_keys,
       argMaxMerge(devices.swversion) AS swversion, argMaxMerge(devices.hwmodel) AS hwmodel, argMaxMerge(devices.auth_level) AS auth_level
FROM devices
WHERE fleet = {fleet:String} AND device IN {devices:Array(String)}
GROUP BY device`,
  row: z.object({ device: z.string(), first_seen: time, last_seen: time, device_keys: number, swversion: z.string(), hwmodel: z.string(), auth_level: z.string() }),
}
export type KnownDevice = z.output<typeof QUESTION.row> & z.output<typeof SAID.row> & { buckets: number }

// The devices' own rows, which lie side by side.
const BUCKETS = {
  sql: `SELECT device, uniqExact(${MERGED}) AS buckets FROM device_crashes FINAL WHERE ${COUNTED} AND device IN {devices:Array(String)} GROUP BY device`,
  row: z.object({ device: z.string(), buckets: number }),
}

export interface DevicesAsked {
  scope: Scope
  merges: Merges
  limit: number
  sort?: (typeof DEVICE_SORTS)[number]
  q?: string | undefined
  only?: readonly string[]
  /** Those whose newest report came while nobody had admitted them. */
  pending?: boolean
  after?: readonly [number, number, string] | undefined
}

export async function readDevices(clickhouse: ClickHouse, { scope, merges, limit, sort = 'crashes', q = '', only = [], pending = false, after }: DevicesAsked): Promise<KnownDevice[]> {
  const params = { ...scopeParams(scope), ...mergeParams(merges) }
  const SQL = QUESTION.sql(only.length > 0 ? 'device_crashes' : 'crashes', pending ? PENDING : '')
  const ranked = await ask(clickhouse, { sql: SQL, row: QUESTION.row }, {
    ...params, sort, q, only, limit, after: after ? 1 : 0, after_1: after?.[0] ?? 0, after_2: after?.[1] ?? 0, after_device: after?.[2] ?? '',
  })
  if (ranked.length === 0) return []
  const devices = ranked.map(({ device }) => device)
  const [said, buckets] = await Promise.all([ask(clickhouse, SAID, { ...params, devices }), ask(clickhouse, BUCKETS, { ...params, devices })])
  const [saidOf, bucketsOf] = [new Map(said.map((row) => [row.device, row])), new Map(buckets.map((row) => [row.device, row.buckets]))]
  return ranked.flatMap((row) => {
    // A device that was forgotten between two questions.
    const its = saidOf.get(row.device)
    return its === undefined ? [] : [{ ...row, ...its, buckets: bucketsOf.get(row.device) ?? 0 }]
  })
}

/** What a fleet knew when it began to admit devices one by one: one row per device and credential. Names that stand for a network are none. */
const NAMES = { sql: `SELECT DISTINCT device FROM devices WHERE fleet = {fleet:String} AND NOT startsWith(device, 'source:') ORDER BY device`, row: z.object({ device: z.string() }) }

export const readDeviceNames = async (clickhouse: ClickHouse, fleet: string): Promise<string[]> => (await ask(clickhouse, NAMES, { fleet })).map(({ device }) => device)
