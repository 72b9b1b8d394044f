import cookie from '@fastify/cookie'
import type { FastifyRequest } from 'fastify'
import { LRUCache } from 'lru-cache'
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { DashboardSettings } from '../config.ts'
import type { Api } from './api.ts'
import { loginBodySchema } from './requests.ts'
import { Refused } from './problems.ts'

/**
 * Who may ask. One token: as `Authorization: Bearer`, or given once to POST /login for a cookie that no script can read
 * and no other site can send. The cookie is an end time and its HMAC under a key made from the token, so it survives a
 * restart and dies with the token. Writes with a cookie must come from our own pages (Origin).
 * Everything is refused without one of the two, except routes that say `config: { open: true }`.
 */
declare module 'fastify' {
  interface FastifyContextConfig { open?: boolean }
  interface FastifyRequest { auth: 'bearer' | 'session' | null }
}

const COOKIE = 'overrun-session'
const MINUTE = 60_000

export async function addSessions(api: Api, settings: DashboardSettings, onFailedLogin: () => void): Promise<void> {
  const failures = new LRUCache<string, number>({ max: 10_000, ttl: MINUTE })
  const secure = settings.publicUrl?.startsWith('https:') ?? false
  await api.register(cookie)
  api.decorateRequest('auth', null)

  api.addHook('onRequest', async (request) => {
    request.auth = authOf(request, settings.token)
    if (request.routeOptions.config.open) return
    if (request.auth === null) throw new Refused('not-authenticated', `${request.method} ${request.routeOptions.url ?? 'this address'} needs a token`)
    if (request.auth === 'session' && !SAFE.has(request.method)) requireOwnOrigin(request, settings)
  })

  api.post('/api/v1/login', {
    config: { open: true },
    schema: { summary: 'Sign in: the token for a session cookie', tags: ['session'], body: loginBodySchema },
  }, async (request, reply) => {
    if (request.headers.origin !== undefined) requireOwnOrigin(request, settings)
    const failed = failures.get(request.ip) ?? 0
    if (failed >= settings.failedLogins) throw new Refused('too-many-logins', `${failed} failed sign-ins from this address in the last minute`)
    if (!equal(request.body.token, settings.token)) {
      failures.set(request.ip, failed + 1)
      onFailedLogin()
      throw new Refused('wrong-token', 'The token is wrong')
    }
    return reply
      .setCookie(COOKIE, sealed(Date.now() + settings.sessionMs, settings.token), { httpOnly: true, sameSite: 'strict', path: '/', secure, maxAge: Math.floor(settings.sessionMs / 1000) })
      .code(204).send()
  })

  api.post('/api/v1/logout', { schema: { summary: 'Sign out', tags: ['session'] } }, async (_request, reply) =>
    reply.clearCookie(COOKIE, { httpOnly: true, sameSite: 'strict', path: '/', secure }).code(204).send())
}

const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])

function authOf(request: FastifyRequest, token: string): 'bearer' | 'session' | null {
  const bearer = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
  if (bearer !== undefined) return equal(bearer, token) ? 'bearer' : null
  const session = request.cookies[COOKIE]
  return session !== undefined && isSealed(session, token) ? 'session' : null
}

function requireOwnOrigin(request: FastifyRequest, settings: DashboardSettings): void {
  const { origin, host } = request.headers
  const site = request.headers['sec-fetch-site']
  const ours = settings.publicUrl === undefined ? [`http://${host}`, `https://${host}`] : [new URL(settings.publicUrl).origin]
  if (origin === undefined || !ours.includes(origin) || (site !== undefined && site !== 'same-origin')) {
    throw new Refused('cross-site', `Origin ${JSON.stringify(origin ?? null)} is not this dashboard`)
  }
}

function sealed(until: number, token: string): string {
  return `${until}.${createHmac('sha256', `overrun session ${token}`).update(String(until)).digest('hex')}`
}

function isSealed(session: string, token: string): boolean {
  const until = Number(/^(\d{1,15})\.[0-9a-f]{64}$/.exec(session)?.[1] ?? 0)
  return until > Date.now() && equal(session, sealed(until, token))
}

/** Takes as long for a near miss as for a wild guess, whatever the lengths. */
function equal(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}
