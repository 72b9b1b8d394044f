import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * The real servers that tests start are Java programs whose jars `sh infra/setup.sh test` puts into .cache. Without
 * them a run is skipped by name; with CI=true nothing is skipped and the start fails with the same words.
 */
const ROOT = join(import.meta.dirname, '..', '..')

export const jarsOf = (server: 'kafka' | 's3proxy'): string => join(ROOT, '.cache', server)

/** Why the server can't be started here, or null. */
export function missing(server: 'kafka' | 's3proxy'): string | null {
  const version = /version "(\d+)/.exec(spawnSync('java', ['-version'], { encoding: 'utf8' }).stderr ?? '')?.[1]
  if (version === undefined || Number(version) < 17) return 'no Java 17'
  if (!existsSync(join(jarsOf(server), 'pom.xml'))) return `no ${server} jars, \`sh infra/setup.sh test\` fetches them`
  return null
}

/** For `describe.skipIf`, and for the name that a skipped run is shown under. */
export function needs(server: 'kafka' | 's3proxy'): { skip: boolean; note: string } {
  const reason = missing(server)
  return { skip: reason !== null && process.env.CI !== 'true', note: reason === null ? '' : ` (${reason})` }
}

export const scratch = (name: string): string => mkdtempSync(join(tmpdir(), `overrun-${name}-`))

export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
    const server = createServer()
    server.once('error', reject).listen(0, '127.0.0.1', () => resolve(server))
  })))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
