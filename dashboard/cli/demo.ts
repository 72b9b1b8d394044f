import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import type { Command } from 'commander'
import { TOPIC_ACCEPTED } from '../../infra/log/log.ts'
import { createManualClock, systemClock, type Clock } from '../../infra/service/clock.ts'
import { runProcess } from '../../infra/service/process.ts'
import { ingestSettingsSchema } from '../../ingest/config.ts'
import { createFleet } from '../../ingest/device/fleet.ts'
import { postReport } from '../../ingest/device/post.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { workerSettingsSchema } from '../../symbolicate/config.ts'
import { dumpOf, STORY_DAYS, writeStory, type PlannedReport, type Story } from '../demo/story.ts'
import { dashboardSettingsSchema } from '../config.ts'
import { loadConfiguration } from '../configuration.ts'
import { startPipeline, type Pipeline } from './pipeline.ts'
import { configOf, portNumber } from './options.ts'
import { explainStart } from './start.ts'

/**
 * `overrun demo`: the embedded default, and a seeded story of two weeks that is played through its front door: each
 * report is signed by its device and posted; no row reaches ClickHouse another way. The clock that everybody is handed
 * runs from two weeks ago up to now, as fast as the parts can follow, and the detectors are asked every two hours of it
 * (every quarter of an hour on the last day), which is the same code as a replay over the past. Then the real clock takes over.
 */
interface DemoOptions { data?: string; ingestPort: number; dashboardPort: number; seed: number; devices: number; json?: boolean; exit?: boolean }

const CORPUS = fileURLToPath(new URL('../../test/corpus/', import.meta.url))
/** All but those of bpdaemon: somebody forgot them. */
const SYMBOLS = ['sensord', 'sensord-nofp', 'libc.so.6', 'ld-linux-x86-64.so.2']
const HOUR = 3_600_000
const DAY = 24 * HOUR
const FLEET = 'default'

export function registerDemo(program: Command): void {
  program
    .command('demo')
    .description('Play two weeks of a fleet, with an attack, through the front door, and show them')
    .option('--data <directory>', 'where to keep it; a new temporary folder by default')
    .option('--ingest-port <port>', 'for devices; 0 is any free one', portNumber, ingestSettingsSchema.parse({}).port)
    .option('--dashboard-port <port>', 'for people; 0 is any free one', portNumber, dashboardSettingsSchema.shape.port.parse(undefined))
    .option('--seed <number>', 'another seed tells another story', Number, 7)
    .option('--devices <number>', 'size of the fleet', Number, 240)
    .option('--json', 'print one line of JSON when the story is told')
    .option('--exit', 'end when the story is told')
    .action(async (options: DemoOptions) => {
      const data = options.data ?? mkdtempSync(join(tmpdir(), 'overrun-demo-'))
      const { ingestPort, dashboardPort } = options
      const end = Date.now()
      const clock = createStoryClock(end - STORY_DAYS * DAY)
      // A story sends from one address and a few devices. It is the same everywhere: the environment has no part in it.
      const loaded = loadConfiguration({ env: {}, options: {
        data, logLevel: 'warn', 'ingest.port': ingestPort, 'dashboard.port': dashboardPort, 'ingest.quotas.devicePerMinute': 1e6, 'ingest.quotas.deviceBurst': 1e6,
      } })
      const { stop } = await runProcess({
        part: 'demo', config: configOf(loaded), json: options.json === true, explain: (error) => explainStart(error, { data, ingestPort, dashboardPort }),
        async start(world) {
          const pipeline = await startPipeline({ configuration: loaded.value, clock, watch: false, world })
          // Else the haste of the story alone grows V8's young generation to 128 MiB; what follows needs a tenth of it.
          setFlagsFromString('--semi-space-growth-factor=1')
          const told = await tell(pipeline, clock, writeStory({ seed: options.seed, end, devices: options.devices }), end)
          setFlagsFromString('--semi-space-growth-factor=2')
          clock.followTheRealOne()
          pipeline.detectors.start()
          const { ingestUrl: ingest_url, dashboardUrl: dashboard_url, token, checks } = pipeline
          return { checks, addresses: { ingest_url, dashboard_url }, printed: { token, ...told }, welcome: farewell(pipeline, told) }
        },
      })
      if (options.exit) await stop().then(() => process.exit(0))
    })
}

const dumpPath = (name: string): string => join(CORPUS, name.startsWith('bpdaemon') ? 'breakpad-x64' : 'crashpad-x64', `${name}.dmp`)

function symbolPath(name: string): string {
  const [debugId] = readdirSync(join(CORPUS, 'symbols', name))
  return join(CORPUS, 'symbols', name, debugId!, `${name}.sym`)
}

interface Told { crashes: number; devices: number; alerts: { id: string; pattern: string; title: string; devices: number }[]; seconds: number }

async function tell(pipeline: Pipeline, clock: StoryClock, story: Story, end: number): Promise<Told> {
  const started = Date.now()
  say(`watch it at ${pipeline.dashboardUrl}, token ${pipeline.token}`)
  const start = end - STORY_DAYS * DAY
  say(`a fleet of ${story.devices} devices: a CA, an intermediate, and a certificate for each`)
  const fleet = createFleet({ devices: story.devices, name: 'demo', now: start })
  await api(pipeline, `/fleets/${FLEET}/anchors`, { pem: fleet.ca.pem, key_protection: 'hardware' })
  await api(pipeline, `/fleets/${FLEET}/settings`, { net_facing: story.netFacing })
  await pipeline.registry.refresh()
  say('symbols of its programs, except one that somebody forgot')
  for (const name of SYMBOLS) await uploadSymbols(pipeline, name)

  const originals = new Map<string, Uint8Array>()
  const original = (name: string): Uint8Array => originals.get(name) ?? originals.set(name, readFileSync(dumpPath(name))).get(name)!
  let sent = 0
  for (let day = 0; day < STORY_DAYS; day++) {
    const from = start + day * DAY
    for (const report of story.reports.filter(({ at }) => at >= from && at < from + DAY)) {
      clock.set(report.at)
      await send(pipeline, fleet.devices[report.device]!, report, dumpOf(report, original(report.dump)))
      sent++
    }
    await untilCounted(pipeline)
    const step = day === STORY_DAYS - 1 ? HOUR / 4 : 2 * HOUR
    for (let now = from + step; now <= from + DAY; now += step) {
      clock.set(now)
      await pipeline.detectors.evaluate(now)
    }
    say(`day ${String(day + 1).padStart(2)} of ${STORY_DAYS}: ${sent} crashes reported, ${(await openAlerts(pipeline)).length} alerts`)
  }
  return { crashes: sent, devices: story.devices, alerts: await openAlerts(pipeline), seconds: Math.round((Date.now() - started) / 1000) }
}

async function send(pipeline: Pipeline, device: ReturnType<typeof createFleet>['devices'][number], { claims }: PlannedReport, dump: Uint8Array): Promise<void> {
  const { bootcount = 0, seq = 0 } = claims
  const { body } = signReport({ dump, contentType: 'application/x-minidump', claims: { ...claims, bootcount, seq }, key: device.key, chain: device.chain })
  const posted = await postReport({ url: `${pipeline.ingestUrl}/v1/crashes`, body, retries: 5, timeoutMs: 20_000 })
  if (posted.kind !== 'answered' || posted.status !== 202) throw new Error(`ingest did not take a crash: ${posted.kind === 'answered' ? `${posted.status} ${posted.text}` : posted.reason}`)
}

/** The worker has written what ingest has acknowledged. */
async function untilCounted({ log }: Pipeline): Promise<void> {
  const { group } = workerSettingsSchema.parse({})
  while ((await log.stats(TOPIC_ACCEPTED, group)).lag > 0) await new Promise((resolve) => setTimeout(resolve, 20))
}

async function uploadSymbols({ dashboardUrl, token }: Pipeline, name: string): Promise<void> {
  const response = await fetch(new URL(`/api/v1/symbols?name=${encodeURIComponent(`${name}.sym`)}`, dashboardUrl), {
    method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' }, body: readFileSync(symbolPath(name)),
  })
  if (!response.ok) throw new Error(`symbols of ${name}: ${response.status} ${await response.text()}`)
}

async function openAlerts(pipeline: Pipeline): Promise<Told['alerts']> {
  const { items } = await api<{ items: Told['alerts'] }>(pipeline, '/alerts?state=open&queue=security&limit=200')
  return items.map(({ id, pattern, title, devices }) => ({ id, pattern, title, devices }))
}

async function api<T>({ dashboardUrl, token }: Pipeline, path: string, body?: unknown): Promise<T> {
  const response = await fetch(new URL(`/api/v1${path}`, dashboardUrl), {
    headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
  })
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
  return (await response.json()) as T
}

/** Stands where the story puts it, and goes on from there with the real one when the story is told. */
interface StoryClock extends Clock { set(ms: number): void; followTheRealOne(): void }
function createStoryClock(start: number): StoryClock {
  const story = createManualClock(start)
  let follows = false
  return { now: () => (follows ? Math.max(story.now(), systemClock.now()) : story.now()), set: story.set, followTheRealOne: () => { follows = true } }
}

const say = (line: string): void => console.error(`demo: ${line}`)

function farewell({ dashboardUrl, ingestUrl, token }: Pipeline, { crashes, devices, alerts, seconds }: Told): string {
  const campaigns = alerts.map(({ id, pattern, title }) => `    ${pattern}  ${title}\n      ${dashboardUrl}/campaigns/${id}`).join('\n')
  return `
  ${crashes} signed crashes of ${devices} devices, ${STORY_DAYS} days, in ${seconds} s.

  Dashboard   ${dashboardUrl}   token ${token}
  Alerts
${campaigns}

  Symbols of one program are missing on purpose; this ends it:
    OVERRUN_URL=${dashboardUrl} OVERRUN_TOKEN=${token} npm run overrun -- symbols upload test/corpus/symbols/bpdaemon

  This is a demo with an invented fleet. A real device posts to the same endpoint, ${ingestUrl}/v1/crashes: npm start says how.
`
}
