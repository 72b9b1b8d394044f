import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../../infra/service/errors.ts'

/**
 * Sends signed bytes as a device should: again after network errors, 408, 429 and 5xx, with exponential back-off and full
 * jitter so that a fleet does not come back in step; never again after another 4xx. Retry-After is a floor.
 * Sending the same bytes again is always safe: the server knows the report by its counter and digest.
 */
export interface Patience { retries: number; timeoutMs: number; onRetry?: (why: string, waitMs: number) => void }
export interface Sending { method: 'POST' | 'HEAD' | 'PATCH'; url: string; headers: Record<string, string>; body?: Uint8Array }
export type Posted =
  | { kind: 'answered'; status: number; text: string; headers: Headers }
  | { kind: 'timeout' | 'network'; reason: string }

const FIRST_WAIT_MS = 500
const LONGEST_WAIT_MS = 60_000

/** A report whole, in one request. */
export const postReport = ({ url, body, ...patience }: Patience & { url: string; body: Uint8Array }): Promise<Posted> =>
  sendPatiently({ method: 'POST', url, headers: { 'content-type': 'application/cbor-seq' }, body }, patience)

/** Until there is an answer that is worth no further attempt, or no attempt is left. */
export async function sendPatiently(sending: Sending, patience: Patience): Promise<Posted> {
  for (let attempt = 0; ; attempt++) {
    const posted = await sendOnce(sending, patience.timeoutMs)
    if (!isPassing(posted) || attempt === patience.retries) return posted
    await wait(posted, attempt, patience)
  }
}

export const isPassing = (posted: Posted): boolean => posted.kind !== 'answered' || posted.status === 408 || posted.status === 429 || posted.status >= 500

export async function wait(posted: Posted, attempt: number, { onRetry }: Patience): Promise<void> {
  const seconds = posted.kind === 'answered' ? Number(posted.headers.get('retry-after') ?? 0) : 0
  const floor = Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 3600) * 1000 : 0
  const ms = floor + Math.random() * Math.min(FIRST_WAIT_MS * 2 ** attempt, LONGEST_WAIT_MS)
  onRetry?.(posted.kind === 'answered' ? `answer ${posted.status}` : posted.reason, ms)
  await sleep(ms)
}

export async function sendOnce({ method, url, headers, body }: Sending, timeoutMs: number): Promise<Posted> {
  try {
    const response = await fetch(url, { method, headers, ...(body && { body: Buffer.from(body) }), redirect: 'error', signal: AbortSignal.timeout(timeoutMs) })
    return { kind: 'answered', status: response.status, text: await response.text(), headers: response.headers }
  } catch (error) {
    const kind = error instanceof Error && error.name === 'TimeoutError' ? 'timeout' : 'network'
    const cause = error instanceof Error && error.cause !== undefined ? `: ${messageOf(error.cause)}` : ''
    return { kind, reason: messageOf(error) + cause }
  }
}
