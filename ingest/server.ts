import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Server as TlsServer } from 'node:tls'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { Log } from '../infra/log/log.ts'
import type { Clock } from '../infra/service/clock.ts'
import { BrokenWorld, messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { Metrics } from '../infra/service/metrics.ts'
import type { Checks } from '../infra/service/ops.ts'
import { NO_TRACING, type Span, type Tracing } from '../infra/service/tracing.ts'
import { createAccept, type Accepted } from './accept.ts'
import { createAppend } from './append.ts'
import { bareType, createBare } from './bare.ts'
import { createChainVerifier } from './chain.ts'
import type { IngestSettings, Limits } from './config.ts'
import { createEnvelope } from './envelope.ts'
import { createHeartbeat, type Alive } from './heartbeat.ts'
import { createKnownCrashes } from './known.ts'
import { registerIngestMetrics } from './metrics.ts'
import { createOffer, type Offered } from './offer.ts'
import { isRefusal, problemOf, refuse, statusOf, type Refusal } from './outcome.ts'
import { createProve } from './prove.ts'
import { createChargeQuota, type Later } from './quota.ts'
import { createReceive } from './receive.ts'
import { createRefusedReports } from './refused.ts'
import type { Registry } from './registry.ts'
import { createReplay } from './replay.ts'
import { createResumable, type Progress, type RefusedPiece } from './resumable.ts'
import { createBudget } from './spool.ts'
import { createReceiveStatement } from './statement.ts'
import { createSubmit } from './submit.ts'
import { createThrottle, originOf } from './throttle.ts'
import { keepFresh, tlsOptions } from './tls.ts'
import { createTransport } from './transport.ts'
import { createUploads } from './uploads.ts'
import { createVerifier } from './verify.ts'

/**
 * The door that devices reach.
 *
 * Promise: every request gets one answer, and a 2xx means durable (accept.ts). A refused sender is answered at once and
 * its unread body is dropped within bounds; whatever breaks here is a 503, because a device keeps its dump then.
 * Fastify routes; the two bodies are read from the raw stream, since nothing may buffer a stranger's dump.
 */
export interface IngestDeps {
  settings: IngestSettings
  log: Log
  blobs: Blobs
  /** Started and stopped by whoever made it. */
  registry: Registry
  clock: Clock
  logger: Logger
  metrics: Metrics
  tracing?: Tracing
  /** A folder of its own, for `replay`, `known` and `uploads`. */
  directory: string
}

export interface Ingest {
  start(): Promise<{ url: string; port: number }>
  stop(): Promise<void>
  /** What ingest needs to take a crash. */
  checks: Checks<'log' | 'blobs' | 'registry'>
}

export function createIngest({ settings, log, blobs, registry, clock, logger, metrics, tracing = NO_TRACING, directory }: IngestDeps): Ingest {
  const { limits, quotas, host, port, appendMs, retryAfterSeconds } = settings
  const uploads = createUploads({ directory: join(directory, 'uploads'), limits: settings.uploads })
  const counters = registerIngestMetrics(metrics, {
    registryAge() {
      const readAt = registry.readAt()
      return readAt === null ? null : Math.max(0, clock.now() - readAt) / 1000
    },
    uploads: () => uploads.count(),
  })
  const replay = createReplay({ directory: join(directory, 'replay'), logger })
  const known = createKnownCrashes({ directory: join(directory, 'known'), days: settings.knownDays, logger })
  const throttle = createThrottle(quotas)
  const budget = createBudget(limits.bytesInFlight, (used) => counters.bytesInFlight.set(used))
  const verifier = createVerifier({ registry, chains: createChainVerifier({ cacheSize: limits.chainsCached }) })
  const append = createAppend({ log, metrics: counters, tracing, appendMs })
  const accept = createAccept({ append, replay, known, metrics: counters })
  const refused = createRefusedReports({ append, clock, logger, summaryMs: quotas.summaryMs })
  const charge = createChargeQuota({ throttle, refused })
  const prove = createProve({ verifier, throttle, refused, clock, metrics: counters })
  const statement = createReceiveStatement({ prove, throttle, charge, limits })
  const transport = createTransport({ verifier, registry, clock, proxies: settings.proxies })
  const parts = { transport, prove, accept, append, charge, statement, known, verifier, replay, registry, throttle, blobs, budget, clock, logger, limits, metrics: counters }
  const receive = createReceive(parts)
  const bare = createBare(parts)
  const submit = createSubmit(parts)
  const envelope = createEnvelope(parts)
  const offer = createOffer(parts)
  const heartbeat = createHeartbeat(parts)
  const resumable = createResumable({ ...parts, uploads, uploadLimits: settings.uploads })

  const app = createApp(settings)
  const waitingToGoOn = new WeakSet<IncomingMessage>()
  // Without this listener node tells every sender to go on, also those who are about to be refused.
  app.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    waitingToGoOn.add(request)
    app.server.emit('request', request, response)
  })

  const arrivalOf = (request: FastifyRequest, reply: FastifyReply) => ({
    request: request.raw,
    origin: originOf(transport.addressOf(request.raw)),
    requestId: request.id,
    goOn() { if (waitingToGoOn.delete(request.raw)) reply.raw.writeContinue() },
  })

  app.post('/v1/crashes', (request, reply) => serve('/v1/crashes', request, reply, crashAnswer, () => {
    const [arrival, type] = [arrivalOf(request, reply), bareType(request.raw)]
    return type === undefined ? receive(arrival) : bare({ ...arrival, query: request.query as Record<string, unknown> }, type)
  }))
  app.post('/v1/heartbeats', (request, reply) => serve('/v1/heartbeats', request, reply, heartbeatAnswer, () => heartbeat(arrivalOf(request, reply))))
  app.post('/v1/crashes/offer', (request, reply) => serve('/v1/crashes/offer', request, reply, offerAnswer, async () => {
    const offered = await offer(arrivalOf(request, reply))
    if (!isRefusal(offered)) counters.offers.inc({ answer: offerWord(offered) })
    return offered
  }))

  type Named = { Params: { token: string } }
  const uploadRoute = '/v1/uploads/:token'
  app.post('/v1/uploads', (request, reply) => serve('/v1/uploads', request, reply, progressAnswer, () => resumable.create(arrivalOf(request, reply))))
  app.head<Named>(uploadRoute, (request, reply) => serve(uploadRoute, request, reply, progressAnswer, () => resumable.look(arrivalOf(request, reply), request.params.token)))
  app.patch<Named>(uploadRoute, (request, reply) => serve(uploadRoute, request, reply, progressAnswer, () => resumable.append(arrivalOf(request, reply), request.params.token)))
  app.delete<Named>(uploadRoute, (request, reply) => serve(uploadRoute, request, reply, progressAnswer, () => resumable.cancel(arrivalOf(request, reply), request.params.token)))

  app.post('/submit', (request, reply) => serve('/submit', request, reply, socorro(request) ? socorroAnswer : uploadAnswer, () => {
    const arrival = arrivalOf(request, reply)
    arrival.goOn()
    return submit({ ...arrival, query: request.query as Record<string, unknown> })
  }))

  // Sentry's clients come back at once when they are told 429, so nobody is told that there.
  const patient = async (outcome: Promise<Accepted | Refusal>): Promise<Accepted | Refusal> => {
    const answer = await outcome
    return isRefusal(answer) && statusOf(answer.slug) === 429 ? { ...answer, slug: 'overloaded' } : answer
  }
  const sentry = (route: string, render: (accepted: Accepted) => Answer, take: typeof submit) => {
    for (const path of [route, route.slice(0, -1)]) {
      app.post(path, (request, reply) => serve(route, request, reply, render, () => {
        const arrival = arrivalOf(request, reply)
        arrival.goOn()
        const query = request.query as Record<string, unknown>
        return patient(take({ ...arrival, query: { ...query, key: query.sentry_key ?? sentryKeyOf(request) } }))
      }))
    }
  }
  sentry('/api/:project/minidump/', uploadAnswer, submit)
  sentry('/api/:project/envelope/', envelopeAnswer, envelope)

  async function serve<T extends object>(
    route: string, request: FastifyRequest, reply: FastifyReply, render: (outcome: T) => Answer, work: () => Promise<T | Refusal>,
  ): Promise<void> {
    const attributes = { 'http.request.method': request.method, 'http.route': route, 'overrun.request_id': request.id }
    await tracing.span(`${request.method} ${route}`, { kind: 'server', attributes }, (span) => answerOne(route, request, reply, render, work, span))
  }

  async function answerOne<T extends object>(
    route: string, request: FastifyRequest, reply: FastifyReply, render: (outcome: T) => Answer, work: () => Promise<T | Refusal>, span: Span,
  ): Promise<void> {
    const started = performance.now()
    const outcome = await attempt(request.id, work)
    const answer = isRefusal(outcome) ? refusalAnswer(outcome, retryAfterSeconds) : render(outcome as T)
    if (isRefusal(outcome)) {
      counters.rejected.inc({ reason: outcome.slug })
      // Over quota is counted, not logged: a storm must not fill the disk with lines about itself.
      if (!('retryAfter' in outcome)) logger.info({ stage: 'ingest', slug: outcome.slug, request_id: request.id, detail: outcome.detail }, 'refused')
    }
    span.set({ 'http.response.status_code': answer.code, ...(isRefusal(outcome) ? { 'overrun.slug': outcome.slug } : {}) })
    if (isRefusal(outcome) && outcome.slug === 'quota-source') await tarpit()
    await send(request.raw, reply, answer, limits)
    counters.requests.inc({ route, code: answer.code })
    counters.requestSeconds.observe((performance.now() - started) / 1000)
  }

  /** Who asks again at once is slowed down to the pace of its connections, for as long as they are not too many to keep. */
  let waiting = 0
  async function tarpit(): Promise<void> {
    if (waiting >= limits.connections / 4) return
    waiting += 1
    await delay(limits.tarpitMs)
    waiting -= 1
  }

  async function attempt<T extends object>(requestId: string, work: () => Promise<T | Refusal>): Promise<T | Refusal> {
    if (!registry.known()) return refuse('registry-unknown', 'no snapshot of fleets and anchors has been read yet')
    try {
      return await work()
    } catch (error) {
      const code = error instanceof BrokenWorld ? error.code : 'unexpected'
      const unexpected = code === 'unexpected' ? { err: error } : {}
      logger.error({ stage: 'ingest', slug: 'log-unavailable', code, request_id: requestId, reason: messageOf(error), ...unexpected }, 'not durable')
      return refuse('log-unavailable', 'the report could not be made durable')
    }
  }

  const checks: Ingest['checks'] = {
    log: () => log.check(),
    blobs: () => blobs.check(),
    async registry() {
      if (!registry.known()) throw new Error('no snapshot of fleets and anchors has been read yet')
    },
  }

  let fresh: { stop(): void } | undefined
  return {
    checks,
    async start() {
      await uploads.load()
      refused.start()
      await app.listen({ host, port })
      if (settings.tls !== undefined) fresh = keepFresh(app.server as unknown as TlsServer, settings.tls, logger)
      const bound = (app.server.address() as AddressInfo).port
      return { port: bound, url: `${settings.tls === undefined ? 'http' : 'https'}://${host.includes(':') ? `[${host}]` : host}:${bound}` }
    },
    async stop() {
      fresh?.stop()
      await app.close()
      await refused.stop()
      await Promise.all([replay.close(), known.close()])
    },
  }
}

function createApp({ limits, tls }: IngestSettings): FastifyInstance {
  const ids = randomBytes(6).toString('hex')
  let requests = 0
  // Room for a Crash-Manifest header: 8 KiB in base64.
  const http = { headersTimeout: limits.headersMs, maxHeaderSize: 24 * 1024 }
  const options = {
    logger: false,
    genReqId: () => `${ids}${(requests++).toString(16).padStart(6, '0')}`,
    bodyLimit: Number.MAX_SAFE_INTEGER,
    // Bodies have time-outs of their own (body.ts); node would end a slow but steady upload at a fixed time.
    requestTimeout: 0,
    keepAliveTimeout: 72_000,
    forceCloseConnections: 'idle',
  } as const
  // To fastify's types the two kinds of server are strangers; nothing here tells them apart.
  const app = tls === undefined ? Fastify({ ...options, http }) : Fastify({ ...options, https: { ...http, ...tlsOptions(tls, limits.headersMs) } }) as unknown as FastifyInstance
  app.server.maxConnections = limits.connections
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.setNotFoundHandler((request, reply) =>
    send(request.raw, reply, problemAnswer(404, { type: 'about:blank', title: 'Not Found', status: 404 }), limits))
  app.setErrorHandler<Error & { statusCode?: number }>((error, request, reply) => {
    const status = error.statusCode ?? 500
    return send(request.raw, reply, problemAnswer(status, { type: 'about:blank', title: error.message, status }), limits)
  })
  return app
}

interface Answer { code: number; type?: string; body: string; headers?: Record<string, string | number> }

const problemAnswer = (code: number, problem: object): Answer => ({ code, type: 'application/problem+json', body: JSON.stringify(problem) })

function refusalAnswer(refusal: Refusal | Later | RefusedPiece, retryAfterSeconds: number): Answer {
  const code = statusOf(refusal.slug)
  const headers = 'headers' in refusal ? refusal.headers : {}
  const answer = { ...problemAnswer(code, problemOf(refusal)), headers }
  if (code !== 503 && code !== 429) return answer
  return { ...answer, headers: { ...headers, 'retry-after': 'retryAfter' in refusal ? refusal.retryAfter : retryAfterSeconds } }
}

const crashAnswer = ({ status, id, authLevel }: Accepted): Answer => (status === 'duplicate'
  ? { code: 200, type: 'application/json', body: `{"id":"${id}","status":"duplicate"}` }
  : { code: 202, type: 'application/json', body: `{"id":"${id}","status":"queued","auth_level":"${authLevel}"}` })

/** `known` is durable and counted; `send` promises nothing, the device keeps its dump until the report itself is taken. */
const offerWord = ({ status }: Offered): 'send' | 'known' | 'duplicate' => (status === 'queued' ? 'known' : status)
const offerAnswer = (offered: Offered): Answer =>
  ({ code: offered.status === 'queued' ? 202 : 200, type: 'application/json', body: `{"id":"${offered.id}","status":"${offerWord(offered)}"}` })

const heartbeatAnswer = ({ status }: Alive): Answer => ({ code: status === 'queued' ? 202 : 200, type: 'application/json', body: `{"status":"${status}"}` })

/** Whole, an upload is answered like a crash; before, what is told is an offset below which everything is synced. */
function progressAnswer(progress: Progress): Answer {
  switch (progress.kind) {
    case 'accepted': return { ...crashAnswer(progress.accepted), headers: { 'upload-complete': '?1' } }
    case 'cancelled': return { code: 204, body: '' }
    default: return {
      code: progress.kind === 'created' ? 201 : 204, body: '',
      headers: {
        location: progress.location, 'upload-offset': progress.offset, 'upload-complete': '?0', 'upload-length': progress.size, 'upload-limit': progress.limit,
      },
    }
  }
}

/** Crashpad keeps the whole body as the report's id, and takes any answer but 200 for a failure. */
const uploadAnswer = ({ id }: Accepted): Answer => ({ code: 200, type: 'text/plain', body: id })
const socorroAnswer = ({ id }: Accepted): Answer => ({ code: 200, type: 'text/plain', body: `CrashID=bp-${id}\n` })
const envelopeAnswer = ({ id }: Accepted): Answer => ({ code: 200, type: 'application/json', body: `{"id":"${id}"}` })
const sentryKeyOf = ({ headers }: FastifyRequest): string | undefined => /\bsentry_key=([^\s,]+)/.exec(String(headers['x-sentry-auth'] ?? ''))?.[1]
const socorro = ({ query }: FastifyRequest): boolean => (query as Record<string, unknown>).reply === 'socorro'

/**
 * Sends an answer. When the body hasn't been read, closing at once would reset the connection and could take the answer
 * with it (RFC 9112 9.6): so the answer goes out whole, what still comes is dropped for a while, then the connection ends.
 */
async function send(request: IncomingMessage, reply: FastifyReply, { code, type, body, headers: own }: Answer, limits: Limits): Promise<void> {
  const headers: Record<string, string | number> = {
    'x-request-id': reply.request.id, 'x-content-type-options': 'nosniff', 'cache-control': 'no-store', ...(type === undefined ? {} : { 'content-type': type }), ...own,
  }
  if (request.complete) {
    // Not returned: a reply is thenable, and to wait for it would be to wait for the socket.
    // As bytes: to text fastify adds a charset, and an answer to a body that was not read whole would not have it.
    reply.code(code).headers(headers).send(Buffer.from(body))
    return
  }
  reply.hijack()
  if (request.socket.destroyed) return
  reply.raw.writeHead(code, { ...headers, 'content-length': Buffer.byteLength(body), connection: 'close' })
  reply.raw.write(body)
  await drop(request, limits)
  reply.raw.end()
}

function drop(request: IncomingMessage, { lingerBytes, lingerMs }: Limits): Promise<void> {
  return new Promise((resolve) => {
    let dropped = 0
    const timer = setTimeout(finish, lingerMs)
    function finish(): void {
      clearTimeout(timer)
      request.off('data', count)
      resolve()
    }
    function count(chunk: Buffer): void {
      dropped += chunk.length
      if (dropped > lingerBytes) finish()
    }
    request.removeAllListeners('readable')
    request.on('data', count)
    request.once('end', finish)
    request.once('close', finish)
    request.resume()
  })
}
