import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { BucketsPage, CrashesPage } from '../../dashboard/api/contract.ts'
import { createFleet, type Fleet, type FleetDevice } from '../../ingest/device/fleet.ts'
import type { Figure } from './bench.ts'
import type { Acknowledged, FromLoad, LoadPlan, Told } from './latency/load.ts'

/**
 * From the 202 to the page, everything on this machine: `overrun start` as a user runs it, real dumps with their symbols,
 * signed by many devices in another process at a steady pace.
 *
 * One request at a time asks the API for the newest crash that was acknowledged when the one before it became visible,
 * until it is there: its latency is seen late by at most the time between two questions, never early. (To ask for counts
 * instead would measure the asking: an exact list of buckets costs the engine a tenth of a second each time.) A few seconds
 * before are not counted (code that was just started, symbols that nobody prepared yet) but shown. At the end each
 * acknowledged id is looked for, by itself: a crash that is not there was lost.
 */
export const name = 'latency'
export const describe = 'signed real crashes at 100/s for 30 s, from the acknowledgement until a query sees them'

const ROOT = join(import.meta.dirname, '..', '..')
const CORPUS = join(ROOT, 'test', 'corpus')
const PER_SECOND = 100
const WARM_UP_SECONDS = 5
const SECONDS = 30
const DEVICES = 200
/** Each question costs the engine as much as some crashes. */
const POLL_MS = 200
const GIVE_UP_MS = 30_000
const TARGET_P95_MS = 2_000

export interface Server { ingest_url: string; dashboard_url: string; token: string }
/** A crash that was waited for, and when an answer held it. */
interface Sight { acknowledged: number; visible: number }

export async function run(print: (figure: Figure) => void): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'bench-latency-'))
  const fleet = createFleet({ devices: DEVICES, name: 'bench', now: Date.now() })
  const child = spawn(process.execPath, ['overrun.ts', 'start', '--data', data, '--ingest-port', '0', '--dashboard-port', '0', '--json'], { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  try {
    const [line] = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), ended.then(([code]) => { throw new Error(`overrun start ended with ${String(code)}`) })]) as [string]
    const server = JSON.parse(line) as Server
    await prepareServer(server, fleet)
    await measureLatency(server, fleet.devices, print, TARGET_P95_MS)
  } finally {
    child.kill('SIGTERM')
    await ended
    await rm(data, { recursive: true })
  }
}

/** The fleet's anchor and the symbols of the dumps. */
export async function prepareServer(server: Server, fleet: Fleet): Promise<void> {
  await api(server, 'fleets/default/anchors', { body: JSON.stringify({ pem: fleet.ca.pem, key_protection: 'hardware' }), type: 'application/json' })
  for (const { name: file, bytes } of symbolFiles()) await api(server, `symbols?name=${file}`, { body: bytes, type: 'application/octet-stream' })
}

/** `target`: what the 95th percentile may be, ms. `others`: crashes of other devices that are there already. */
export async function measureLatency(server: Server, devices: readonly FleetDevice[], print: (figure: Figure) => void, target: number, others = 0): Promise<void> {
  const cold = await play(server, devices, { reports: PER_SECOND * WARM_UP_SECONDS, firstBoot: 1 })
  const warm = await play(server, devices, { reports: PER_SECOND * SECONDS, firstBoot: 1_000 })
  const { acknowledged, elapsedMs, sights } = warm
  const refusals = [...cold.refusals, ...warm.refusals]
  if (acknowledged.length === 0) throw new Error(`no report was acknowledged: ${refusals[0]}`)
  const all = [...cold.acknowledged, ...acknowledged]
  // What is still on its way when the load ends is late, not lost.
  let { found, more } = await identify(server, new Set(all.map(({ id }) => id)))
  for (const until = Date.now() + GIVE_UP_MS; found < all.length && Date.now() < until;) ({ found, more } = await identify(server, new Set(all.map(({ id }) => id))))
  const latencies = latenciesOf(sights)
  const coldLatencies = latenciesOf(cold.sights)

  const at = (share: number, of = latencies) => of[Math.min(of.length - 1, Math.floor(of.length * share))]!
  print({ name: 'acknowledged', value: (acknowledged.length * 1000) / elapsedMs, unit: 'crashes/s', baseline: PER_SECOND, ratio: (acknowledged.length * 1000) / elapsedMs / PER_SECOND })
  print({ name: 'ingest to queryable, p50', value: at(0.5), unit: 'ms' })
  print({ name: 'ingest to queryable, p95', value: at(0.95), unit: 'ms', baseline: target, ratio: at(0.95) / target })
  print({ name: 'ingest to queryable, max', value: latencies.at(-1)!, unit: 'ms' })
  print({ name: `the first ${WARM_UP_SECONDS} s after a start, p95`, value: at(0.95, coldLatencies), unit: 'ms' })
  print({ name: 'crashes that were waited for', value: latencies.length, unit: '' })
  print({ name: 'load average of the machine', value: loadavg()[0]!, unit: '' })
  print({ name: 'acknowledged and lost', value: all.length - found, unit: 'crashes', baseline: 0 })
  if (refusals.length > 0) throw new Error(`${refusals.length} reports were not acknowledged, the first: ${refusals[0]}`)
  if (found < all.length || more > others) throw new Error(`of ${all.length} acknowledged crashes ${found} are there, and ${more} that nobody sent`)
}

/** Some seconds of load, from its own process, and when its crashes became visible. */
async function play(server: Server, devices: readonly FleetDevice[], part: Pick<LoadPlan, 'reports' | 'firstBoot'>) {
  const load = fork(join(import.meta.dirname, 'latency', 'load.ts'))
  const heard: { newest: Acknowledged | null } = { newest: null }
  const done = Promise.withResolvers<FromLoad>()
  load.on('message', (message: Told | FromLoad) => {
    if (message.kind === 'done') done.resolve(message)
    else heard.newest = message.report
  })
  load.once('exit', (code) => done.reject(new Error(`the load process ended with ${String(code)}`)))
  load.send({ ...planOf(server, devices), ...part })
  let over = false
  void done.promise.finally(() => { over = true }).catch(() => {})
  const sights: Sight[] = []
  for (let asked: string | null = null; ;) {
    const report = heard.newest
    if (report === null || report.id === asked) {
      if (over) break
      await delay(POLL_MS)
      continue
    }
    sights.push(await untilVisible(server, report))
    asked = report.id
  }
  return { ...await done.promise, sights }
}

async function untilVisible(server: Server, { id, at }: Acknowledged): Promise<Sight> {
  for (;;) {
    const response = await fetch(new URL(`/api/v1/crashes/${id}`, server.dashboard_url), { headers: { authorization: `Bearer ${server.token}` } })
    await response.arrayBuffer()
    const now = Date.now()
    if (response.status === 200) return { acknowledged: at, visible: now }
    if (now - at > GIVE_UP_MS) throw new Error(`crash ${id} is not visible ${GIVE_UP_MS / 1000} s after it was acknowledged: ${response.status}`)
    await delay(POLL_MS)
  }
}

const latenciesOf = (sights: readonly Sight[]): number[] => sights.map(({ acknowledged, visible }) => visible - acknowledged).sort((a, b) => a - b)

/** Each bucket's crashes, by id: how many of the acknowledged are there, and how many that are not of them. */
async function identify(server: Server, acknowledged: ReadonlySet<string>): Promise<{ found: number; more: number }> {
  const seen: string[] = []
  for (const { bucket } of (await api<BucketsPage>(server, 'buckets?limit=200')).items) {
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: CrashesPage = await api(server, `buckets/${bucket}/crashes?limit=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)
      seen.push(...page.items.map(({ id }) => id))
      cursor = page.next
    }
  }
  const found = new Set(seen.filter((id) => acknowledged.has(id))).size
  return { found, more: seen.length - found }
}

async function api<T>({ dashboard_url: url, token }: Server, path: string, sent?: { body: string | Buffer<ArrayBuffer>; type: string }): Promise<T> {
  const response = await fetch(new URL(`/api/v1/${path}`, url), {
    headers: { authorization: `Bearer ${token}`, ...(sent && { 'content-type': sent.type }) }, ...(sent && { method: 'POST', body: sent.body }),
  })
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
  return await response.json() as T
}

export function planOf({ ingest_url: url }: Server, devices: readonly FleetDevice[]): Omit<LoadPlan, 'reports' | 'firstBoot'> {
  const folder = join(CORPUS, 'crashpad-x64')
  return {
    url: `${url}/v1/crashes`, perSecond: PER_SECOND,
    devices: devices.map(({ keyPem, chain }) => ({ keyPem, chain: chain.map((der) => der.toString('base64')) })),
    dumps: readdirSync(folder).map((file) => readFileSync(join(folder, file), 'base64')),
  }
}

function symbolFiles(): { name: string; bytes: Buffer<ArrayBuffer> }[] {
  const folder = join(CORPUS, 'symbols')
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.sym'))
    .map((path) => ({ name: path.split('/').at(-1)!, bytes: readFileSync(join(folder, path)) }))
}
