import { strataOf } from '../detect/finding.ts'
import { iso } from '../queries/ask.ts'
import { countOpenAlerts } from '../queries/alerts.ts'
import { readBuckets } from '../queries/buckets.ts'
import { readRevised } from '../queries/counts.ts'
import { readLostMessages } from '../queries/log-gaps.ts'
import { readChanges, readNewBuckets, twoDaysUntil } from '../queries/overview.ts'
import { DAY, fleetOf, type Api, type ApiDeps } from './api.ts'
import { overviewSchema } from './contract.ts'
import { scopeQuerySchema } from './requests.ts'
import { alertSummaries, bucketSummaries, MOST_OPEN_ALERTS, readJudgements } from './summaries.ts'

export function overviewRoutes(api: Api, deps: ApiDeps): void {
  api.get('/api/v1/overview', {
    schema: { summary: 'What changed: this hour and the 23 before it against the day before, up to the same minute', tags: ['overview'], querystring: scopeQuerySchema, response: { 200: overviewSchema } },
  }, async ({ query }) => {
    const { clickhouse, clock } = deps
    const now = clock.now()
    const fleet = fleetOf(deps, query.fleet)
    const days = twoDaysUntil(now, fleet)
    const lastDay = { fleet, from: days.middle, to: days.to }
    const [revised, judgements] = [readRevised(clickhouse, days), readJudgements(deps, fleet)]

    const newBuckets = async () => {
      const its = await judgements
      const { merges } = its
      const { newest, ...counts } = await readNewBuckets(clickhouse, days, merges)
      const known = { revised: await revised }
      const rows = newest.length === 0 ? [] : await readBuckets(clickhouse, { scope: lastDay, merges, limit: 10, sort: 'first_seen', only: newest, ...known })
      return { counts, summaries: await bucketSummaries(deps, lastDay, its, rows, known) }
    }
    const [changes, { counts, summaries }, { open, verdicts }, lost] = await Promise.all([
      revised.then((its) => readChanges(clickhouse, days, its)), newBuckets(), judgements, readLostMessages(clickhouse, now - 14 * DAY),
    ])
    return {
      fleet, as_of: iso(now), ...changes, new_buckets: counts, lost_messages: lost,
      open_alerts: open.length < MOST_OPEN_ALERTS ? open.length : await countOpenAlerts(clickhouse, fleet, strataOf('security')),
      top_alerts: alertSummaries(open.slice(0, 5), verdicts),
      newest_buckets: summaries,
    }
  })
}
