import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { createFleet, type Fleet } from '../../ingest/device/fleet.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { ASAN } from '../symbolicate/world.ts'

/**
 * Devices under load, and their journal: what they were told 2xx for. The journal is the oracle of every fault: each id in
 * it has to be counted once or be a dead letter, and no other id may be there. A device behaves as the wire format says:
 * it keeps a report until a 2xx, whatever else happens, and now and then it sends again because the answer was lost.
 */
export interface Devices {
  readonly fleet: Fleet
  readonly acknowledged: ReadonlySet<string>
  /** Milliseconds from the first try to the 2xx, and what was answered instead, by status; 0 is no answer at all. */
  readonly latencies: readonly number[]
  readonly answers: ReadonlyMap<number, number>
  /** New reports come until `stop`. */
  start(): void
  /** No new reports; resolves when every one is acknowledged. */
  stop(): Promise<void>
  /** So many reports now, at once; resolves when they are acknowledged. */
  send(count: number): Promise<void>
}

export interface DeviceOptions {
  /** Where they send; asked each time, because parts come and go. */
  urls(): readonly string[]
  random(): number
  perSecond?: number
  devices?: number
  dumps?: readonly Dump[]
  /** The share of reports that are sent again although they were acknowledged. */
  repeats?: number
  now?: number
}

interface Dump { dump: Uint8Array; contentType: 'text/plain' | 'application/x-minidump'; encoding?: 'gzip' }

/** Good and bad: text, empty, cut, noise, a bomb, one that is too large for the log. */
export const DUMPS: readonly Dump[] = [
  { dump: Buffer.from(ASAN), contentType: 'text/plain' },
  { dump: Buffer.alloc(0), contentType: 'application/x-minidump' },
  { dump: Buffer.from('MDMP\x93\xa7\x00\x00\xff\xff\xff\xff\xff\xff', 'latin1'), contentType: 'application/x-minidump' },
  { dump: createHash('sha512').update('noise').digest(), contentType: 'application/x-minidump' },
  { dump: gzipSync(Buffer.alloc(70 * 2 ** 20)), contentType: 'text/plain', encoding: 'gzip' },
  { dump: Buffer.concat([Buffer.from(ASAN), Buffer.alloc(300_000, 'x')]), contentType: 'text/plain' },
]

/** A try that hears nothing for so long is given up and made again. */
const PATIENCE_MS = 20_000
/** More are not under way at a time. */
export const MOST_AT_ONCE = 48

export function createDevices({ urls, random, perSecond = 40, devices = 200, dumps = DUMPS, repeats = 0.1, now = Date.now() }: DeviceOptions): Devices {
  const fleet = createFleet({ devices, now })
  const acknowledged = new Set<string>()
  const latencies: number[] = []
  const answers = new Map<number, number>()
  const underWay = new Set<Promise<void>>()
  let running: Promise<void> | null = null
  let failure: unknown = null
  let stopped = true
  let seq = 0

  function nextReport(): Uint8Array {
    const device = fleet.devices[seq % fleet.devices.length] as Fleet['devices'][number]
    // Mostly good ones: the power prefers the front of the list.
    const { dump, contentType, ...encoded } = dumps[Math.floor(random() ** 8 * dumps.length)] as Dump
    const claims = { bootcount: 1, seq: seq++, swname: 'sensord', swversion: '1.0.0', ...encoded }
    return signReport({ dump, contentType, claims, key: device.key, chain: device.chain }).body
  }

  async function post(body: Uint8Array): Promise<void> {
    for (const since = performance.now(); ;) {
      const all = urls()
      const url = all[Math.floor(random() * all.length)] as string
      try {
        const response = await fetch(`${url}/v1/crashes`, { method: 'POST', headers: { 'content-type': 'application/cbor-seq' }, body, signal: AbortSignal.timeout(PATIENCE_MS) })
        answers.set(response.status, (answers.get(response.status) ?? 0) + 1)
        if (response.ok) {
          acknowledged.add((await response.json() as { id: string }).id)
          latencies.push(performance.now() - since)
          return
        }
        if (response.status < 500 && response.status !== 429) throw new Refused(`${response.status} ${await response.text()}`)
        await response.body?.cancel()
      } catch (error) {
        if (error instanceof Refused) throw error
        answers.set(0, (answers.get(0) ?? 0) + 1)
      }
      await delay(50 + random() * 100)
    }
  }

  function send(): Promise<void> {
    const body = nextReport()
    const work = post(body).then(() => (random() < repeats ? post(body) : undefined)).finally(() => underWay.delete(work))
    underWay.add(work)
    return work
  }

  async function run(): Promise<void> {
    for (let due = performance.now(); !stopped; due += 1000 / perSecond) {
      while (underWay.size >= MOST_AT_ONCE && !stopped) {
        await Promise.race(underWay)
        due = performance.now()
      }
      if (stopped) break
      send().catch((error: unknown) => { failure ??= error })
      await delay(Math.max(0, due - performance.now()))
    }
  }

  return {
    fleet, acknowledged, latencies, answers,
    start() {
      stopped = false
      running = run()
    },
    async stop() {
      stopped = true
      await running
      await Promise.all(underWay)
      if (failure !== null) throw failure
    },
    async send(count) {
      await Promise.all(Array.from({ length: count }, send))
    },
  }
}

class Refused extends Error {}

export function seeded(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
