import { readAlert } from '../queries/alerts.ts'
import { readBucketLife } from '../queries/bucket.ts'
import type { EventKind, NewEvent } from '../queries/event-log.ts'
import { readEvents } from '../queries/events.ts'
import { readMerges } from '../queries/merges.ts'
import { BrokenWorld } from '../../infra/service/errors.ts'
import { ACTOR, fleetOf, type Api, type ApiDeps } from './api.ts'
import { alertParams } from './alerts.ts'
import { bucketScope } from './buckets.ts'
import { eventSchema, type Event } from './contract.ts'
import { deviceStatusBodySchema, mergeBodySchema, rebaseBodySchema, scopeQuerySchema, triageBodySchema, unmergeBodySchema, verdictBodySchema } from './requests.ts'
import { deviceParams } from './devices.ts'
import { Refused } from './problems.ts'

/** What people decide about buckets, alerts and devices: each is one event, and the answer is that event. */
const tags = ['decisions']
const response = { 200: eventSchema }

export function decisionRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse } = deps

  api.post('/api/v1/buckets/:id/triage', {
    schema: { summary: 'Say what a bucket is', tags, ...bucketScope, body: triageBodySchema, response },
  }, async ({ params: { id }, query, body }) => {
    const fleet = fleetOf(deps, query.fleet)
    await requireBucket(fleet, id)
    return say({ fleet, kind: 'bucket.triaged', subject: `bucket:${(await readMerges(clickhouse, fleet)).target(id)}`, body: { ...body, fixed_in: body.fixed_in ?? null } })
  })

  api.post('/api/v1/buckets/:id/merge', {
    schema: { summary: 'Count a bucket as part of another', tags, ...bucketScope, body: mergeBodySchema, response },
  }, async ({ params: { id }, query, body }) => {
    const fleet = fleetOf(deps, query.fleet)
    await Promise.all([requireBucket(fleet, id), requireBucket(fleet, body.into)])
    if ((await readMerges(clickhouse, fleet)).target(body.into) === id || body.into === id) throw new Refused('merge-cycle', `${body.into} is already part of ${id}`)
    return say({ fleet, kind: 'bucket.merged', subject: `bucket:${id}`, body })
  })

  api.post('/api/v1/buckets/:id/unmerge', {
    schema: { summary: 'Take a merge back', tags, ...bucketScope, body: unmergeBodySchema, response },
  }, async ({ params: { id }, query, body }) => {
    const fleet = fleetOf(deps, query.fleet)
    if (!(await readMerges(clickhouse, fleet)).all.some(({ bucket }) => bucket === id)) throw new Refused('not-found', `bucket ${id} is not merged into another`)
    return say({ fleet, kind: 'bucket.unmerged', subject: `bucket:${id}`, body })
  })

  api.post('/api/v1/alerts/:id/verdict', {
    schema: { summary: 'Say what an alert was', tags, params: alertParams, querystring: scopeQuerySchema, body: verdictBodySchema, response },
  }, async ({ params: { id }, query, body }) => {
    const fleet = fleetOf(deps, query.fleet)
    if ((await readAlert(clickhouse, fleet, id)) === null) throw new Refused('not-found', `fleet ${fleet} has no alert ${id}`)
    return say({ fleet, kind: 'alert.verdict', subject: `alert:${id}`, body })
  })

  // A device may be disabled before its first crash, so it need not be known.
  api.post('/api/v1/devices/:id/status', {
    schema: { summary: 'Disable, revoke, admit or hold back a device; ingest acts on it within seconds', tags, params: deviceParams, querystring: scopeQuerySchema, body: deviceStatusBodySchema, response },
  }, async ({ params: { id }, query, body }) => {
    const event = await say({ fleet: fleetOf(deps, query.fleet), kind: 'device.status', subject: `device:${id}`, body })
    await deps.onRegistryChange()
    return event
  })

  api.post('/api/v1/devices/:id/rebase', {
    schema: { summary: 'Say that the boot count of a device began again, as after a factory reset', tags, params: deviceParams, querystring: scopeQuerySchema, body: rebaseBodySchema, response },
  }, async ({ params: { id }, query, body }) => {
    const event = await say({ fleet: fleetOf(deps, query.fleet), kind: 'device.rebased', subject: `rebase:${id}`, body })
    await deps.onRegistryChange()
    return event
  })

  async function requireBucket(fleet: string, bucket: string): Promise<void> {
    if ((await readBucketLife(clickhouse, fleet, [bucket])) === null) throw new Refused('not-found', `fleet ${fleet} has no bucket ${bucket}`)
  }

  const say = (event: Omit<NewEvent, 'actor'> & { kind: EventKind }): Promise<Event> => sayEvent(deps, event)
}

/** Appends, and answers with the line as it now stands in the log. */
export async function sayEvent(deps: ApiDeps, event: Omit<NewEvent, 'actor'>): Promise<Event> {
  const stored = await deps.events.append({ ...event, actor: ACTOR })
  const line = (await readEvents(deps.clickhouse, event.fleet, { subjects: [event.subject], before: stored.number + 1, limit: 1 }))[0]
  if (line === undefined) throw new BrokenWorld('event-lost', `event ${stored.number} of fleet ${event.fleet} was acknowledged and is not there`, { retryable: false })
  return line
}

