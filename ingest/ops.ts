import Fastify, { type FastifyInstance } from 'fastify'
import type { Metrics } from '../infra/service/metrics.ts'

/** What ingest needs to take a crash, each 'ok' or why not. */
export type Readiness = Record<'log' | 'blobs' | 'registry', string>

export const isReady = (readiness: Readiness): boolean => Object.values(readiness).every((state) => state === 'ok')

/**
 * For those who run ingest, on a listener that devices can't reach: /livez says that the process answers and asks
 * nobody else, /readyz that a crash would be taken now, /metrics what has happened.
 */
export function createOps({ ready, metrics }: { ready(): Promise<Readiness>; metrics: Metrics }): FastifyInstance {
  const ops = Fastify({ logger: false, forceCloseConnections: true })
  ops.get('/livez', (_request, reply) => reply.type('text/plain').send('ok\n'))
  ops.get('/readyz', async (_request, reply) => {
    const readiness = await ready()
    return reply.code(isReady(readiness) ? 200 : 503).send({ ready: isReady(readiness), checks: readiness })
  })
  ops.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await metrics.metrics()))
  return ops
}
