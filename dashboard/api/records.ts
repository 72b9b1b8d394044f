import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { iso } from '../queries/ask.ts'
import { readDeadLetters } from '../queries/dead-letters.ts'
import { readEvents } from '../queries/events.ts'
import { readFleets } from '../queries/fleet.ts'
import { ACTOR, fleetOf, type Api, type ApiDeps } from './api.ts'
import { deadLettersPageSchema, eventsPageSchema, whoamiSchema } from './contract.ts'
import { deadLettersQuerySchema, eventsQuerySchema } from './requests.ts'
import { pageOf, readCursor } from './cursor.ts'

/** The audit log, the dead letters, and who asks. */
const VERSION = z.object({ version: z.string() }).parse(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))).version

const eventKey = z.tuple([z.int().positive()])
const letterKey = z.tuple([z.int().nonnegative(), z.string().max(256), z.int().nonnegative(), z.int().nonnegative()])

export function recordRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse, clock, settings } = deps

  api.get('/api/v1/events', {
    schema: { summary: 'What people did, newest first', tags: ['records'], querystring: eventsQuerySchema, response: { 200: eventsPageSchema } },
  }, async ({ query }) => {
    const { scope, after } = readCursor(query.cursor, eventKey, { fleet: fleetOf(deps, query.fleet), from: 0, to: clock.now() })
    const asked = { subjects: query.subject === undefined ? [] : [query.subject], limit: query.limit + 1 }
    const rows = await readEvents(clickhouse, scope.fleet, after === undefined ? asked : { ...asked, before: after[0] })
    return { ...pageOf(rows, query.limit, scope, (row) => [row.number]), as_of: iso(clock.now()) }
  })

  api.get('/api/v1/dead-letters', {
    schema: { summary: 'What could not become a crash, and why', tags: ['records'], querystring: deadLettersQuerySchema, response: { 200: deadLettersPageSchema } },
  }, async ({ query }) => {
    const { scope, after } = readCursor(query.cursor, letterKey, { fleet: '', from: 0, to: clock.now() })
    const rows = await readDeadLetters(clickhouse, { limit: query.limit + 1, state: query.state, after })
    return { ...pageOf(rows, query.limit, scope, (row) => [Date.parse(row.at), row.topic, row.partition, row.offset]), as_of: iso(clock.now()) }
  })

  api.get('/api/v1/whoami', {
    schema: { summary: 'Who asks, and which fleets there are', tags: ['session'], response: { 200: whoamiSchema } },
  }, async (request) => ({
    actor: ACTOR, auth: request.auth ?? 'bearer', fleet: settings.fleet, version: VERSION, as_of: iso(clock.now()),
    fleets: [...new Set([settings.fleet, ...(await readFleets(clickhouse))])].sort(),
  }))
}
