import type { FastifyReply } from 'fastify'
import { z } from 'zod'
import { parseJson } from '../queries/ask.ts'
import { readNeighbours } from '../queries/crash-neighbours.ts'
import { readCrash, type StoredCrash } from '../queries/crash.ts'
import { readDeviceStates } from '../queries/decisions.ts'
import { ACTOR, type Api, type ApiDeps } from './api.ts'
import { membersOf } from './buckets.ts'
import { crashDetailSchema, type CrashDetail } from './contract.ts'
import { reportSchema } from './report-contract.ts'
import { scopeQuerySchema } from './requests.ts'
import { Refused } from './problems.ts'

/**
 * One crash, and the bytes that were signed. Whoever takes the bytes is written down first: a dump holds the memory of a
 * device, and somebody will ask who has seen it.
 */
const params = z.object({ id: z.string().regex(/^[0-9a-f]{32}$/) })
const tags = ['crashes']

export function crashRoutes(api: Api, deps: ApiDeps): void {
  const { clickhouse, blobs, events } = deps

  api.get('/api/v1/crashes/:id', {
    schema: { summary: 'One crash, whole', tags, params, querystring: scopeQuerySchema, response: { 200: crashDetailSchema } },
  }, async ({ params: { id }, query }): Promise<CrashDetail> => {
    const crash = await stored(id, query.fleet)
    const { pack: _pack, dump_offset: _dump, manifest_pack: _manifestPack, manifest_offset: _manifest, report: text, ...rest } = crash
    const members = await membersOf(deps, crash.fleet, crash.bucket)
    const [neighbours, states] = await Promise.all([readNeighbours(clickhouse, crash, members), readDeviceStates(clickhouse, crash.fleet)])
    const report = reportSchema.safeParse(parseJson(text))
    return {
      ...rest, ...neighbours,
      report: report.data ?? null,
      report_fault: report.success ? null : z.prettifyError(report.error),
      device_status: states.of(crash.device).status,
    }
  })

  api.get('/api/v1/crashes/:id/dump', {
    schema: { summary: 'The dump, as it was sent', tags, params, querystring: scopeQuerySchema, produces: ['application/octet-stream'] },
  }, async ({ params: { id }, query }, reply) => {
    const crash = await stored(id, query.fleet)
    return attach(reply, crash, 'dump', { pack: crash.pack, offset: crash.dump_offset, length: crash.dump_length })
  })

  api.get('/api/v1/crashes/:id/manifest', {
    schema: { summary: 'The signed manifest, as it was sent', tags, params, querystring: scopeQuerySchema, produces: ['application/octet-stream'] },
  }, async ({ params: { id }, query }, reply) => {
    const crash = await stored(id, query.fleet)
    if (crash.manifest_length === 0) throw new Refused('not-found', `crash ${id} was not signed, so it has no manifest`)
    return attach(reply, crash, 'manifest', { pack: crash.manifest_pack, offset: crash.manifest_offset, length: crash.manifest_length })
  })

  async function stored(id: string, fleet: string | undefined): Promise<StoredCrash> {
    const crash = await readCrash(clickhouse, id, fleet)
    if (crash === null) throw new Refused('not-found', `there is no crash ${id}`)
    return crash
  }

  async function attach(reply: FastifyReply, crash: StoredCrash, what: 'dump' | 'manifest', place: { pack: string; offset: number; length: number }): Promise<FastifyReply> {
    await events.append({ fleet: crash.fleet, actor: ACTOR, kind: `crash.${what}-read`, subject: `crash:${crash.id}`, body: { device: crash.device, bytes: place.length } })
    const bytes = place.length === 0 ? new Uint8Array(0) : await blobs.get(place.pack, { start: place.offset, end: place.offset + place.length })
    if (bytes === null || bytes.length !== place.length) throw new Refused('bytes-missing', `crash ${crash.id}: ${place.pack} no longer holds its ${what}`)
    return reply
      .type('application/octet-stream')
      .header('content-disposition', `attachment; filename="${crash.id}.${what === 'dump' ? 'dmp' : 'cose'}"`)
      .send(Buffer.from(bytes))
  }
}
