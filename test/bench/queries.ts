import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createDetectors } from '../../dashboard/detect/detectors.ts'
import { readDeviceTimeline } from '../../dashboard/queries/device.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import type { Figure } from './bench.ts'
import { ingestBeside } from './queries/beside.ts'
import { fill, type Fill } from './queries/fill.ts'
import { crashRow, insertCrashes } from '../dashboard/crash-row.ts'
import { openWorld, type World } from './queries/world.ts'

/**
 * What people and detectors wait for at 10 million crashes: pages asked over the dashboard's own API, on the embedded engine
 * with the limits that it has by default, just started (cold) and then again and again (warm). Then ingest at 1,000 crashes a
 * second while somebody asks for a page each second.
 *
 *   --rows=N   fewer crashes, on as many days
 *   --keep     leave the engine's folder under the temporary directory for the next run, which then needs no fill
 *
 * The CPU time of the engine is printed beside: unlike the wall clock it hardly depends on what else the machine does.
 */
export const name = 'queries'
export const describe = 'pages and detectors over 10 M crashes of 28 days and 100,000 devices, and ingest beside them'

const END = Date.UTC(2026, 10, 22, 15, 20)
const HOUR = 3_600_000
const DAY = 24 * HOUR
const FILL_MEMORY = 3 * 2 ** 30

/** What the page of a bucket and its tabs ask for. */
const BUCKET_PAGE = { 'bucket page': '', 'its crashes': '/crashes', 'its devices': '/devices', 'its firmware': '/firmware', 'its correlations': '/correlations' }

const option = (name: string): string | undefined => process.argv.find((word) => word.startsWith(`--${name}=`))?.split('=')[1]

export async function run(print: (figure: Figure) => void): Promise<void> {
  const plan: Fill = { rows: Number(option('rows') ?? 10_000_000), devices: 100_000, buckets: 600, days: 28, end: END }
  const directory = join(tmpdir(), `overrun-bench-queries-${plan.rows}`)
  try {
    if (!existsSync(join(directory, 'filled'))) await fillDirectory(directory, plan, print)
    const world = await openWorld({ directory: join(directory, 'clickhouse'), now: END })
    try {
      await measure(world, print)
    } finally {
      await world.stop()
    }
    await ingestBeside({ directory: join(directory, 'clickhouse'), now: END, print })
  } finally {
    if (!process.argv.includes('--keep')) await rm(directory, { recursive: true, force: true })
  }
}

async function fillDirectory(directory: string, plan: Fill, print: (figure: Figure) => void): Promise<void> {
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { recursive: true })
  const started = performance.now()
  const world = await openWorld({ directory: join(directory, 'clickhouse'), now: END, memoryLimitBytes: FILL_MEMORY })
  await fill(world.clickhouse, plan)
  while (await world.merging()) await delay(500)
  const seconds = (performance.now() - started) / 1000
  const [size] = await world.rows<{ n: string; disk: string; raw: string }>(
    'SELECT sum(rows) AS n, sum(bytes_on_disk) AS disk, sum(data_uncompressed_bytes) AS raw FROM system.parts WHERE active AND table = \'crashes\'')
  await world.stop()
  await writeFile(join(directory, 'filled'), JSON.stringify({ seconds, ...size }))
  print({ name: `filled with ${Number(size?.n)} rows`, value: seconds, unit: 's' })
  print({ name: 'a row, as it was written', value: Number(size?.raw) / Number(size?.n), unit: 'bytes' })
  print({ name: 'a row on the disk', value: Number(size?.disk) / Number(size?.n), unit: 'bytes' })
}

async function measure(world: World, print: (figure: Figure) => void): Promise<void> {
  const buckets = await world.someBuckets()
  const devices = await world.someDevices()
  const crashes = await world.someCrashes(buckets[0]!)
  // Whole hours up to this one, as pages ask; from any minute on, the crashes of a part of an hour are read one by one too.
  const range = (days: number) => `from=${new Date(Math.ceil((END - days * DAY) / HOUR) * HOUR).toISOString()}`
  const ofBucket = (turn: number, part: string, days: number) => `buckets/${buckets[turn % buckets.length]}${part}?${range(days)}`
  const pages: { name: string; times: number; aim: number; path: (turn: number) => string }[] = [{ name: 'overview, 24 h', times: 40, aim: 200, path: () => 'overview' }]
  for (const { days, name, times, aim } of [{ days: 1, name: '24 h', times: 40, aim: 200 }, { days: 14, name: '14 days', times: 16, aim: 1000 }, { days: 28, name: '28 days', times: 16, aim: 1000 }]) {
    pages.push({ name: `bucket list, ${name}`, times, aim, path: () => `buckets?${range(days)}` })
    for (const [what, part] of Object.entries(BUCKET_PAGE)) pages.push({ name: `${what}, ${name}`, times, aim, path: (turn) => ofBucket(turn, part, days) })
  }
  pages.push({ name: 'bucket list of one firmware, 28 days', times: 8, aim: 1000, path: () => `buckets?${range(28)}&swversion=4.3.1` })
  pages.push({ name: 'devices, 14 days', times: 8, aim: 1000, path: () => `devices?${range(14)}` })
  pages.push({ name: 'a crash of the busiest bucket', times: 20, aim: 200, path: (turn) => `crashes/${crashes[turn % crashes.length]}` })
  pages.push({ name: 'device page, 24 h', times: 20, aim: 200, path: (turn) => `devices/${devices[turn % devices.length]}?${range(1)}` })
  for (const { name, times, aim, path } of pages) {
    const cold = await world.timed(() => world.get(path(0)))
    const warm: { ms: number; cpuMs: number }[] = []
    for (let turn = 1; turn <= times; turn++) warm.push(await world.timed(() => world.get(path(turn))))
    const p95 = percentile(warm.map(({ ms }) => ms), 0.95)
    print({ name: `${name}: p95`, value: p95, unit: 'ms', baseline: aim, ratio: p95 / aim, aim: 1 })
    print({ name: `${name}: first, median, engine's CPU`, value: cold.ms, unit: `ms, ${percentile(warm.map(({ ms }) => ms), 0.5).toFixed(0)} ms, ${percentile(warm.map(({ cpuMs }) => cpuMs), 0.5).toFixed(0)} ms` })
  }
  const timelines: number[] = []
  for (let turn = 0; turn < 20; turn++) timelines.push((await world.timed(() => readDeviceTimeline(world.clickhouse, 'default', devices[turn % devices.length]!))).ms)
  const p95 = percentile(timelines, 0.95)
  print({ name: 'a device\'s timeline: p95', value: p95, unit: 'ms', baseline: 100, ratio: p95 / 100, aim: 1 })
  await detect(world, 'quiet', print)
  await attack(world)
  await detect(world, 'beside a campaign', print)
  const peak = await peakRss(world)
  print({ name: 'engine\'s RSS, the most', value: peak, unit: 'MiB', baseline: 1024, ratio: peak / 1024, aim: 1 })
}

/** The first pass is one of a process that has just started. */
async function detect(world: World, when: string, print: (figure: Figure) => void): Promise<void> {
  const metrics = createMetrics({ defaults: false })
  const detectors = createDetectors({ clickhouse: world.clickhouse, clock: world.clock, logger: createLogger({ part: 'bench', level: 'error' }), metrics })
  const passes: { ms: number; cpuMs: number }[] = []
  let findings = 0
  for (let pass = 0; pass < 6; pass++) passes.push(await world.timed(async () => { findings = (await detectors.evaluate(END)).length }))
  const slowest = Math.max(...passes.map(({ ms }) => ms)) / 1000
  print({ name: `all detectors, ${when}: slowest of 6 passes`, value: slowest, unit: 's', baseline: 5, ratio: slowest / 5, aim: 1 })
  print({ name: `all detectors, ${when}: engine's CPU, findings`, value: passes.at(-1)!.cpuMs / 1000, unit: `s, ${findings}` })
  if (/result="failed"/.test(await metrics.metrics())) throw new Error('a detector failed: its pattern was not watched')
}

/** The same jump into nowhere on sixty devices within five hours. */
async function attack({ clickhouse }: World): Promise<void> {
  await insertCrashes(clickhouse, Array.from({ length: 60 }, (_, n) => crashRow({
    id: `campaign-${n}`, fleet: 'default', at: END - HOUR / 12 - n * HOUR / 12, device: `thermostat-${String(n * 7).padStart(7, '0')}`, device_key: '', kind: 'control-flow', evidence: 4, pattern: 'cyclic', bucket: 'c0ffee0000000000',
    title: 'control-flow in parse_header (httpd.c:77)', swversion: '4.3.1',
  })))
}

async function peakRss({ pid }: World): Promise<number> {
  return Number(/VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${pid()}/status`, 'utf8'))?.[1]) / 1024
}

/** The nearest rank: the smallest value that at least this share of all do not exceed. */
export const percentile = (values: readonly number[], share: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN
}
