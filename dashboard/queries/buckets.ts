import { z } from 'zod'
import type { BucketsQuery } from '../api/requests.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, flag, number, sqlTime, strings, time } from './ask.ts'
import { countsOf, type Counts } from './counts.ts'
import type { Merges } from './merges.ts'
import { MERGED, mergeParams, type Scope } from './scope.ts'

/**
 * Which buckets are there in the range, with how many crashes and distinct devices, in one of five orders, a page at a time?
 * Devices come before crashes: one device that crashes at each start makes ten thousand of them. Counts are exact (counts.ts).
 * A filter by firmware reads the range crash by crash.
 */
const QUESTION = {
  sql: (COUNTS: string) => `
SELECT counted.*, lives.first_seen AS first_seen, lives.last_seen AS last_seen,
       multiIf({sort:String} = 'crashes', crashes, {sort:String} = 'evidence', toUInt64(evidence), {sort:String} = 'last_seen', toUInt64(toUnixTimestamp64Milli(last_seen)),
               {sort:String} = 'first_seen', toUInt64(toUnixTimestamp64Milli(first_seen)), verified_devices) AS key_1,
       if({sort:String} = 'evidence', verified_devices, devices) AS key_2
FROM
(
    SELECT ${MERGED} AS id, groupBitmapMerge(sets.crashes) AS crashes, bitmapOrCardinality(groupBitmapMergeState(verified), groupBitmapMergeState(unverified)) AS devices, bitmapCardinality(groupBitmapMergeState(verified)) AS verified_devices,
           max(sets.evidence) AS evidence, min(sets.provisional) AS provisional,
           max((sets.strongest, sets.kind)) AS says, says.1.4 AS title, says.1.5 AS signature, says.2 AS kind, says.1.6 AS severity,
           arraySort(groupUniqArrayArray(20)(sets.swversions)) AS swversions, arraySort(groupUniqArrayArray(20)(sets.compartments)) AS compartments
    FROM (${COUNTS}) AS sets
    WHERE {kind:String} = '' OR sets.kind = {kind:String}
    GROUP BY id
) AS counted
INNER JOIN
(
    SELECT ${MERGED} AS id, min(buckets.first_seen) AS first_seen, max(buckets.last_seen) AS last_seen FROM buckets WHERE fleet = {fleet:String} GROUP BY id
) AS lives ON lives.id = counted.id
WHERE evidence >= {evidence:UInt8}
  AND ({q:String} = '' OR positionCaseInsensitiveUTF8(title, {q:String}) > 0 OR positionCaseInsensitiveUTF8(signature, {q:String}) > 0 OR startsWith(counted.id, {q:String}))
  AND ({new_since:Int64} = 0 OR toUnixTimestamp64Milli(first_seen) >= {new_since:Int64})
  AND (NOT {by_state:UInt8} OR has({in_state:Array(String)}, counted.id) != {not_in:UInt8})
  AND (NOT {after:UInt8} OR (key_1, key_2, counted.id) < ({after_1:UInt64}, {after_2:UInt64}, {after_id:String}))
ORDER BY key_1 DESC, key_2 DESC, counted.id DESC
LIMIT {limit:UInt32}`,
  row: z.object({
    id: z.string(), crashes: number, devices: number, verified_devices: number, first_seen: time, last_seen: time, evidence: number,
    title: z.string(), signature: z.string(), kind: z.string(), severity: z.string(), provisional: flag, swversions: strings, compartments: strings, key_1: number, key_2: number,
  }),
}
export type CountedBucket = z.output<typeof QUESTION.row>

/** The buckets that began at or after a time, as they are without merges. As many rows as there are buckets. */
const NEW = {
  sql: `SELECT bucket FROM buckets WHERE fleet = {fleet:String} GROUP BY bucket HAVING min(first_seen) >= {since:DateTime64(3)} LIMIT 10000`,
  row: z.object({ bucket: z.string() }),
}

/** Where a page ended: the two numbers that it is sorted by, and the bucket. */
export type Key = readonly [number, number, string]

export interface BucketsAsked {
  scope: Scope
  merges: Merges
  limit: number
  sort?: BucketsQuery['sort']
  filter?: Partial<Pick<BucketsQuery, 'q' | 'kind' | 'evidence' | 'swversion'>>
  /** Buckets in (or, inverted, not in) a state of triage. */
  state?: { buckets: string[]; inverted: boolean } | undefined
  only?: readonly string[]
  /** Buckets first seen at or after this time, ms. */
  newSince?: number
  after?: Key | undefined
  /** Of the same scope and buckets, where somebody has asked for them before. */
  counts?: Promise<Counts>
}

export async function readBuckets(clickhouse: ClickHouse, { scope, merges, limit, sort = 'devices', filter = {}, state, only = [], newSince = 0, after, counts }: BucketsAsked): Promise<CountedBucket[]> {
  if (newSince > 0 && only.length === 0) {
    // A merged bucket is as old as its oldest member, so a new one has nothing but new members, and most of the time there is none.
    only = (await ask(clickhouse, NEW, { fleet: scope.fleet, since: sqlTime(newSince) })).map(({ bucket }) => bucket)
    if (only.length === 0) return []
  }
  const { COUNTS, params } = await (counts ?? countsOf(clickhouse, { scope, only, swversion: filter.swversion ?? '' }))
  return ask(clickhouse, { sql: QUESTION.sql(COUNTS), row: QUESTION.row }, {
    ...params, ...mergeParams(merges), sort, limit, new_since: newSince,
    q: filter.q ?? '', kind: filter.kind ?? '', evidence: filter.evidence ?? 0,
    by_state: state ? 1 : 0, in_state: state?.buckets ?? [], not_in: state?.inverted ? 1 : 0,
    after: after ? 1 : 0, after_1: after?.[0] ?? 0, after_2: after?.[1] ?? 0, after_id: after?.[2] ?? '',
  })
}
