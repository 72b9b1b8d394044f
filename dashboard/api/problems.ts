import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod'
import { BrokenWorld, messageOf } from '../../infra/service/errors.ts'
import type { Logger } from '../../infra/service/logger.ts'
import { PROBLEMS, type Problem, type ProblemSlug } from './contract.ts'

/** What the API refuses, as problem+json (RFC 9457): one closed table of slugs, each with what to do now. */
export class Refused extends Error {
  readonly slug: ProblemSlug
  constructor(slug: ProblemSlug, detail: string) {
    super(detail)
    this.slug = slug
  }
}

/** The answer to anything that a handler throws; only what is broken on our side is logged. */
export function problemHandler(logger: Logger) {
  return (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const { slug, detail } = understood(error)
    if (slug === 'internal' || slug === 'unavailable') {
      logger.error({ stage: 'api', slug, request_id: request.id, route: request.routeOptions.url, error: messageOf(error) }, 'a request failed')
    }
    return sendProblem(request, reply, slug, detail)
  }
}

export function sendProblem(request: FastifyRequest, reply: FastifyReply, slug: ProblemSlug, detail: string): FastifyReply {
  const { status, title, hint } = PROBLEMS[slug]
  const problem: Problem = { type: slug, title, status, detail, hint, request_id: request.id }
  if (status === 401) reply.header('www-authenticate', 'Bearer')
  if (status === 429 || status === 503) reply.header('retry-after', status === 429 ? '60' : '5')
  return reply.code(status).type('application/problem+json').serializer(JSON.stringify).send(problem)
}

function understood(error: unknown): { slug: ProblemSlug; detail: string } {
  if (error instanceof Refused) return { slug: error.slug, detail: error.message }
  if (error instanceof BrokenWorld && error.retryable) return { slug: 'unavailable', detail: '' }
  if (hasZodFastifySchemaValidationErrors(error)) {
    return { slug: 'invalid-request', detail: error.validation.map(({ instancePath, message }) => `${instancePath || 'request'}: ${message}`).join('; ') }
  }
  const { code, statusCode } = error as Partial<FastifyError>
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return { slug: 'too-large', detail: messageOf(error) }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return { slug: 'media-type', detail: messageOf(error) }
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) return { slug: 'invalid-request', detail: messageOf(error) }
  return { slug: 'internal', detail: '' }
}
