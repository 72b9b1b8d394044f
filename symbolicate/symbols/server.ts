import { z } from 'zod'
import { messageOf } from '../../infra/service/errors.ts'

/** How the commands of this folder ask a server's API. Exit codes: 11 token refused, 12 forbidden, 21 unusable, 30 answer of the server, 32 network. */
export interface Server { url: string; token: string }

const problemSchema = z.object({ title: z.string().optional(), detail: z.string().optional(), hint: z.string().optional() })

export async function ask<T extends z.ZodType>({ url, token }: Server, path: string, answer: T, init: RequestInit = {}): Promise<{ answer: z.output<T> } | { exit: number; reason: string }> {
  const target = new URL(path, url)
  let response: Response
  try {
    response = await fetch(target, { ...init, headers: { authorization: `Bearer ${token}`, ...init.headers }, redirect: 'error' })
  } catch (error) {
    return { exit: 32, reason: `${target.origin}: ${messageOf(error)}${error instanceof Error && error.cause ? `: ${messageOf(error.cause)}` : ''}` }
  }
  const body: unknown = await response.json().catch(() => null)
  const parsed = response.ok ? answer.safeParse(body) : null
  if (parsed?.success) return { answer: parsed.data }
  const { title, detail, hint } = problemSchema.safeParse(body).data ?? {}
  const reason = [`${response.status} ${title ?? response.statusText}`, detail, hint].filter(Boolean).join(': ')
  return { exit: { 401: 11, 403: 12, 413: 21, 422: 21 }[response.status] ?? 30, reason }
}
