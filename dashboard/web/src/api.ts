import { useSearch } from '@tanstack/react-router'
import { keepPreviousData, useQuery, useQueryClient, type UseQueryResult } from '@tanstack/react-query'
import { useState } from 'react'
import type { Problem } from '../../api/contract.ts'

/** Asks the dashboard's own API; the session cookie says who asks. */
export class ApiError extends Error {
  readonly problem: Problem
  constructor(problem: Problem) {
    super(problem.detail || problem.title)
    this.problem = problem
  }
}

export async function call<T>(path: string, init?: { method: 'POST'; body: unknown }): Promise<T> {
  const response = await fetch(`/api/v1${path}`, init === undefined ? {} : { method: init.method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(init.body) })
  const text = await response.text()
  if (response.ok) return (text === '' ? undefined : JSON.parse(text)) as T
  throw new ApiError(problemOf(text, response.status))
}

function problemOf(text: string, status: number): Problem {
  try {
    return JSON.parse(text) as Problem
  } catch {
    return { type: 'internal', title: `The dashboard answered ${status}`, status, detail: '', hint: 'Is it still running?', request_id: '' }
  }
}

/** The path with the fleet that the page's address names. */
export function useInFleet(): (path: string) => string {
  const { fleet } = useSearch({ strict: false })
  return (path) => (fleet === undefined ? path : `${path}${path.includes('?') ? '&' : '?'}fleet=${encodeURIComponent(fleet)}`)
}

/** A question to the API; asked again when the stream hints at a change, and every 30 s without one. */
export function useApi<T>(asked: string): UseQueryResult<T, ApiError> {
  const path = useInFleet()(asked)
  return useQuery<T, ApiError>({ queryKey: [path], queryFn: () => call<T>(path), placeholderData: keepPreviousData, refetchInterval: 30_000, retry: (count, error) => count < 2 && error.problem.status >= 500 })
}

/** Tells the API what somebody decided, in the fleet of the page; `problem` says why that did not work. */
export function useSay(): { say: (path: string, body: unknown) => Promise<void>; problem: string | null } {
  const client = useQueryClient()
  const inFleet = useInFleet()
  const [problem, setProblem] = useState<string | null>(null)
  const say = async (path: string, body: unknown) => {
    try {
      await call(inFleet(path), { method: 'POST', body })
      setProblem(null)
      await client.invalidateQueries()
    } catch (error) {
      setProblem(error instanceof ApiError ? error.problem.title : 'The dashboard does not answer.')
    }
  }
  return { say, problem }
}

/** `?a=1&b=2` of what is set. */
export function query(params: Record<string, string | number | undefined | null>): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(params)) if (value !== undefined && value !== null && value !== '') search.set(name, String(value))
  const text = search.toString()
  return text === '' ? '' : `?${text}`
}
