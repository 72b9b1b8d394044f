import helmet from '@fastify/helmet'
import fastifyStatic from '@fastify/static'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify from 'fastify'
import { jsonSchemaTransform, serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod'
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import type { Log } from '../infra/log/log.ts'
import type { Clock } from '../infra/service/clock.ts'
import { messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { Metrics } from '../infra/service/metrics.ts'
import { archiveSettingsSchema, type ArchiveSettings } from '../symbolicate/config.ts'
import type { SymbolStore } from '../symbolicate/symbols/store.ts'
import { alertRoutes } from './api/alerts.ts'
import type { Api, ApiDeps } from './api/api.ts'
import { bucketRoutes } from './api/buckets.ts'
import { crashRoutes } from './api/crashes.ts'
import { decisionRoutes } from './api/decisions.ts'
import { deviceRoutes } from './api/devices.ts'
import { fleetRoutes } from './api/fleets.ts'
import { inventoryRoutes } from './api/inventory.ts'
import { overviewRoutes } from './api/overview.ts'
import { problemHandler, sendProblem } from './api/problems.ts'
import { recordRoutes } from './api/records.ts'
import { addSessions } from './api/session.ts'
import { streamRoutes, type Stream } from './api/stream.ts'
import { symbolRoutes } from './api/symbols.ts'
import { upkeepRoutes } from './api/upkeep.ts'
import type { DashboardSettings } from './config.ts'
import { registerDashboardMetrics } from './metrics.ts'
import { createEventLog } from './queries/event-log.ts'

/**
 * The dashboard: the API under /api/v1, its description at /docs, and the web pages.
 * Promise: nothing of a device is served to whoever has not shown the token; strings of crashes are data on the whole way,
 * bound in SQL, encoded in JSON, text on the page, under a policy that runs no inline script.
 */
export interface DashboardDeps {
  settings: DashboardSettings
  clickhouse: ClickHouse
  blobs: Blobs
  symbols: Pick<SymbolStore, 'put'>
  clock: Clock
  logger: Logger
  metrics: Metrics
  /** Told after an event that ingest's registry reads, so that it need not wait for its next poll; the answer waits for it. */
  onRegistryChange?: () => unknown
  /** Told after symbols have arrived; workers in other processes find the event. */
  onSymbols?: () => void
  /** For what needs the log: dead letters that are put back, and sweeps. */
  openLog?: () => Promise<Pick<Log, 'append' | 'stats'>>
  archive?: ArchiveSettings
}

export interface Dashboard {
  start(): Promise<{ url: string; port: number }>
  stop(): Promise<void>
}

const BODY_LIMIT = 64 * 1024
const OUR_PAGES = fileURLToPath(new URL('./web/dist/', import.meta.url))
const NOT_BUILT = 'The web pages are not built. Run: npm run build\nThe API works without them; its description is at /docs.\n'

export function createDashboard({ settings, clickhouse, blobs, symbols, clock, logger, metrics, onRegistryChange, onSymbols = () => {}, openLog, archive = archiveSettingsSchema.parse({}) }: DashboardDeps): Dashboard {
  const counted = registerDashboardMetrics(metrics)
  const app = Fastify({
    bodyLimit: BODY_LIMIT,
    genReqId: () => randomUUID(),
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 1024 },
  }).withTypeProvider<ZodTypeProvider>()
  const deps: ApiDeps = { settings, clickhouse, blobs, symbols, clock, logger, events: createEventLog({ clickhouse, clock }), onRegistryChange: tellRegistry, onSymbols, onUpload: (result) => counted.symbolUploads.inc({ protocol: 'http', result }), openLog, archive }
  let stream: Stream | null = null

  return {
    async start() {
      stream = await build(app)
      await app.listen({ host: settings.host, port: settings.port })
      const address = app.server.address()
      const port = typeof address === 'object' && address !== null ? address.port : settings.port
      const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host
      return { port, url: settings.publicUrl?.replace(/\/+$/, '') ?? `http://${host}:${port}` }
    },
    async stop() {
      stream?.stop()
      await app.close()
    },
  }

  /** The decision is durable, whatever becomes of this: the registry reads it with its next poll. */
  async function tellRegistry(): Promise<void> {
    try {
      await onRegistryChange?.()
    } catch (error) {
      logger.warn({ stage: 'api', error: messageOf(error) }, 'the registry will read a decision later')
    }
  }

  async function build(api: Api): Promise<Stream> {
    api.setValidatorCompiler(validatorCompiler)
    api.setSerializerCompiler(serializerCompiler)
    api.setErrorHandler(problemHandler(logger))
    api.removeContentTypeParser('text/plain')
    await api.register(helmet, {
      contentSecurityPolicy: {
        useDefaults: false,
        directives: { defaultSrc: ["'self'"], imgSrc: ["'self'", 'data:'], objectSrc: ["'none'"], baseUri: ["'none'"], formAction: ["'self'"], frameAncestors: ["'none'"] },
      },
      // A plain-http address on loopback must not be locked into https.
      strictTransportSecurity: settings.publicUrl?.startsWith('https:') ?? false,
      referrerPolicy: { policy: 'no-referrer' },
    })
    api.addHook('onRequest', async (request, reply) => {
      reply.header('x-request-id', request.id)
      if (request.url.startsWith('/api/')) reply.header('cache-control', 'no-store')
    })
    api.addHook('onResponse', async (request, reply) => {
      const route = request.routeOptions.url ?? 'none'
      counted.requests.inc({ route, code: reply.statusCode })
      counted.seconds.observe({ route }, reply.elapsedTime / 1000)
    })
    await api.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: { title: 'Overrun dashboard', version: '1', description: 'Buckets, campaigns, devices and what people decide about them. Errors are RFC 9457 problem+json.' },
        components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
        security: [{ token: [] }],
      },
      transform: jsonSchemaTransform,
    })
    await addSessions(api, settings, () => counted.failedLogins.inc())
    await api.register(swaggerUi, { routePrefix: '/docs', uiConfig: { docExpansion: 'list', validatorUrl: null } })

    api.get('/livez', { config: { open: true }, schema: { hide: true } }, async () => ({ status: 'ok' }))
    api.get('/api/v1/openapi.json', { schema: { hide: true } }, async () => api.swagger())
    overviewRoutes(api, deps)
    bucketRoutes(api, deps)
    crashRoutes(api, deps)
    alertRoutes(api, deps)
    deviceRoutes(api, deps)
    symbolRoutes(api, deps)
    fleetRoutes(api, deps)
    inventoryRoutes(api, deps)
    decisionRoutes(api, deps)
    recordRoutes(api, deps)
    upkeepRoutes(api, deps)
    await addWebPages(api)
    return streamRoutes(api, deps, (count) => counted.streams.set(count))
  }

  /** Only files that were there at the start are served, by their names; every other address is a page's own, so index.html. */
  async function addWebPages(api: Api): Promise<void> {
    const { webRoot = OUR_PAGES } = settings
    const files = new Set(existsSync(webRoot) ? readdirSync(webRoot, { recursive: true, encoding: 'utf8' }) : [])
    const built = files.has('index.html')
    if (built) await api.register(fastifyStatic, { root: webRoot, serve: false, cacheControl: false })
    api.get('/*', { config: { open: true }, schema: { hide: true } }, async (request, reply) => {
      const path = new URL(request.url, 'http://dashboard').pathname.slice(1)
      if (/^(api|docs)(\/|$)/.test(path)) return sendProblem(request, reply, 'not-found', `there is no ${request.method} /${path.slice(0, 200)}`)
      if (!built) return reply.code(503).type('text/plain; charset=utf-8').send(NOT_BUILT)
      // Assets are named by their content, so they never change; index.html names them, so it is asked for each time.
      const immutable = path.startsWith('assets/')
      reply.header('cache-control', immutable ? 'public, max-age=31536000, immutable' : 'no-cache')
      if (immutable && !files.has(path)) return sendProblem(request, reply, 'not-found', `there is no /${path.slice(0, 200)}`)
      return reply.sendFile(files.has(path) && path.includes('.') ? path : 'index.html')
    })
    api.setNotFoundHandler({}, (request, reply) => sendProblem(request, reply, 'not-found', `there is no ${request.method} ${request.url.slice(0, 200)}`))
  }
}
