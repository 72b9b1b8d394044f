import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

/**
 * DIR/server.json: where the running server listens and its token, readable by its owner only, so that the other
 * commands need neither typed. It is there while the server runs.
 */
const serverFileSchema = z.object({ ingest_url: z.url(), dashboard_url: z.url(), token: z.string(), pid: z.int() })
export type ServerFile = z.infer<typeof serverFileSchema>

export const DEFAULT_DATA = 'overrun-data'
const pathOf = (directory: string): string => join(directory, 'server.json')

export function writeServerFile(directory: string, server: ServerFile): void {
  mkdirSync(directory, { recursive: true })
  const path = pathOf(directory)
  writeFileSync(`${path}.new`, `${JSON.stringify(server)}\n`, { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

export const removeServerFile = (directory: string): void => rmSync(pathOf(directory), { force: true })

export function readServerFile(directory: string): ServerFile | null {
  try {
    return serverFileSchema.parse(JSON.parse(readFileSync(pathOf(directory), 'utf8')))
  } catch {
    return null
  }
}

/** How the commands are told which server: flags, then the environment, then the server of a data folder. */
export interface ServerFlags { url?: string; token?: string; data: string }
export type FoundDashboard = { url: string; token: string } | { exit: 10 | 20; reason: string }

/** Environment: OVERRUN_URL and OVERRUN_TOKEN. Exit codes: 20 no server known, 10 no token. */
export function findDashboard({ url: urlFlag, token: tokenFlag, data }: ServerFlags): FoundDashboard {
  const there = readServerFile(data)
  const url = urlFlag ?? process.env.OVERRUN_URL ?? there?.dashboard_url
  const token = tokenFlag ?? process.env.OVERRUN_TOKEN ?? there?.token
  if (url === undefined) return { exit: 20, reason: `which server? None runs on ${data}: start one with "npm start", or give --url, OVERRUN_URL or --data DIR` }
  if (!URL.canParse(url)) return { exit: 20, reason: `${url} is not an address` }
  if (token === undefined) return { exit: 10, reason: 'no token: give --token or OVERRUN_TOKEN; it is printed when the dashboard starts' }
  return { url, token }
}

export const DEFAULT_INGEST_URL = 'http://127.0.0.1:4680'

/** Environment: OVERRUN_INGEST_URL. */
export const findIngest = ({ url, data }: Omit<ServerFlags, 'token'>): string => url ?? process.env.OVERRUN_INGEST_URL ?? readServerFile(data)?.ingest_url ?? DEFAULT_INGEST_URL
