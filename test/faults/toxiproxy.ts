import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { freePorts } from '../system/java.ts'
import { startServer } from '../system/server.ts'

/**
 * toxiproxy between two parts: what the network can do to them. `sh infra/setup.sh test` builds it with Go where there is
 * one; without it these tests are skipped by name.
 */
export interface Toxiproxy {
  /** A listener on loopback that leads to `upstream` (host:port). */
  proxy(name: string, upstream: string, port?: number): Promise<Link>
  stop(): Promise<void>
}

/** Attributes are toxiproxy's own: latency {latency, jitter} ms, timeout {timeout} ms (0: a black hole), bandwidth {rate} KB/s, reset_peer {timeout} ms, limit_data {bytes}. */
export type Toxic =
  | { type: 'latency'; latency: number; jitter: number }
  | { type: 'timeout'; timeout: number }
  | { type: 'bandwidth'; rate: number }
  | { type: 'reset_peer'; timeout: number }
  | { type: 'limit_data'; bytes: number }

export interface Link {
  readonly port: number
  /** downstream: from the server to its client; upstream: the other way. */
  poison(toxic: Toxic, stream?: 'downstream' | 'upstream'): Promise<void>
  heal(): Promise<void>
}

const BUILT = join(import.meta.dirname, '..', '..', '.cache', 'bin', 'toxiproxy-server')
const binary = existsSync(BUILT) ? BUILT : spawnSync('toxiproxy-server', ['-version']).status === 0 ? 'toxiproxy-server' : null

/** For `describe.skipIf`, and for the name that a skipped run is shown under. */
export const toxiproxyNeeds = { skip: binary === null, note: binary === null ? ' (no toxiproxy-server; setup builds it where there is Go)' : '' }

export async function startToxiproxy(): Promise<Toxiproxy> {
  if (binary === null) throw new Error('no toxiproxy-server')
  const [port] = await freePorts(1)
  const server = await startServer(binary, ['-host', '127.0.0.1', '-port', String(port)], /Starting Toxiproxy HTTP server|API HTTP server starting/i)
  const api = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }) })
    if (!response.ok) throw new Error(`toxiproxy ${method} ${path}: ${response.status} ${await response.text()}`)
    return response
  }
  return {
    async proxy(name, upstream, wanted) {
      const listen = wanted ?? (await freePorts(1))[0]!
      await api('POST', '/proxies', { name, upstream, listen: `127.0.0.1:${listen}`, enabled: true })
      let toxics = 0
      return {
        port: listen,
        async poison({ type, ...attributes }, stream = 'downstream') {
          await api('POST', `/proxies/${name}/toxics`, { name: `toxic-${toxics++}`, type, stream, toxicity: 1, attributes })
        },
        async heal() {
          const toxicsNow = await (await api('GET', `/proxies/${name}/toxics`)).json() as { name: string }[]
          for (const toxic of toxicsNow) await api('DELETE', `/proxies/${name}/toxics/${toxic.name}`)
        },
      }
    },
    stop: () => server.stop(),
  }
}
