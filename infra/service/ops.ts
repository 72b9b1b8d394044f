import Fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import { z } from 'zod'
import { messageOf } from './errors.ts'
import type { Metrics } from './metrics.ts'

export const opsSettingsSchema = z.object({
  host: z.string().default('127.0.0.1').describe('Address of /livez, /readyz and /metrics; never one that devices or strangers reach'),
  port: z.int().min(0).max(65_535).default(0).describe('Port of the same; 0 is any free one'),
})
export type OpsSettings = z.infer<typeof opsSettingsSchema>

/** What a process needs to do its work, by name; each rejects with why it is not there. */
export type Checks<Name extends string = string> = Readonly<Record<Name, () => Promise<unknown>>>

/**
 * For those who run a process, on a listener of its own: /livez says that it answers and asks nobody else, /readyz that
 * it would do its work now (?verbose lists every check, else only those that fail), /metrics what has happened.
 */
export interface Ops {
  start(): Promise<{ url: string; port: number }>
  stop(): Promise<void>
}

const CHECK_MS = 5_000

export function createOps({ settings: { host, port }, metrics, checks, hints = () => ({}) }: {
  settings: OpsSettings
  metrics: Metrics
  checks: () => Checks
  /** Shown with ?verbose, and never a reason not to be ready. */
  hints?: () => Checks
}): Ops {
  const app = Fastify({ logger: false, forceCloseConnections: true })
  app.get('/livez', (_request, reply) => reply.type('text/plain').send('ok\n'))
  app.get<{ Querystring: { verbose?: string } }>('/readyz', async ({ query }, reply) => {
    const verbose = query.verbose !== undefined
    const results = await outcomesOf(checks())
    const failed = results.filter(([, outcome]) => outcome !== 'ok')
    const ready = failed.length === 0
    const beside = verbose ? await outcomesOf(hints()) : []
    return reply.code(ready ? 200 : 503).send({
      ready, checks: Object.fromEntries(verbose ? results : failed), ...(beside.length === 0 ? {} : { hints: Object.fromEntries(beside) }),
    })
  })
  app.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await metrics.metrics()))
  return {
    async start() {
      await app.listen({ host, port })
      const bound = (app.server.address() as AddressInfo).port
      return { port: bound, url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}` }
    },
    stop: () => app.close(),
  }
}

const outcomesOf = (checks: Checks) => Promise.all(Object.entries(checks).map(async ([name, check]) => [name, await outcomeOf(check)] as const))

async function outcomeOf(check: () => Promise<unknown>): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const timer = setTimeout(() => resolve(`no answer within ${CHECK_MS} ms`), CHECK_MS)
  try {
    return await Promise.race([check().then(() => 'ok'), promise])
  } catch (error) {
    return messageOf(error)
  } finally {
    clearTimeout(timer)
  }
}
