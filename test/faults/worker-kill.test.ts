import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { connectClickHouse, type ClickHouseAddress } from '../../infra/clickhouse/client.ts'
import { encodeAcceptedCrash } from '../../ingest/contract.ts'
import { createFleet, type Fleet } from '../../ingest/device/fleet.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { rowsOf } from '../infra/clickhouse-fixture.ts'
import { accepted, ASAN } from '../symbolicate/world.ts'
import { DUMPS, seeded } from './devices.ts'
import { keep } from './oracle.ts'
import { long, seed } from './scenario.ts'

/**
 * Promise 2, carried out: kill -9 at any point and start again, and every acknowledged crash is counted exactly once.
 * The devices' own journal of acknowledged ids is the oracle; the pipeline process is the real one, front door included,
 * and is killed with its engine, at random moments and at the points between two writes. OVERRUN_FAULTS_LONG=1 goes on
 * for longer; OVERRUN_FAULTS_SEED repeats a run.
 */
const POINTS = ['before crashes', 'after crashes', 'after pack', 'before positions', 'after positions', 'after dead_letters'] as const
const AT_RANDOM = ''
const rounds = long ? Array.from({ length: 48 }, (_, i) => [...POINTS, AT_RANDOM, AT_RANDOM][i % 8] as string) : ['before crashes', 'after crashes', 'before positions', 'after pack', AT_RANDOM, AT_RANDOM]

test(`every acknowledged crash is counted exactly once, kill -9 or not (seed ${seed})`, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'overrun-faults-'))
  const random = seeded(seed)
  const fleet = createFleet({ devices: 4, now: Date.now() })
  await writeFile(join(directory, 'registry.json'), JSON.stringify(registryOf(fleet)))
  const devices = createDevices(fleet, random)
  let pipeline: Pipeline | null = null
  onTestFinished(async () => {
    await pipeline?.kill()
    await rm(directory, { recursive: true, force: true, maxRetries: 5 })
  })

  for (const killAt of rounds) {
    const running = pipeline = await startPipeline(directory, killAt)
    // What was left over from the last round was enough to pass the point, before the front door was open.
    if (running === null) continue
    const sending = devices.send(running, 24)
    if (killAt === AT_RANDOM) await delay(random() * 1200)
    else await Promise.race([running.gone, delay(30_000)])
    const killedItself = running.dead
    await running.kill()
    expect(killedItself || killAt === AT_RANDOM, `nothing passed "${killAt}" twice`).toBe(true)
    await sending
  }

  const running = pipeline = await startPipeline(directory, AT_RANDOM)
  if (running === null) throw new Error('the pipeline does not start any more')
  await devices.send(running, 0)
  expect(devices.unacknowledged).toBe(0)

  const clickhouse = connectClickHouse(running.clickhouse, 'overrun-faults')
  const { acknowledged, letters, doubtful, doubtfulLetters } = devices
  const idsOf = async (final: string) => (await rowsOf<{ id: string }>(clickhouse, `SELECT id FROM crashes ${final} ORDER BY id`)).map((row) => row.id)
  const lettersOf = async () => (await rowsOf<{ offset: string; slug: string }>(clickhouse, 'SELECT offset, slug FROM dead_letters FINAL ORDER BY offset')).map((row): [number, string] => [Number(row.offset), row.slug])
  let found = new Set<string>()
  let lettersFound: [number, string][] = []
  const missing = () => [...acknowledged].filter((id) => !found.has(id)).length + [...letters].filter((offset) => !lettersFound.some(([at]) => at === offset)).length
  // What was left over may be much: it goes on for as long as it gets less.
  for (let left = Infinity, since = Date.now(); left > 0;) {
    found = new Set(await idsOf('FINAL'))
    lettersFound = await lettersOf()
    if (missing() < left) since = Date.now()
    left = missing()
    if (Date.now() - since > 30_000) throw new Error(`${left} of ${acknowledged.size} crashes and ${letters.size} letters are lost; ${JSON.stringify(await rowsOf(clickhouse, 'SELECT max(next_offset) AS next FROM positions'))}`)
    await delay(50)
  }

  expect([...found].filter((id) => !acknowledged.has(id) && !doubtful.has(id))).toEqual([])
  expect(await idsOf('FINAL')).toEqual([...found].toSorted())
  expect(new Set(await idsOf(''))).toEqual(found)
  expect(await rowsOf(clickhouse, 'SELECT uniqExact(id) AS ids, uniqExact(fleet, event_time, id) AS keys FROM crashes')).toEqual([{ ids: String(found.size), keys: String(found.size) }])
  expect(lettersFound.length).toBeLessThanOrEqual(letters.size + doubtfulLetters)
  expect(new Set(lettersFound.map(([, slug]) => slug))).toEqual(new Set(['message-undecodable']))
  // The views that a kill may have cut off were told again.
  expect(await rowsOf(clickhouse, 'SELECT uniqExact(fleet, bucket) AS buckets FROM crashes')).toEqual(await rowsOf(clickhouse, 'SELECT uniqExact(fleet, bucket) AS buckets FROM buckets'))
  expect(await rowsOf(clickhouse, "SELECT standing, count() AS n FROM crashes FINAL GROUP BY standing")).toEqual([{ standing: 'counted', n: String(found.size) }])
  await clickhouse.close()
  keep({ fault: 'kill -9 between two writes of the worker', times: rounds.length, acknowledged: acknowledged.size, lost: 0, duplicated: 0, invented: 0, letters: letters.size, seconds: null })
}, long ? 900_000 : 240_000)

// ---- the devices ----

interface Report { body: Uint8Array; id: string | null }

function createDevices(fleet: Fleet, random: () => number) {
  const acknowledged = new Set<string>()
  const letters = new Set<number>()
  /** Appended by hand while the process was killed: the log may or may not hold them. */
  const doubtful = new Set<string>()
  let doubtfulLetters = 0
  let waiting: Report[] = []
  let seq = 0
  let byHand = 0

  function nextReport(): Report {
    const device = fleet.devices[Math.floor(random() * fleet.devices.length)] as Fleet['devices'][number]
    const { dump, contentType, ...encoded } = DUMPS[Math.floor(random() ** 2 * DUMPS.length)]!
    const claims = { bootcount: 1, seq: seq++, swname: 'sensord', swversion: '1.0.0', ...encoded }
    return { body: signReport({ dump, contentType, claims, key: device.key, chain: device.chain }).body, id: null }
  }

  /** What a device does: sends until it is told 2xx; whatever else happens, it keeps the report. */
  async function post(pipeline: Pipeline, report: Report): Promise<void> {
    for (;;) {
      try {
        const response = await fetch(`${pipeline.url}/v1/crashes`, { method: 'POST', headers: { 'content-type': 'application/cbor-seq' }, body: report.body })
        if (response.ok) {
          report.id = (await response.json() as { id: string }).id
          acknowledged.add(report.id)
          return
        }
        if (response.status < 500) throw new Error(`refused: ${response.status} ${await response.text()}`)
      } catch (error) {
        if (error instanceof Error && error.message.startsWith('refused')) throw error
        if (pipeline.dead) return
      }
      await delay(20)
    }
  }

  /** Past the front door: noise, and a crash that ingest accepted twice with two event times. */
  async function appendByHand(pipeline: Pipeline): Promise<void> {
    for (let i = 0; i < 3; i++) {
      const noise = await pipeline.append(Buffer.from([0xff, byHand++ & 0xff]))
      if (noise === null) doubtfulLetters++
      else letters.add(noise)
      const crash = accepted(ASAN, { deviceId: 'by-hand' })
      for (const later of [0, 1000, 2000]) {
        const offset = await pipeline.append(encodeAcceptedCrash({ ...crash, eventTime: crash.eventTime + later }))
        if (offset === null) doubtful.add(crash.id)
        else acknowledged.add(crash.id)
      }
      await delay(50)
    }
  }

  return {
    acknowledged,
    letters,
    doubtful,
    get doubtfulLetters() { return doubtfulLetters },
    get unacknowledged() { return waiting.length },
    async send(pipeline: Pipeline, count: number): Promise<void> {
      waiting.push(...Array.from({ length: count }, nextReport))
      const queue = [...waiting]
      const lane = async () => {
        for (let report = queue.shift(); report !== undefined && !pipeline.dead; report = queue.shift()) {
          await post(pipeline, report)
          // Now and then the answer is lost on the way, and the device sends again.
          if (random() < 0.2) await post(pipeline, report)
        }
      }
      await Promise.all([lane(), lane(), lane(), lane(), count > 0 ? appendByHand(pipeline) : null])
      waiting = waiting.filter((report) => report.id === null)
    },
  }
}

function registryOf(fleet: Fleet) {
  const sha256 = createHash('sha256').update(fleet.ca.certificate).digest('hex')
  return { v: 1, fleets: { demo: { settings: {}, anchors: { [sha256]: { pem: fleet.ca.pem, key_protection: 'software' } }, devices: {} } } }
}

// ---- the process that is killed ----

interface Pipeline {
  url: string
  clickhouse: ClickHouseAddress
  readonly dead: boolean
  gone: Promise<string>
  /** Null when it died before it said that it had the message: then the log may or may not hold it. */
  append(message: Uint8Array): Promise<number | null>
  kill(): Promise<void>
}

/** Null when it died before it was ready. */
async function startPipeline(directory: string, killAt: string): Promise<Pipeline | null> {
  const child: ChildProcess = spawn(process.execPath, [join(import.meta.dirname, 'pipeline.ts'), directory, killAt], { stdio: ['pipe', 'pipe', 'inherit'], detached: true })
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
  let dead = false
  const gone = new Promise<string>((resolve) => child.once('close', (code, signal) => {
    dead = true
    resolve(signal ?? `exit code ${code}`)
  }))
  child.stdin?.on('error', () => {})
  const first = await lines.next()
  if (first.done) {
    expect(await gone, 'how it died while it started').toBe('SIGKILL')
    try { process.kill(-(child.pid as number), 'SIGKILL') } catch { /* Its engine went with it. */ }
    return null
  }
  return {
    ...JSON.parse(first.value) as { url: string; clickhouse: ClickHouseAddress },
    get dead() { return dead },
    gone,
    async append(message) {
      if (dead) return null
      child.stdin?.write(`${Buffer.from(message).toString('base64')}\n`)
      const line = await lines.next()
      return line.done ? null : (JSON.parse(line.value) as { appended: number }).appended
    },
    async kill() {
      // The whole group: the process and its engine.
      try { process.kill(-(child.pid as number), 'SIGKILL') } catch { /* It was faster. */ }
      await gone
    },
  }
}
