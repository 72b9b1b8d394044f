import { z } from 'zod'
import type { BucketsQuery } from '../api/requests.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, flag, number, strings, time } from './ask.ts'
import { askCounts, type Revised } from './counts.ts'
import type { Merges } from './merges.ts'
import { MERGED, mergeParams, type Scope } from './scope.ts'

/**
 * Which buckets are there in the range, with how many crashes and distinct devices, in one of five orders, a page at a time?
 * Devices come before crashes: one device that crashes at each start makes ten thousand of them. Counts are exact (counts.ts).
 * A filter by firmware reads the range crash by crash: 0.2 s for 24 h and 1 s for 28 days at 10 M crashes, half of it for titles and signatures, ten times that at 100 M.
 */
const KEYS: Record<BucketsQuery['sort'], readonly [string, string]> = {
  devices: ['verified_devices', 'devices'], crashes: ['crashes', 'devices'], evidence: ['toUInt64(evidence)', 'verified_devices'],
  last_seen: ['toUInt64(toUnixTimestamp64Milli(lives.last_seen))', 'devices'], first_seen: ['toUInt64(toUnixTimestamp64Milli(lives.first_seen))', 'devices'],
}
const LIFE = 'min(buckets.first_seen) AS first_seen, max(buckets.last_seen) AS last_seen'
const JOIN_LIVES = `INNER JOIN (SELECT ${MERGED} AS id, ${LIFE} FROM buckets WHERE fleet = {fleet:String} GROUP BY id) AS lives ON lives.id = counted.id`

const QUESTION = {
  sql: (COUNTS: string, JOIN: string, KEY: string, SECOND_KEY: string, CONDITIONS: string) => `
SELECT counted.*, ${KEY} AS key_1, ${SECOND_KEY} AS key_2
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
${JOIN}
WHERE ${CONDITIONS}
ORDER BY key_1 DESC, key_2 DESC, counted.id DESC
LIMIT {limit:UInt32}`,
  row: z.object({
    id: z.string(), crashes: number, devices: number, verified_devices: number, evidence: number,
    title: z.string(), signature: z.string(), kind: z.string(), severity: z.string(), provisional: flag, swversions: strings, compartments: strings, key_1: number, key_2: number,
  }),
}
export type CountedBucket = z.output<typeof QUESTION.row>

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
  after?: Key | undefined
  /** As askCounts() takes it. */
  revised?: Revised
}

const COLUMNS = ['bucket', 'evidence', 'kind', 'crashes', 'verified', 'unverified', 'provisional', 'strongest', 'swversions', 'compartments'] as const

export async function readBuckets(clickhouse: ClickHouse, { scope, merges, limit, sort = 'devices', filter = {}, state, only = [], after, revised }: BucketsAsked): Promise<CountedBucket[]> {
  const { q = '', kind = '', evidence = 0 } = filter
  const CONDITIONS = [
    'evidence >= {evidence:UInt8}',
    ...(q === '' ? [] : ['(positionCaseInsensitiveUTF8(title, {q:String}) > 0 OR positionCaseInsensitiveUTF8(signature, {q:String}) > 0 OR startsWith(counted.id, {q:String}))']),
    ...(state === undefined ? [] : [`counted.id ${state.inverted ? 'NOT IN' : 'IN'} {in_state:Array(String)}`]),
    ...(after === undefined ? [] : ['(key_1, key_2, counted.id) < ({after_1:UInt64}, {after_2:UInt64}, {after_id:String})']),
  ]
  const sql = (COUNTS: string) => QUESTION.sql(COUNTS, sort === 'first_seen' || sort === 'last_seen' ? JOIN_LIVES : '', ...KEYS[sort], CONDITIONS.join(' AND '))
  return askCounts(clickhouse, { scope, columns: COLUMNS, only, swversion: filter.swversion ?? '', revised }, { sql, row: QUESTION.row }, {
    ...mergeParams(merges), limit, q, kind, evidence, in_state: state?.buckets ?? [], after_1: after?.[0] ?? 0, after_2: after?.[1] ?? 0, after_id: after?.[2] ?? '',
  })
}

/** When did each of these begin, and when was it last seen, of all time? By primary key. */
const LIVES = {
  sql: `SELECT ${MERGED} AS id, ${LIFE} FROM buckets WHERE fleet = {fleet:String} AND bucket IN {members:Array(String)} GROUP BY id`,
  row: z.object({ id: z.string(), first_seen: time, last_seen: time }),
}
export type Life = z.output<typeof LIVES.row>

export async function readLives(clickhouse: ClickHouse, fleet: string, merges: Merges, buckets: readonly string[]): Promise<Life[]> {
  return buckets.length === 0 ? [] : ask(clickhouse, LIVES, { fleet, ...mergeParams(merges), members: buckets.flatMap((bucket) => merges.members(bucket)) })
}
