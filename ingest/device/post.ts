import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../../infra/service/errors.ts'

/**
 * Posts one signed report as a device should: again after network errors, 408, 429 and 5xx, with exponential back-off and
 * full jitter so that a fleet does not come back in step; never again after another 4xx. Retry-After is a floor.
 * Sending the same bytes again is always safe: the server knows the report by its counter and digest.
 */
export type PostOptions = { url: string; body: Uint8Array; retries: number; timeoutMs: number; onRetry?: (why: string, waitMs: number) => void }
export type Posted =
  | { kind: 'answered'; status: number; text: string }
  | { kind: 'timeout' | 'network'; reason: string }

const FIRST_WAIT_MS = 500
const LONGEST_WAIT_MS = 60_000

export async function postReport({ url, body, retries, timeoutMs, onRetry }: PostOptions): Promise<Posted> {
  for (let attempt = 0; ; attempt++) {
    const { posted, retryAfterMs } = await once(url, body, timeoutMs)
    const again = posted.kind !== 'answered' || posted.status === 408 || posted.status === 429 || posted.status >= 500
    if (!again || attempt === retries) return posted
    const wait = retryAfterMs + Math.random() * Math.min(FIRST_WAIT_MS * 2 ** attempt, LONGEST_WAIT_MS)
    onRetry?.(posted.kind === 'answered' ? `answer ${posted.status}` : posted.reason, wait)
    await sleep(wait)
  }
}

async function once(url: string, body: Uint8Array, timeoutMs: number): Promise<{ posted: Posted; retryAfterMs: number }> {
  try {
    const response = await fetch(url, {
      method: 'POST', headers: { 'content-type': 'application/cbor-seq' }, body: Buffer.from(body), redirect: 'error', signal: AbortSignal.timeout(timeoutMs),
    })
    const seconds = Number(response.headers.get('retry-after') ?? 0)
    const retryAfterMs = Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 3600) * 1000 : 0
    return { posted: { kind: 'answered', status: response.status, text: await response.text() }, retryAfterMs }
  } catch (error) {
    const kind = error instanceof Error && error.name === 'TimeoutError' ? 'timeout' : 'network'
    const cause = error instanceof Error && error.cause !== undefined ? `: ${messageOf(error.cause)}` : ''
    return { posted: { kind, reason: messageOf(error) + cause }, retryAfterMs: 0 }
  }
}
