import { fork } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createFleet, type FleetDevice } from '../../ingest/device/fleet.ts'
import { rowsOf } from '../infra/clickhouse-fixture.ts'
import { missing } from '../system/java.ts'
import { startInstallation, TOKEN, type Installation } from '../system/installation.ts'
import type { Figure } from './bench.ts'
import { answerOf } from './ingest.ts'
import type { FromLoad, LoadPlan } from './ingest/load.ts'
import { measureLatency, planOf, prepareServer, type Server } from './latency.ts'
import type { FromLoad as FromSteadyLoad } from './latency/load.ts'
import { cpuSeconds, median } from './symbolicate/cpu.ts'

/**
 * The large installation on this machine, broker, S3 server, ClickHouse's engine and load generator included: how fast one
 * ingest acknowledges, how fast one worker counts what waits for it, how soon a crash can be asked for, and what each
 * crash costs in processor time, in Kafka, in S3 and in ClickHouse (the figures that infra/README.md sizes by).
 */
export const name = 'kafka'
export const describe = 'Kafka, S3 and ClickHouse as processes on this machine: 20 KiB crashes acknowledged, real dumps counted, costs'

const ROUNDS = 5
const WARM_UP = 3_000
const PLAN: Omit<LoadPlan, 'url' | 'devices'> = { connections: 64, dumpBytes: 20 * 1024, windowMs: 5_000, reports: 10_000 }
const BACKLOG = 6_000
const AIM = { perSecond: 1_200, p99Ms: 150, workerPerSecond: 200, queryableMs: 3_000 }

export async function run(print: (figure: Figure) => void): Promise<void> {
  const lacking = missing('kafka') ?? missing('s3proxy')
  if (lacking !== null) return console.error(`kafka: not measured: ${lacking}`)
  await withInstallation(acknowledged, print)
  await withInstallation(counted, print)
}

async function withInstallation(measure: (world: Installation, print: (figure: Figure) => void) => Promise<void>, print: (figure: Figure) => void): Promise<void> {
  const world = await startInstallation()
  try {
    await measure(world, print)
  } finally {
    await world.stop()
  }
}

/** Ingest and the broker alone: the load of the `ingest` benchmark. */
async function acknowledged(world: Installation, print: (figure: Figure) => void): Promise<void> {
  const fleet = createFleet({ devices: 64, name: 'bench', now: Date.now() })
  const [ingest, dashboard] = await Promise.all([world.start('ingest', 'ingest', { 'ingest.quotas.fleetPerMinute': '1e9', 'ingest.quotas.fleetBurst': '1e9', 'ingest.quotas.issuerPerMinute': '1e9', 'ingest.quotas.issuerBurst': '1e9' }), world.start('dashboard', 'dashboard')])
  const load = fork(join(import.meta.dirname, 'ingest', 'load.ts'))
  try {
    const server = serverOf(ingest.ready.ingest_url, dashboard.ready.dashboard_url)
    await prepareServer(server, fleet)
    await dashboard.stop()
    // What is promised: every ingest knows a new anchor within five seconds.
    await delay(5_000)
    load.send({ ...PLAN, url: server.ingest_url, devices: fleet.devices.map(({ keyPem, chain }) => ({ keyPem, chain: chain.map((der) => der.toString('base64')) })) })
    await answerOf(load)
    const rounds: { perSecond: number; p99: number; ingest: number; broker: number }[] = []
    for (let round = 0; round <= ROUNDS; round++) {
      load.send({ sign: round === 0 ? WARM_UP : PLAN.reports })
      await answerOf(load)
      const before = [cpuSeconds(ingest.pid), cpuSeconds(world.kafka.pid)] as const
      load.send('go')
      const seen = await answerOf<FromLoad & { kind: 'done' }>(load)
      if (seen.failed > 0) throw new Error(`${seen.failed} reports were not acknowledged`)
      const cost = (from: number, pid: number) => ((cpuSeconds(pid) - from) * 1e6) / seen.acknowledged
      if (round > 0) rounds.push({ perSecond: (seen.acknowledged * 1000) / seen.elapsedMs, p99: seen.p99, ingest: cost(before[0], ingest.pid), broker: cost(before[1], world.kafka.pid) })
    }
    const middle = (pick: (round: (typeof rounds)[number]) => number) => median(rounds.map(pick))
    print({ name: 'acknowledged', value: middle(({ perSecond }) => perSecond), unit: 'crashes/s', baseline: AIM.perSecond, ratio: middle(({ perSecond }) => perSecond) / AIM.perSecond, aim: 1 })
    print({ name: 'latency p99', value: middle(({ p99 }) => p99), unit: 'ms', baseline: AIM.p99Ms, ratio: middle(({ p99 }) => p99) / AIM.p99Ms })
    print({ name: 'CPU of ingest', value: middle((round) => round.ingest), unit: 'us/crash' })
    print({ name: 'CPU of the broker', value: middle((round) => round.broker), unit: 'us/crash' })
  } finally {
    load.kill()
    await ingest.stop()
    await dashboard.stop()
  }
}

/** One worker and what waits for it, then everything at a steady pace. */
async function counted(world: Installation, print: (figure: Figure) => void): Promise<void> {
  const fleet = createFleet({ devices: 400, name: 'bench', now: Date.now() })
  // Those who fill the log, and those who are measured: a device's counters only go up.
  const [fillers, measured] = [fleet.devices.slice(0, 200), fleet.devices.slice(200)]
  const [ingest, dashboard] = await Promise.all([world.start('ingest', 'ingest'), world.start('dashboard', 'dashboard')])
  const server = serverOf(ingest.ready.ingest_url, dashboard.ready.dashboard_url)
  await prepareServer(server, fleet)
  await delay(5_000)
  await fill(server, fillers)
  const kafkaBytes = bytesOf(world.kafka.folder, /^crashes\.accepted-/)
  const brokerBefore = cpuSeconds(world.kafka.pid)
  const engineBefore = cpuSeconds(world.engine.pid!)
  const s3Before = filesOf(world.s3.folder)

  const worker = await world.start('symbolicate', 'worker')
  const rows = async () => Number((await rowsOf<{ n: string }>(world.clickhouse, 'SELECT count() AS n FROM crashes'))[0]?.n)
  const first = await untilRows(rows, BACKLOG / 10)
  const last = await untilRows(rows, BACKLOG)
  const perSecond = ((last.rows - first.rows) * 1000) / (last.at - first.at)
  print({ name: 'counted by one worker', value: perSecond, unit: 'crashes/s', baseline: AIM.workerPerSecond, ratio: perSecond / AIM.workerPerSecond, aim: 1 })
  print({ name: 'CPU of the worker and its parsers', value: (cpuSeconds(worker.pid) * 1000) / BACKLOG, unit: 'ms/crash' })
  print({ name: 'CPU of ClickHouse', value: ((cpuSeconds(world.engine.pid!) - engineBefore) * 1000) / BACKLOG, unit: 'ms/crash' })
  print({ name: 'CPU of the broker, reading', value: ((cpuSeconds(world.kafka.pid) - brokerBefore) * 1000) / BACKLOG, unit: 'ms/crash' })
  print({ name: 'bytes in Kafka, one copy', value: kafkaBytes / BACKLOG, unit: 'bytes/crash' })
  print({ name: 'objects in S3', value: ((filesOf(world.s3.folder) - s3Before) * 1000) / BACKLOG, unit: 'per 1,000' })
  const [parts] = await rowsOf<{ bytes: string }>(world.clickhouse, 'SELECT sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND database = currentDatabase()')
  print({ name: 'bytes in ClickHouse', value: Number(parts?.bytes) / BACKLOG, unit: 'bytes/crash' })

  await measureLatency(server, measured, print, AIM.queryableMs, BACKLOG)
  await Promise.all([ingest.stop(), worker.stop(), dashboard.stop()])
}

async function fill(server: Server, devices: readonly FleetDevice[]): Promise<void> {
  const load = fork(join(import.meta.dirname, 'latency', 'load.ts'))
  const done = new Promise<FromSteadyLoad>((resolve, reject) => {
    load.on('message', (message: { kind: string }) => { if (message.kind === 'done') resolve(message as FromSteadyLoad) })
    load.once('exit', () => reject(new Error('the load process ended')))
  })
  load.send({ ...planOf(server, devices), perSecond: 400, reports: BACKLOG, firstBoot: 1 })
  const { refusals } = await done
  if (refusals.length > 0) throw new Error(`${refusals.length} reports were not acknowledged, the first: ${refusals[0]}`)
}

async function untilRows(rows: () => Promise<number>, wanted: number): Promise<{ rows: number; at: number }> {
  for (const since = performance.now(); ;) {
    const found = await rows()
    const at = performance.now()
    if (found >= wanted) return { rows: found, at }
    if (at - since > 120_000) throw new Error(`only ${found} of ${wanted} rows after two minutes`)
    await delay(100)
  }
}

const serverOf = (ingest: string | undefined, dashboard: string | undefined): Server => ({ ingest_url: ingest!, dashboard_url: dashboard!, token: TOKEN })

const filesOf = (folder: string): number => readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length
const bytesOf = (folder: string, top: RegExp): number => readdirSync(folder).filter((name) => top.test(name))
  .flatMap((name) => readdirSync(join(folder, name)).filter((file) => file.endsWith('.log')).map((file) => statSync(join(folder, name, file)).size)).reduce((sum, size) => sum + size, 0)
