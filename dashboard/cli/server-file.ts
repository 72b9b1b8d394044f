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
