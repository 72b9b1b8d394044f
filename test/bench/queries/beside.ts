import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createFleet } from '../../../ingest/device/fleet.ts'
import type { Figure } from '../bench.ts'
import { answerOf, snapshotOf } from '../ingest.ts'
import type { FromLoad, LoadPlan } from '../ingest/load.ts'
import type { FromServer } from '../ingest/server.ts'
import { openWorld } from './world.ts'

/**
 * Ingest at a steady pace, first alone and then while somebody asks the dashboard for a page each second, all of it on this
 * machine. A report is due at its time whether the one before was answered or not, and its latency counts from then, so that
 * a pause shows in every report that it made wait.
 */
const PER_SECOND = 1_000
const SECONDS = 30
const AIM_P99_MS = 200

export async function ingestBeside({ directory, now, print }: { directory: string; now: number; print: (figure: Figure) => void }): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'bench-beside-'))
  const fleet = createFleet({ devices: 64, name: 'bench', now: Date.now() })
  await mkdir(join(data, 'ingest'))
  await writeFile(join(data, 'ingest', 'registry.json'), JSON.stringify(snapshotOf(fleet.ca.pem)))
  const world = await openWorld({ directory, now })
  const server = fork(join(import.meta.dirname, '..', 'ingest', 'server.ts'), [data])
  const load = fork(join(import.meta.dirname, '..', 'ingest', 'load.ts'))
  try {
    const { url } = await answerOf<FromServer & { kind: 'ready' }>(server)
    const devices = fleet.devices.map(({ keyPem, chain }) => ({ keyPem, chain: chain.map((der) => der.toString('base64')) }))
    load.send({ url, connections: 64, dumpBytes: 20 * 1024, windowMs: SECONDS * 1000, reports: PER_SECOND * SECONDS, perSecond: PER_SECOND, devices } satisfies LoadPlan)
    await answerOf(load)
    const play = async (seconds: number): Promise<FromLoad & { kind: 'done' }> => {
      load.send({ sign: PER_SECOND * seconds })
      await answerOf(load)
      load.send('go')
      return answerOf<FromLoad & { kind: 'done' }>(load)
    }
    const bucket = (await world.someBuckets())[0]!
    const range = (days: number) => `from=${new Date(Math.ceil((now - days * 86_400_000) / 3_600_000) * 3_600_000).toISOString()}`
    const pages = ['overview', `buckets?${range(1)}`, `buckets/${bucket}?${range(1)}`, `buckets?${range(28)}`, `buckets/${bucket}?${range(28)}`]
    for (const page of pages) await world.get(page)
    await play(3)

    const alone = await play(SECONDS)
    const playing = play(SECONDS)
    let over = false
    void playing.finally(() => { over = true }).catch(() => {})
    const asked: number[] = []
    for (let turn = 0; !over; turn++) {
      const started = performance.now()
      await world.get(pages[turn % pages.length]!)
      asked.push(performance.now() - started)
      await delay(Math.max(0, 1000 - (performance.now() - started)))
    }
    const beside = await playing
    const perSecond = (beside.acknowledged * 1000) / beside.elapsedMs
    print({ name: 'ingest alone: p99', value: alone.p99, unit: 'ms' })
    print({ name: 'ingest beside a page a second: acknowledged', value: perSecond, unit: 'crashes/s', baseline: PER_SECOND, ratio: perSecond / PER_SECOND, aim: 1 })
    print({ name: 'ingest beside a page a second: p50', value: beside.p50, unit: 'ms' })
    print({ name: 'ingest beside a page a second: p99', value: beside.p99, unit: 'ms', baseline: AIM_P99_MS, ratio: beside.p99 / AIM_P99_MS, aim: 1 })
    print({ name: 'a page beside it: slowest', value: Math.max(...asked), unit: 'ms' })
    if (alone.failed + beside.failed > 0) throw new Error(`${alone.failed + beside.failed} reports were not acknowledged`)
  } finally {
    load.kill()
    server.kill('SIGTERM')
    if (server.exitCode === null) await once(server, 'exit')
    await world.stop()
    await rm(data, { recursive: true })
  }
}
