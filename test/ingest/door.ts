import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createHash, X509Certificate } from 'node:crypto'
import { openFsBlobs } from '../../infra/blobs/fs.ts'
import type { Blobs } from '../../infra/blobs/blobs.ts'
import { openEmbeddedLog } from '../../infra/log/embedded.ts'
import { TOPIC_ACCEPTED, type Log } from '../../infra/log/log.ts'
import { createManualClock } from '../../infra/service/clock.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { createOps, opsSettingsSchema } from '../../infra/service/ops.ts'
import { ingestSettingsSchema } from '../../ingest/config.ts'
import { decodeMessage, type AcceptedCrash, type Heartbeat, type Refused } from '../../ingest/contract.ts'
import { createFleet, type FleetDevice } from '../../ingest/device/fleet.ts'
import { signReport, type Report } from '../../ingest/device/sign.ts'
import { createRegistry, type RegistrySnapshot } from '../../ingest/registry.ts'
import { createIngest } from '../../ingest/server.ts'

/** A real door for tests: ingest on free ports, an embedded log and files in a folder that is removed at the end. */
export const NOW = Date.UTC(2026, 5, 1, 12)
export const FLEET = 'thermostats'
export const fleet = createFleet({ devices: 3, name: FLEET, now: NOW })
export const stranger = createFleet({ devices: 1, name: 'stranger', now: NOW }).devices[0]!

export const device = (index = 0): FleetDevice => fleet.devices[index]!
export const serialOf = (index = 0): string => fleet.devices[index]!.serial

export function reportOf(dump: Uint8Array, claims: Partial<Report['claims']> = {}, by: FleetDevice = device()): Report {
  return { dump, contentType: 'application/x-minidump', claims: { bootcount: 1, seq: 0, ...claims }, key: by.key, chain: by.chain }
}
export const bodyOf = (...args: Parameters<typeof reportOf>): Buffer => Buffer.from(signReport(reportOf(...args)).body)
export const manifestOf = (...args: Parameters<typeof reportOf>): Buffer => Buffer.from(signReport(reportOf(...args)).manifest)

export interface DoorOptions {
  limits?: Record<string, number>
  quotas?: Record<string, number>
  uploads?: Record<string, number>
  settings?: Record<string, unknown>
  /** Puts something between ingest and its log or blobs, to make it fail. */
  wrapLog?: (log: Log) => Log
  wrapBlobs?: (blobs: Blobs) => Blobs
  /** Throws while it is away. */
  load?: () => RegistrySnapshot
}

export async function openDoor(options: DoorOptions = {}) {
  const data = await mkdtemp(join(tmpdir(), 'ingest-'))
  const clock = createManualClock(NOW)
  const logger = createLogger({ part: 'test', level: process.env.LOG_LEVEL ?? 'silent' })
  const snapshot = snapshotOf()
  const load = options.load ?? (() => snapshot)
  const settings = ingestSettingsSchema.parse({ port: 0, limits: { lingerMs: 200, tarpitMs: 10, ...options.limits }, quotas: options.quotas, uploads: options.uploads, ...options.settings })
  const blobs = await openFsBlobs({ directory: join(data, 'blobs') })

  async function open() {
    const log = await openEmbeddedLog({ directory: join(data, 'log'), retention: { bytes: 2 ** 30, ageMs: 10 * 365 * 86_400_000 } })
    const registry = createRegistry({ snapshotFile: join(data, 'registry.json'), load: async () => load(), clock, logger, intervalMs: 60_000 })
    await registry.start()
    const metrics = createMetrics({ defaults: false })
    const ingest = createIngest({
      settings, log: options.wrapLog?.(log) ?? log, blobs: options.wrapBlobs?.(blobs) ?? blobs, registry, clock, logger, metrics,
      directory: join(data, 'ingest'),
    })
    const ops = createOps({ settings: opsSettingsSchema.parse({}), metrics, checks: () => ingest.checks })
    const address = { ...await ingest.start(), opsUrl: (await ops.start()).url }
    const stop = async () => {
      await ops.stop()
      await ingest.stop()
      await registry.stop()
      await log.close()
    }
    return { log, registry, ingest, address, stop, metrics }
  }

  let running = await open()
  return {
    data, clock, snapshot, blobs, settings,
    get registry() { return running.registry },
    get url() { return running.address.url },
    get port() { return running.address.port },
    get opsUrl() { return running.address.opsUrl },

    post: (body: Uint8Array, headers: Record<string, string> = {}) =>
      fetch(`${running.address.url}/v1/crashes`, { method: 'POST', body: Buffer.from(body), headers: { 'content-type': 'application/cbor-seq', ...headers } }),

    /** A body that is one manifest. */
    state: (path: string, manifest: Uint8Array, headers: Record<string, string> = {}) =>
      fetch(`${running.address.url}${path}`, { method: 'POST', body: Buffer.from(manifest), headers: { 'content-type': 'application/cose', ...headers } }),

    /** Every crash in the log, decoded, in order. */
    async accepted(): Promise<AcceptedCrash[]> {
      return (await this.logged()).crashes
    },

    /** Everything in the log, decoded, in order. */
    async logged(): Promise<{ crashes: AcceptedCrash[]; heartbeats: Heartbeat[]; refused: Refused[] }> {
      const { lag } = await running.log.stats(TOPIC_ACCEPTED, 'test')
      const logged = { crashes: [] as AcceptedCrash[], heartbeats: [] as Heartbeat[], refused: [] as Refused[] }
      let read = 0
      if (lag === 0) return logged
      const { promise, resolve } = Promise.withResolvers<void>()
      const group = `test ${Math.random()}`
      const consumer = await running.log.consume(
        { topic: TOPIC_ACCEPTED, group, startAt: async () => 0, maxEntries: 1000, maxBytes: 2 ** 26, maxWaitMs: 1 },
        async ({ entries }) => {
          for (const { value } of entries) {
            const decoded = decodeMessage(value)
            if ('crash' in decoded) logged.crashes.push(decoded.crash)
            else if ('heartbeat' in decoded) logged.heartbeats.push(decoded.heartbeat)
            else if ('refused' in decoded) logged.refused.push(decoded.refused)
            else throw new Error(decoded.reason)
          }
          read += entries.length
          if (read >= lag) resolve()
        },
      )
      await promise
      await consumer.stop()
      return logged
    },

    async rejected(slug: string): Promise<number> {
      const text = await (await fetch(`${running.address.opsUrl}/metrics`)).text()
      return Number(new RegExp(`overrun_ingest_rejected_total\\{reason="${slug}"\\} (\\d+)`).exec(text)?.[1] ?? 0)
    },

    async blobKeys(): Promise<string[]> {
      const keys: string[] = []
      for await (const { key } of blobs.list('')) keys.push(key)
      return keys
    },

    async restart() {
      await running.stop()
      running = await open()
    },
    async close() {
      await running.stop()
      await rm(data, { recursive: true })
    },
  }
}
export type Door = Awaited<ReturnType<typeof openDoor>>

export function snapshotOf(): RegistrySnapshot {
  const sha256 = createHash('sha256').update(new X509Certificate(fleet.ca.pem).raw).digest('hex')
  return {
    v: 1,
    fleets: {
      [FLEET]: {
        settings: { net_facing: [], project_key_uploads: true, project_keys: ['thermostats-key'], expired_leaf_days: 30, eku: 'any' },
        anchors: { [sha256]: { pem: fleet.ca.pem, key_protection: 'hardware' } },
        devices: {},
      },
    },
  }
}

/** A socket that says exactly what it is told, and collects the answer. */
export function dial(port: number): { socket: Socket; say(bytes: string | Uint8Array): Promise<void>; answer: Promise<string>; firstLine(): Promise<string> } {
  const socket = connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  let heard = ''
  const listeners = new Set<() => void>()
  socket.on('data', (chunk) => {
    heard += chunk.toString('latin1')
    for (const listener of listeners) listener()
  })
  const answer = new Promise<string>((resolve) => {
    socket.on('close', () => resolve(heard))
    socket.on('error', () => resolve(heard))
  })
  return {
    socket,
    answer,
    say: (bytes) => new Promise((resolve, reject) => socket.write(bytes, (error) => (error ? reject(error) : resolve()))),
    firstLine: () => new Promise((resolve) => {
      const look = () => {
        const end = heard.indexOf('\r\n')
        if (end < 0) return
        listeners.delete(look)
        resolve(heard.slice(0, end))
      }
      listeners.add(look)
      socket.on('close', () => resolve(heard))
      look()
    }),
  }
}

export const headOf = (length: number, extra = ''): string =>
  `POST /v1/crashes HTTP/1.1\r\nHost: test\r\nContent-Type: application/cbor-seq\r\nContent-Length: ${length}\r\n${extra}\r\n`
