import { z } from 'zod'
import { readAlerts } from '../queries/alerts.ts'
import { iso } from '../queries/ask.ts'
import { readDecisions, readDeviceStates } from '../queries/decisions.ts'
import { readDeviceCredentials, readDeviceTimeline, readDeviceVersions } from '../queries/device.ts'
import { readDevices } from '../queries/devices.ts'
import { readEvents } from '../queries/events.ts'
import { readMerges } from '../queries/merges.ts'
import { readRefusals } from '../queries/refusals.ts'
import { scopeOf, type Api, type ApiDeps } from './api.ts'
import { deviceDetailSchema, devicesPageSchema, refusalsPageSchema, type DeviceDetail } from './contract.ts'
import { devicesQuerySchema, rangeQuerySchema, refusalsQuerySchema } from './requests.ts'
import { pageOf, readCursor } from './cursor.ts'
import { Refused } from './problems.ts'
import { alertSummaries, deviceSummaries } from './summaries.ts'

export const deviceParams = z.object({ id: z.string().min(1).max(512) })
const deviceKey = z.tuple([z.int().nonnegative(), z.int().nonnegative(), z.string().max(512)])
const refusalKey = z.tuple([z.int().nonnegative(), z.string().max(64)])
const tags = ['devices']

export function deviceRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse, clock } = deps

  api.get('/api/v1/devices', {
    schema: { summary: 'Devices, those with most crashes first', tags, querystring: devicesQuerySchema, response: { 200: devicesPageSchema } },
  }, async ({ query }) => {
    const { scope, after } = readCursor(query.cursor, deviceKey, scopeOf(deps, query))
    const merges = await readMerges(clickhouse, scope.fleet)
    const said = query.status === undefined || query.status === 'pending' ? undefined : (await readDeviceStates(clickhouse, scope.fleet)).said(query.status)
    const filter = { ...(said && { only: said }), pending: query.status === 'pending' }
    const rows = said?.length === 0 ? [] : await readDevices(clickhouse, { scope, merges, limit: query.limit + 1, sort: query.sort, q: query.q, after, ...filter })
    const page = pageOf(rows, query.limit, scope, (row) => [row.key_1, row.key_2, row.device])
    const items = await deviceSummaries(deps, scope.fleet, page.items)
    // One that was admitted since its last report is asked for as pending by the table, and is it no more.
    return { ...page, items: query.status === undefined ? items : items.filter(({ status }) => status === query.status), as_of: iso(clock.now()) }
  })

  api.get('/api/v1/refusals', {
    schema: { summary: 'Reports that quotas kept out, newest first', tags, querystring: refusalsQuerySchema, response: { 200: refusalsPageSchema } },
  }, async ({ query }) => {
    const { scope, after } = readCursor(query.cursor, refusalKey, scopeOf(deps, query))
    const rows = await readRefusals(clickhouse, scope.fleet, { limit: query.limit + 1, before: after })
    return { ...pageOf(rows, query.limit, scope, (row) => [Date.parse(row.last_at), row.id]), as_of: iso(clock.now()) }
  })

  api.get('/api/v1/devices/:id', {
    schema: { summary: 'One device: crashes, credentials and firmware in time', tags, params: deviceParams, querystring: rangeQuerySchema, response: { 200: deviceDetailSchema } },
  }, async ({ params: { id }, query }): Promise<DeviceDetail> => {
    const scope = scopeOf(deps, query)
    const { fleet } = scope
    const summarised = async () => {
      const { merges, verdicts } = await readDecisions(clickhouse, fleet)
      return { verdicts, summaries: await deviceSummaries(deps, fleet, await readDevices(clickhouse, { scope, merges, limit: 1, only: [id] })) }
    }
    const [{ verdicts, summaries: [summary] }, timeline, credentials, versions, alerts, history, states, refusals] = await Promise.all([
      summarised(), readDeviceTimeline(clickhouse, fleet, id), readDeviceCredentials(clickhouse, fleet, id), readDeviceVersions(clickhouse, fleet, id),
      readAlerts(clickhouse, fleet, { limit: 50, state: 'open', devices: [id] }), readEvents(clickhouse, fleet, { subjects: [`device:${id}`, `rebase:${id}`], limit: 200 }), readDeviceStates(clickhouse, fleet),
      readRefusals(clickhouse, fleet, { limit: 100, device: id }),
    ])
    if (summary === undefined) throw new Refused('not-found', `fleet ${fleet} has not heard of device ${id}`)
    return {
      ...summary, timeline, credentials, versions, history, refusals,
      registry: states.of(id),
      open_alerts: alertSummaries(alerts, verdicts),
    }
  })
}
