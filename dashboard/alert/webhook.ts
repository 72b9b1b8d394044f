import { createHmac } from 'node:crypto'
import { lookup } from 'node:dns'
import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { messageOf } from '../../infra/service/errors.ts'
import { isPublicAddress } from './address.ts'

/**
 * One try to hand a message to a webhook, with the headers of Standard Webhooks: webhook-id, webhook-timestamp (seconds)
 * and webhook-signature, one `v1,` and base64 HMAC-SHA256 over `id.timestamp.body` for each secret, so that a receiver can
 * change its secret without missing a message. https://www.standardwebhooks.com
 *
 * The address is judged when the name has been resolved and used as judged (a name can't change in between), redirects
 * are not followed, and neither a slow nor a talkative receiver holds us up.
 */
export interface Webhook {
  /** Names it in the delivery log. */
  name: string
  url: string
  /** `whsec_` and base64 of 24 to 64 bytes; the newest first. */
  secrets: readonly string[]
  /** Lets it reach addresses inside; for receivers on one's own network. */
  allowPrivate?: boolean
}

export interface Message { id: string; body: string }

/** Outcomes of one try. Only `delivered` and the first three refusals are final. */
export const OUTCOMES = ['delivered', 'url-refused', 'address-refused', 'gone', 'status', 'timeout', 'network'] as const
export type Outcome = (typeof OUTCOMES)[number]
export const isFinal = (outcome: Outcome): boolean => ['delivered', 'url-refused', 'address-refused', 'gone'].includes(outcome)

export interface Attempt { outcome: Outcome; detail: string }

const DEADLINE_MS = 10_000
const MAX_ANSWER_BYTES = 64 * 1024

/** Empty when the webhook can be used; else why not. */
export function faultOf({ url, secrets }: Webhook): string {
  if (!URL.canParse(url)) return 'the address is no URL'
  const { protocol, username, password } = new URL(url)
  if (protocol !== 'http:' && protocol !== 'https:') return `the address has to be http or https, not ${protocol}`
  if (username !== '' || password !== '') return 'the address holds a user name or a password'
  if (secrets.length === 0) return 'there is no secret'
  const wrong = secrets.findIndex((secret) => keyOf(secret) === undefined)
  return wrong === -1 ? '' : `secret ${wrong + 1} has to be whsec_ and the base64 of 24 to 64 bytes`
}

export function sign(secrets: readonly string[], { id, body }: Message, timestamp: number): string {
  return secrets.map((secret) => {
    const key = keyOf(secret)
    if (key === undefined) throw new TypeError('a secret that faultOf refuses')
    return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`
  }).join(' ')
}

export async function tryWebhook(webhook: Webhook, message: Message, { deadlineMs = DEADLINE_MS, signal }: { deadlineMs?: number; signal?: AbortSignal } = {}): Promise<Attempt> {
  const fault = faultOf(webhook)
  if (fault !== '') return { outcome: 'url-refused', detail: fault }
  const url = new URL(webhook.url)
  const literal = url.hostname.replace(/^\[(.*)\]$/, '$1')
  if (!webhook.allowPrivate && isIP(literal) !== 0 && !isPublicAddress(literal)) return refusedAddress(literal)

  const body = Buffer.from(message.body)
  const timestamp = Math.floor(Date.now() / 1000)
  const deadline = AbortSignal.timeout(deadlineMs)
  const { promise, resolve } = Promise.withResolvers<Attempt>()
  const request = (url.protocol === 'https:' ? requestHttps : requestHttp)(url, {
    method: 'POST', agent: false, lookup: webhook.allowPrivate ? lookup : lookupPublic, signal: signal ? AbortSignal.any([deadline, signal]) : deadline,
    headers: {
      'content-type': 'application/json', 'content-length': body.length, 'user-agent': 'Overrun', 'webhook-id': message.id,
      'webhook-timestamp': timestamp, 'webhook-signature': sign(webhook.secrets, message, timestamp),
    },
  })
  request.on('error', (error) => resolve(
    error instanceof AddressRefused ? refusedAddress(error.address)
    : deadline.aborted ? { outcome: 'timeout', detail: `no answer within ${deadlineMs / 1000} s` }
    : { outcome: 'network', detail: messageOf(error).slice(0, 500) }))
  request.on('response', (response) => {
    const status = response.statusCode ?? 0
    resolve(judge(status))
    // Reading a short answer to its end is polite; a long one is cut.
    let received = 0
    response.on('data', (chunk: Buffer) => {
      received += chunk.length
      if (received > MAX_ANSWER_BYTES) request.destroy()
    })
    response.on('error', () => {})
  })
  request.end(body)
  return promise
}

function judge(status: number): Attempt {
  if (status >= 200 && status < 300) return { outcome: 'delivered', detail: String(status) }
  if (status === 410) return { outcome: 'gone', detail: '410: the receiver wants no more messages' }
  if (status >= 300 && status < 400) return { outcome: 'status', detail: `${status}: redirects are not followed` }
  return { outcome: 'status', detail: String(status) }
}

const refusedAddress = (address: string): Attempt => ({ outcome: 'address-refused', detail: `${address} is not a public address; allow private addresses for this webhook if it is meant` })

class AddressRefused extends Error {
  readonly address: string
  constructor(address: string) {
    super(`${address} is refused`)
    this.address = address
  }
}

/** One inside address among many is enough to refuse: which of them is used would be the resolver's choice. */
const lookupPublic: LookupFunction = (hostname, options, done) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return done(error, '', 0)
    const inside = addresses.find(({ address }) => !isPublicAddress(address))
    if (inside) return done(new AddressRefused(inside.address), '', 0)
    const [first] = addresses
    if (options.all || !first) return done(null, addresses)
    done(null, first.address, first.family)
  })
}

function keyOf(secret: string): Buffer | undefined {
  if (!/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(secret)) return undefined
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64')
  return key.length >= 24 && key.length <= 64 ? key : undefined
}
