import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { z } from 'zod'
import { messageOf } from '../../infra/service/errors.ts'
import { DEFAULT_DATA, findDashboard, type ServerFlags } from '../../infra/service/server-file.ts'

/**
 * How a command talks to the dashboard's API, and how it ends. Exit codes of all commands that use it: 0 ok, 10 no token
 * known, 12 the token is refused, 20 no server known, 21 the input is not good, 30 the API says no, 32 nobody answers.
 */
export type ServerOptions = ServerFlags

export const serverOptions = (command: Command): Command => command
  .option('--url <address>', 'the dashboard (OVERRUN_URL)')
  .option('--token <token>', 'its token (OVERRUN_TOKEN)')
  .option('--data <directory>', 'folder of a server on this machine, instead of --url and --token', DEFAULT_DATA)

/** Ends a command with this code and one line; anything else that is thrown is a defect. */
export class CommandError extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}

/** An action whose CommandErrors become a line on standard error and the exit code. */
export function ending<Args extends unknown[]>(name: string, action: (...args: Args) => Promise<void>): (...args: Args) => Promise<void> {
  return async (...args) => {
    try {
      await action(...args)
    } catch (error) {
      if (!(error instanceof CommandError)) throw error
      console.error(`overrun ${name}: ${error.message}`)
      process.exitCode = error.code
    }
  }
}

export function readInput(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new CommandError(21, `${path}: ${messageOf(error)}`)
  }
}

export interface ServerClient {
  get<T extends z.ZodType>(path: string, answer: T): Promise<z.output<T>>
  post<T extends z.ZodType>(path: string, body: unknown, answer: T): Promise<z.output<T>>
  bytes(path: string): Promise<Uint8Array>
}

const problemSchema = z.object({ title: z.string(), detail: z.string(), hint: z.string() }).partial()

export function connectServer(options: ServerOptions): ServerClient {
  const server = findDashboard(options)
  if ('exit' in server) throw new CommandError(server.exit, server.reason)
  const { url: address, token: secret } = server

  async function ask(path: string, init: RequestInit = {}): Promise<Response> {
    let response: Response
    try {
      response = await fetch(new URL(`/api/v1${path}`, address), { ...init, headers: { authorization: `Bearer ${secret}`, ...init.headers } })
    } catch (error) {
      throw new CommandError(32, `${address} does not answer: ${messageOf(error)}`)
    }
    if (response.ok) return response
    const { title = `HTTP ${response.status}`, detail, hint } = problemSchema.safeParse(await response.json().catch(() => ({}))).data ?? {}
    throw new CommandError(response.status === 401 ? 12 : response.status === 422 ? 21 : 30, [title, detail, hint].filter(Boolean).join('. '))
  }

  async function read<T extends z.ZodType>(response: Response, answer: T): Promise<z.output<T>> {
    const parsed = answer.safeParse(await response.json().catch(() => undefined))
    if (!parsed.success) throw new CommandError(30, `${address} answers what this version does not understand: ${z.prettifyError(parsed.error)}`)
    return parsed.data
  }

  return {
    get: async (path, answer) => read(await ask(path), answer),
    post: async (path, body, answer) => read(await ask(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }), answer),
    bytes: async (path) => new Uint8Array(await (await ask(path)).arrayBuffer()),
  }
}
