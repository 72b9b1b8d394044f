import { z } from 'zod'
import type { Posted } from './post.ts'
import { attempt } from './signer.ts'

/** Tells the server's last word: the id on standard output, all else on standard error; gives the exit code. */
export function tell(command: string, posted: Posted, json: boolean): number {
  if (posted.kind !== 'answered') return fail(command, posted.kind === 'timeout' ? 31 : 32, posted.reason)
  const { status, text } = posted
  const answer = answerOf(posted)
  if (json) console.log(JSON.stringify({ http: status, ...answer }))
  if (status === 200 || status === 202) {
    if (!json && answer.id !== undefined) console.log(String(answer.id))
    console.error(`${command}: ${String(answer.status)}`)
    return 0
  }
  return fail(command, status === 401 || status === 403 ? 12 : 30, `answer ${status}: ${String(answer.title ?? text.slice(0, 200))}${answer.detail ? ` (${String(answer.detail)})` : ''}`)
}

export function answerOf(posted: Posted): Record<string, unknown> {
  const body = z.record(z.string(), z.unknown()).safeParse(posted.kind === 'answered' ? attempt(() => JSON.parse(posted.text) as unknown) : undefined)
  return body.success ? body.data : {}
}

export function fail(command: string, code: number, why: string): number {
  console.error(`${command}: ${why}`)
  return code
}
