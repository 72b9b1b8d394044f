import { strataOf } from '../detect/finding.ts'
import { iso } from '../queries/ask.ts'
import { countOpenAlerts, readAlerts } from '../queries/alerts.ts'
import { readBuckets } from '../queries/buckets.ts'
import { readLostMessages } from '../queries/log-gaps.ts'
import { readMerges } from '../queries/merges.ts'
import { readChanges } from '../queries/overview.ts'
import { DAY, fleetOf, type Api, type ApiDeps } from './api.ts'
import { overviewSchema } from './contract.ts'
import { scopeQuerySchema } from './requests.ts'
import { alertSummaries, bucketSummaries } from './summaries.ts'

export function overviewRoutes(api: Api, deps: ApiDeps): void {
  api.get('/api/v1/overview', {
    schema: { summary: 'What changed: the last 24 h against the 24 h before', tags: ['overview'], querystring: scopeQuerySchema, response: { 200: overviewSchema } },
  }, async ({ query }) => {
    const { clickhouse, clock } = deps
    const now = clock.now()
    const fleet = fleetOf(deps, query.fleet)
    const merges = await readMerges(clickhouse, fleet)
    const twoDays = { fleet, from: now + 1 - 2 * DAY, to: now + 1 }
    const lastDay = { ...twoDays, from: now + 1 - DAY }
    const [changes, openAlerts, topAlerts, newest, lost] = await Promise.all([
      readChanges(clickhouse, twoDays, lastDay.from, merges),
      countOpenAlerts(clickhouse, fleet, strataOf('security')),
      readAlerts(clickhouse, fleet, { limit: 5, state: 'open', strata: strataOf('security') }),
      readBuckets(clickhouse, { scope: lastDay, merges, limit: 10, sort: 'first_seen', newSince: lastDay.from }),
      readLostMessages(clickhouse, now - 14 * DAY),
    ])
    return {
      fleet, as_of: iso(now), ...changes, lost_messages: lost, open_alerts: openAlerts,
      top_alerts: await alertSummaries(deps, fleet, topAlerts),
      newest_buckets: await bucketSummaries(deps, lastDay, merges, newest),
    }
  })
}
