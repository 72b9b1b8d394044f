import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { readAlerts } from '../queries/alerts.ts'
import { iso } from '../queries/ask.ts'
import { readBucketCorrelations } from '../queries/bucket-correlations.ts'
import { readBucketCrashes } from '../queries/bucket-crashes.ts'
import { readBucketDevices } from '../queries/bucket-devices.ts'
import { readBucketFirmware } from '../queries/bucket-firmware.ts'
import { readBucketLife } from '../queries/bucket.ts'
import { readRevised } from '../queries/counts.ts'
import { readBuckets, type BucketsAsked } from '../queries/buckets.ts'
import { readDecisions, readDeviceStates, type Decisions } from '../queries/decisions.ts'
import { readEvents } from '../queries/events.ts'
import { readMerges, type Merges } from '../queries/merges.ts'
import { ALWAYS } from '../queries/scope.ts'
import { readSeries, slotted } from '../queries/series.ts'
import { DAY, fleetOf, scopeOf, type Api, type ApiDeps } from './api.ts'
import { bucketCorrelationsSchema, bucketDetailSchema, bucketDevicesSchema, bucketFirmwareSchema, bucketsPageSchema, crashesPageSchema, type BucketDetail } from './contract.ts'
import { bucketsQuerySchema, pageQuerySchema, rangeQuerySchema, scopeQuerySchema, type BucketsQuery } from './requests.ts'
import { pageOf, readCursor } from './cursor.ts'
import { Refused } from './problems.ts'
import { alertSummaries, bucketSummaries, readJudgements, sparklineOf } from './summaries.ts'

/** Reading buckets; what people say about them is in decisions.ts. A merged bucket answers as the one that it was merged into. */
export const bucketParams = z.object({ id: z.string().regex(/^[0-9a-f]{16}$/) })

const bucketKey = z.tuple([z.int().nonnegative(), z.int().nonnegative(), z.string().max(64)])
const crashKey = z.tuple([z.int().nonnegative(), z.string().max(64)])
const deviceKey = z.tuple([z.int().nonnegative(), z.string().max(1024)])
const tags = ['buckets']
const MINUTE = 60_000
const HOUR = 60 * MINUTE

export function bucketRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse, clock } = deps

  api.get('/api/v1/buckets', {
    schema: { summary: 'Buckets, those with most verified devices first', tags, querystring: bucketsQuerySchema, response: { 200: bucketsPageSchema } },
  }, async ({ query }) => {
    const { scope, after } = readCursor(query.cursor, bucketKey, scopeOf(deps, query))
    // Of sparklines too, whose slots may reach a little further.
    const [judgements, revised] = await Promise.all([readJudgements(deps, scope.fleet), readRevised(clickhouse, sparklineOf(scope).scope)])
    const rows = await readBuckets(clickhouse, { scope, merges: judgements.merges, limit: query.limit + 1, sort: query.sort, filter: query, state: inState(judgements.triage, query.state), after, revised })
    const page = pageOf(rows, query.limit, scope, (row) => [row.key_1, row.key_2, row.id])
    return { ...page, items: await bucketSummaries(deps, scope, judgements, page.items, { revised }), as_of: iso(clock.now()) }
  })

  api.get('/api/v1/buckets/:id', {
    schema: { summary: 'One bucket: what it is, why it is one, and what was decided', tags, params: bucketParams, querystring: rangeQuerySchema, response: { 200: bucketDetailSchema } },
  }, async ({ params, query }): Promise<BucketDetail> => {
    const scope = scopeOf(deps, query)
    const [judgements, revised] = await Promise.all([readJudgements(deps, scope.fleet), readRevised(clickhouse, { fleet: scope.fleet, ...ALWAYS })])
    const { merges, verdicts } = judgements
    const bucket = merges.target(params.id)
    const members = merges.members(bucket)
    const detail = slotted(scope, 120, scope.to - scope.from < DAY / 2 ? MINUTE : scope.to - scope.from > 14 * DAY ? DAY : HOUR)
    const [life, inRange, series, alerts, history] = await Promise.all([
      readBucketLife(clickhouse, scope.fleet, members, revised),
      readBuckets(clickhouse, { scope, merges, limit: 1, only: members, revised }),
      readSeries(clickhouse, detail.scope, detail.stepMs, { buckets: members, revised }),
      readAlerts(clickhouse, scope.fleet, { limit: 50, state: 'open', buckets: members }),
      readEvents(clickhouse, scope.fleet, { subjects: members.map((member) => `bucket:${member}`), limit: 200 }),
    ])
    if (life === null) throw new Refused('not-found', `fleet ${scope.fleet} has no bucket ${params.id}`)
    // Outside its own time the bucket is still there, with nothing in the range.
    const counted = inRange[0] ?? { ...life, id: bucket, crashes: 0, devices: 0, verified_devices: 0, key_1: 0, key_2: 0 }
    const spark = sparklineOf(scope)
    const lines = isDeepStrictEqual(spark, detail) ? new Map([[bucket, series.crashes]]) : undefined
    const [summary] = await bucketSummaries(deps, scope, judgements, [counted], { revised, lines, lives: [{ ...life, id: bucket }] })
    if (summary === undefined) throw new Refused('not-found', `fleet ${scope.fleet} has no bucket ${params.id}`)
    const { signature, signature_frames, signature_notes, ruleset, access, cwe, evidence_for, evidence_against, strongest, newest, oldest } = life
    return {
      ...summary, asked_for: params.id, access, cwe, evidence_for, evidence_against, strongest, newest, oldest, series, history,
      signature: { ruleset, text: signature, frames: signature_frames, notes: signature_notes },
      open_alerts: alertSummaries(alerts, verdicts),
      merges: merges.all.filter(({ bucket: from, into }) => members.includes(from) || members.includes(into)),
    }
  })

  api.get('/api/v1/buckets/:id/crashes', {
    schema: { summary: 'Its crashes, newest first', tags, params: bucketParams, querystring: pageQuerySchema, response: { 200: crashesPageSchema } },
  }, async ({ params, query }) => {
    const { scope, after } = readCursor(query.cursor, crashKey, scopeOf(deps, query))
    const rows = await readBucketCrashes(clickhouse, scope, await membersOf(deps, scope.fleet, params.id), { limit: query.limit + 1, before: after })
    return { ...pageOf(rows, query.limit, scope, (row) => [Date.parse(row.event_time), row.id]), as_of: iso(clock.now()) }
  })

  api.get('/api/v1/buckets/:id/devices', {
    schema: { summary: 'Its devices, those with most crashes first', tags, params: bucketParams, querystring: pageQuerySchema, response: { 200: bucketDevicesSchema } },
  }, async ({ params, query }) => {
    const { scope, after } = readCursor(query.cursor, deviceKey, scopeOf(deps, query))
    const members = await membersOf(deps, scope.fleet, params.id)
    const [rows, states] = await Promise.all([readBucketDevices(clickhouse, scope, members, { limit: query.limit + 1, after }), readDeviceStates(clickhouse, scope.fleet)])
    const page = pageOf(rows, query.limit, scope, (row) => [row.crashes, row.device])
    return { ...page, items: page.items.map((row) => ({ ...row, status: states.of(row.device).status })), as_of: iso(clock.now()) }
  })

  api.get('/api/v1/buckets/:id/firmware', {
    schema: { summary: 'Firmware versions by devices and crashes', tags, params: bucketParams, querystring: rangeQuerySchema, response: { 200: bucketFirmwareSchema } },
  }, async ({ params, query }) => {
    const scope = scopeOf(deps, query)
    const { merges, triage } = await readDecisions(clickhouse, scope.fleet)
    const bucket = merges.target(params.id)
    const items = await readBucketFirmware(clickhouse, scope, merges.members(bucket))
    const fixedIn = triage.get(bucket)?.fixed_in ?? null
    return { items: items.map((item) => ({ ...item, fixed: item.swversion === fixedIn })), as_of: iso(clock.now()) }
  })

  api.get('/api/v1/buckets/:id/correlations', {
    schema: { summary: 'What its crashes have in common and others have not', tags, params: bucketParams, querystring: rangeQuerySchema, response: { 200: bucketCorrelationsSchema } },
  }, async ({ params, query }) => {
    const scope = scopeOf(deps, query)
    return { items: await readBucketCorrelations(clickhouse, scope, await membersOf(deps, scope.fleet, params.id)), as_of: iso(clock.now()) }
  })
}

export const bucketScope = { params: bucketParams, querystring: scopeQuerySchema }

export async function membersOf(deps: ApiDeps, fleet: string, bucket: string): Promise<string[]> {
  const merges: Merges = await readMerges(deps.clickhouse, fleetOf(deps, fleet))
  return merges.members(merges.target(bucket))
}

/** A bucket that nobody has triaged is new, so `new` is everything that is in none of the other states. */
function inState(triage: Decisions['triage'], state: BucketsQuery['state']): BucketsAsked['state'] {
  if (state === undefined) return undefined
  const all = [...triage]
  return state === 'new'
    ? { buckets: all.filter(([, said]) => said.state !== 'new').map(([bucket]) => bucket), inverted: true }
    : { buckets: all.filter(([, said]) => said.state === state).map(([bucket]) => bucket), inverted: false }
}
