import { createHash, X509Certificate } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { replay } from '../../dashboard/detect/replay.ts'
import { SPREAD_TAU } from '../../dashboard/detect/settings.ts'
import { TOPIC_ACCEPTED } from '../../infra/log/log.ts'
import { createManualClock } from '../../infra/service/clock.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { ingestSettingsSchema } from '../../ingest/config.ts'
import { createFleet, issueDevice, type FleetDevice } from '../../ingest/device/fleet.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { createRegistry, fleetSettingsSchema, type Registry } from '../../ingest/registry.ts'
import { createIngest, type Ingest } from '../../ingest/server.ts'
import { quietLogger, rowsOf, until } from '../infra/clickhouse-fixture.ts'
import { createWorld, type World } from '../symbolicate/world.ts'

/**
 * Two ingest processes in front of one log, each with its own memory of counters, and the worker behind it. Whatever the
 * order, the repetition and the restarts: N reports are N rows, and a counter that stands for two dumps is a finding.
 */
const NOW = Date.UTC(2026, 5, 1, 12)
const DAY = 86_400_000
const LONG = process.env.OVERRUN_LONG === '1'
const fleet = createFleet({ devices: 0, name: 'racers', now: NOW })

let world: World
let folder: string
let registry: Registry
const clock = createManualClock(NOW)
const doors: { ingest: Ingest; url: string }[] = []

beforeAll(async () => {
  world = await createWorld()
  await world.worker.start()
  folder = await mkdtemp(join(tmpdir(), 'races-'))
  const sha256 = createHash('sha256').update(new X509Certificate(fleet.ca.pem).raw).digest('hex')
  const anchors = { [sha256]: { pem: fleet.ca.pem, key_protection: 'hardware' as const } }
  registry = createRegistry({
    snapshotFile: join(folder, 'registry.json'), clock, logger: quietLogger, intervalMs: 60_000,
    load: async () => ({ v: 1, fleets: { racers: { settings: fleetSettingsSchema.parse({}), anchors, devices: {} } } }),
  })
  await registry.start()
  for (const index of [0, 1]) await openDoor(index)
})
afterAll(async () => {
  for (const { ingest } of doors) await ingest.stop()
  await registry.stop()
  await world.stop()
  await rm(folder, { recursive: true })
})

async function openDoor(index: number): Promise<void> {
  const settings = ingestSettingsSchema.parse({ port: 0, quotas: { devicePerMinute: 1e6, deviceBurst: 1e6, addressFailureBurst: 1e6, sourceFailureBurst: 1e6 } })
  const ingest = createIngest({
    settings, log: world.log, blobs: world.blobs, registry, clock, logger: quietLogger, metrics: createMetrics({ defaults: false }), directory: join(folder, `ingest-${index}`),
  })
  doors[index] = { ingest, url: (await ingest.start()).url }
}

/** The same counters and dump are the same report; a device that is copied has two dumps for one counter. */
interface Sent { device: 0 | 1; boot: number; seq: number; dump: 0 | 1 }
type Step = { do: 'send'; report: Sent; door: 0 | 1 } | { do: 'wait' } | { do: 'later' } | { do: 'restart'; door: 0 | 1; forgetful: boolean } | { do: 'restart-worker' }

const sent: fc.Arbitrary<Sent> = fc.record({ device: fc.constantFrom(0, 1), boot: fc.integer({ min: 1, max: 3 }), seq: fc.integer({ min: 0, max: 2 }), dump: fc.oneof({ weight: 4, arbitrary: fc.constant(0 as const) }, { weight: 1, arbitrary: fc.constant(1 as const) }) })
const door = fc.constantFrom(0 as const, 1 as const)
const steps: fc.Arbitrary<Step[]> = fc.array(fc.oneof(
  { weight: 20, arbitrary: fc.record({ do: fc.constant('send' as const), report: sent, door }) },
  { weight: 2, arbitrary: fc.constant({ do: 'wait' as const }) },
  { weight: 2, arbitrary: fc.constant({ do: 'later' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const), door, forgetful: fc.boolean() }) },
  ...(LONG ? [{ weight: 1, arbitrary: fc.constant({ do: 'restart-worker' as const }) }] : []),
), { minLength: 15, maxLength: LONG ? 120 : 60 })

let runs = 0
test('any order, repetition and restarts of N reports over two ingest processes give N rows, and each counter with two dumps a finding', async () => {
  const seen = { rows: 0, repeats: 0, reused: 0 }
  await fc.assert(fc.asyncProperty(steps, async (story) => {
    const run = ++runs
    const devices = [0, 1].map((index) => issueDevice(fleet.intermediate, `racer-${run}-${index}`, 'ed25519', NOW - DAY, NOW + DAY)) as [FleetDevice, FleetDevice]
    const nameOf = ({ device, boot, seq, dump }: Sent) => `${devices[device].serial} ${boot} ${seq} ${dump}`
    const bodies = new Map<string, Uint8Array>()
    for (const step of story) {
      if (step.do !== 'send') continue
      const { device, boot, seq } = step.report
      const { key, chain } = devices[device]
      bodies.set(nameOf(step.report), signReport({ dump: Buffer.from(nameOf(step.report)), contentType: 'text/plain', claims: { bootcount: boot, seq }, key, chain }).body)
    }

    let underWay: Promise<void>[] = []
    const settle = async () => void await Promise.all(underWay.splice(0))
    let repeats = 0
    for (const step of story) {
      switch (step.do) {
        case 'send':
          underWay.push(post(doors[step.door]!.url, bodies.get(nameOf(step.report))!))
          repeats++
          break
        case 'wait':
          await settle()
          break
        case 'later':
          clock.advance(7_000)
          break
        case 'restart':
          await settle()
          await doors[step.door]!.ingest.stop()
          // As on a new machine: it knows nothing of what came before.
          if (step.forgetful) await rm(join(folder, `ingest-${step.door}`), { recursive: true })
          await openDoor(step.door)
          break
        case 'restart-worker':
          await world.restartWorker()
      }
    }
    await settle()
    await written()

    const serials = devices.map(({ serial }) => serial)
    const rows = await rowsOf<{ id: string; device: string; boot: string; seq: string; standing: string }>(world.clickhouse,
      'SELECT id, device, bootcount AS boot, seq, standing FROM crashes FINAL WHERE device IN {serials:Array(String)} ORDER BY device, boot, seq', { serials })
    expect(rows).toHaveLength(bodies.size)
    expect(new Set(rows.map(({ id }) => id)).size).toBe(bodies.size)

    const byCounter = Map.groupBy(rows, ({ device, boot, seq }) => `${device} ${boot} ${seq}`)
    for (const [counter, ofCounter] of byCounter) expect([counter, ofCounter.filter(({ standing }) => standing === 'counted').length]).toEqual([counter, 1])
    const copied = [...new Set([...byCounter.values()].filter((ofCounter) => ofCounter.length > 1).map(([first]) => first!.device))].toSorted()
    const findings = await replay.evaluate({ clickhouse: world.clickhouse, fleet: 'racers', now: clock.now(), settings: { netFacing: [], spreadTau: SPREAD_TAU }, releases: [], merges: { from: [], into: [] } })
    expect(findings.filter(({ device }) => serials.includes(device)).map(({ device }) => device)).toEqual(copied)
    seen.rows += rows.length
    seen.repeats += repeats - rows.length
    seen.reused += rows.filter(({ standing }) => standing === 'counter-reuse').length
  }), { numRuns: LONG ? 150 : 10, seed: LONG ? Date.now() & 0x7fffffff : 6 })
  console.log(`replay races: ${runs} stories, ${seen.rows} reports, ${seen.repeats} repetitions, ${seen.reused} reused counters`)
  expect(Math.min(seen.rows, seen.repeats, seen.reused)).toBeGreaterThan(10)
}, LONG ? 600_000 : 60_000)

/** 202 and 200 say that it is durable, 409 that it is kept aside. */
async function post(url: string, body: Uint8Array): Promise<void> {
  const response = await fetch(`${url}/v1/crashes`, { method: 'POST', body: Buffer.from(body), headers: { 'content-type': 'application/cbor-seq' } })
  expect([200, 202, 409]).toContain(response.status)
  await response.arrayBuffer()
}

async function written(): Promise<void> {
  const { lag: end } = await world.log.stats(TOPIC_ACCEPTED, 'nobody')
  await until(async () => Number((await rowsOf<{ n: string }>(world.clickhouse, 'SELECT max(next_offset) AS n FROM positions'))[0]?.n ?? 0) >= end, `position ${end}`)
}
