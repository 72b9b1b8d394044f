import { z } from 'zod'
import { queueOf, strataOf } from '../detect/finding.ts'
import { readAlert, readAlertVersions, readAlerts } from '../queries/alerts.ts'
import { iso, parseJson } from '../queries/ask.ts'
import { readBucketLife } from '../queries/bucket.ts'
import { readDecisions } from '../queries/decisions.ts'
import { readEvents } from '../queries/events.ts'
import { readSeries, slotted } from '../queries/series.ts'
import { fleetOf, type Api, type ApiDeps } from './api.ts'
import { alertDetailSchema, alertEvidenceSchema, alertsPageSchema, type AlertDetail } from './contract.ts'
import { alertsQuerySchema, scopeQuerySchema } from './requests.ts'
import { pageOf, readCursor } from './cursor.ts'
import { Refused } from './problems.ts'
import { alertSummaries } from './summaries.ts'

export const alertParams = z.object({ id: z.string().min(1).max(256) })
const alertKey = z.tuple([z.union([z.literal(0), z.literal(1)]), z.int().nonnegative(), z.string().max(256)])
const tags = ['alerts']
const HOUR = 3_600_000

export function alertRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse, clock } = deps

  api.get('/api/v1/alerts', {
    schema: { summary: 'Alerts, open ones first', tags, querystring: alertsQuerySchema, response: { 200: alertsPageSchema } },
  }, async ({ query }) => {
    const { scope, after } = readCursor(query.cursor, alertKey, { fleet: fleetOf(deps, query.fleet), from: 0, to: clock.now() })
    const [rows, { verdicts }] = await Promise.all([
      readAlerts(clickhouse, scope.fleet, { limit: query.limit + 1, state: query.state, pattern: query.pattern ?? '', strata: query.queue === undefined ? [] : strataOf(query.queue), after }),
      readDecisions(clickhouse, scope.fleet),
    ])
    const page = pageOf(rows, query.limit, scope, (row) => [row.state === 'open' ? 1 : 0, Date.parse(row.opened_at), row.id])
    return { ...page, items: alertSummaries(page.items, verdicts), as_of: iso(clock.now()) }
  })

  api.get('/api/v1/alerts/:id', {
    schema: { summary: 'One alert: evidence for and against, the time strip, and the query that fired', tags, params: alertParams, querystring: scopeQuerySchema, response: { 200: alertDetailSchema } },
  }, async ({ params, query }): Promise<AlertDetail> => {
    const fleet = fleetOf(deps, query.fleet)
    const alert = await readAlert(clickhouse, fleet, params.id)
    if (alert === null) throw new Refused('not-found', `fleet ${fleet} has no alert ${params.id}`)
    const { evidence: text, query_params: bound, ...row } = alert
    const { merges, verdicts } = await readDecisions(clickhouse, fleet)
    const buckets = alert.bucket === '' ? [] : merges.members(merges.target(alert.bucket))
    const strip = stripOf(fleet, Date.parse(alert.first_event), Date.parse(alert.last_event), clock.now())
    const [series, life, versions, history] = await Promise.all([
      readSeries(clickhouse, strip.scope, strip.stepMs, { buckets, device: alert.device }),
      buckets.length === 0 ? null : readBucketLife(clickhouse, fleet, buckets),
      readAlertVersions(clickhouse, fleet, alert.id),
      readEvents(clickhouse, fleet, { subjects: [`alert:${alert.id}`], limit: 200 }),
    ])
    const evidence = alertEvidenceSchema.safeParse(parseJson(text))
    return {
      ...row, queue: queueOf(row.stratum), verdict: verdicts.get(row.id) ?? null, query: alert.query, versions, history,
      evidence: evidence.data ?? null,
      evidence_fault: evidence.success ? null : z.prettifyError(evidence.error),
      strip: series,
      query_params: z.record(z.string(), z.unknown()).safeParse(parseJson(bound)).data ?? {},
      bucket_title: life?.title ?? null,
    }
  })
}

/** The alert's own time, as much again before it (six hours at least: quiet is part of the picture), and an hour after. */
function stripOf(fleet: string, first: number, last: number, now: number): ReturnType<typeof slotted> {
  const before = Math.max(last - first, 6 * HOUR)
  return slotted({ fleet, from: first - before, to: Math.max(last + 1, Math.min(last + HOUR, now + 1)) }, 48)
}
