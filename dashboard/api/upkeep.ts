import { forgetStep } from '../../symbolicate/forget.ts'
import { NOT_REPLAYED, replayLetters, waitingIds } from '../../symbolicate/replay.ts'
import { recordSweep, sweep } from '../../symbolicate/sweep.ts'
import { asBrokenWorld, iso } from '../queries/ask.ts'
import { ACTOR, fleetOf, type Api, type ApiDeps } from './api.ts'
import { deviceParams } from './devices.ts'
import { Refused } from './problems.ts'
import { scopeQuerySchema } from './requests.ts'
import { forgetBodySchema, forgottenSchema, replayBodySchema, replayedSchema, sweepBodySchema, sweptSchema, type ForgottenAnswer, type SweptAnswer } from './upkeep-contract.ts'

/**
 * What people do to keep an installation in order: put dead letters back, sweep the archive, forget a device. Who asked is
 * written down first. Each may be asked again, after an answer that got lost too: what is done already is done.
 */
const tags = ['upkeep']
/** Ids that a line of the audit log names; of more it has the number. */
const IDS_TOLD = 100

export function upkeepRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse, blobs, clock, events, settings } = deps

  api.post('/api/v1/dead-letters/replay', {
    schema: { summary: 'Put dead letters back into the log, as they were', tags, body: replayBodySchema, response: { 200: replayedSchema } },
  }, async ({ body }) => {
    const log = await openLog()
    const ids = 'ids' in body ? body.ids : await understood(waitingIds(clickhouse, body.reason))
    if (ids.length === 0) return { replayed: [], skipped: [] }
    await events.append({ fleet: settings.fleet, actor: ACTOR, kind: 'dead-letters.replayed', subject: 'dead-letters', body: { letters: ids.length, ids: ids.slice(0, IDS_TOLD) } })
    const { replayed, skipped } = await understood(replayLetters(ids, { clickhouse, log, clock, actor: ACTOR }))
    return { replayed, skipped: skipped.map(({ id, why }) => ({ id, why, words: NOT_REPLAYED[why] })) }
  })

  api.post('/api/v1/sweep', {
    schema: { summary: 'Remove from the archive what no crash names and what is past its age', tags, body: sweepBodySchema, response: { 200: sweptSchema } },
  }, async ({ body: { dry_run } }): Promise<SweptAnswer> => {
    const log = await openLog()
    if (!dry_run) await events.append({ fleet: settings.fleet, actor: ACTOR, kind: 'archive.swept', subject: 'archive', body: {} })
    const { at, dryRun, writtenUntil, ...swept } = await understood(sweep({ log, blobs, clickhouse, settings: deps.archive }, { dryRun: dry_run }))
    if (!dry_run) await understood(recordSweep(clickhouse, { at, dryRun, writtenUntil, ...swept }))
    return { at: iso(at), dry_run: dryRun, ...swept, written_until: iso(writtenUntil) }
  })

  api.post('/api/v1/devices/:id/forget', {
    schema: { summary: 'Take away what is kept of a device, a step at a time', tags, params: deviceParams, querystring: scopeQuerySchema, body: forgetBodySchema, response: { 200: forgottenSchema } },
  }, async ({ params: { id: device }, query, body: { reason, after } }): Promise<ForgottenAnswer> => {
    const fleet = fleetOf(deps, query.fleet)
    const say = (kind: 'device.forget-asked' | 'device.forgotten', body: Record<string, unknown>) =>
      events.append({ fleet, actor: ACTOR, kind, subject: `device:${device}`, body })
    if (after === '') await say('device.forget-asked', { reason })
    return understood(forgetStep({ fleet, device }, after, {
      clickhouse, blobs,
      onRows: async (rows) => { if (Object.keys(rows).length > 0) await say('device.forgotten', { reason, rows }) },
    }))
  })

  async function openLog() {
    if (deps.openLog === undefined) throw new Refused('log-missing', 'this dashboard was started without a log')
    return deps.openLog()
  }
}

/** What ClickHouse says is told as what every other question would tell. */
async function understood<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw asBrokenWorld(error)
  }
}
