import { createHash, generateKeyPairSync, sign, verify, X509Certificate } from 'node:crypto'
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createFleet } from '../../ingest/device/fleet.ts'
import type { RegistrySnapshot } from '../../ingest/registry.ts'
import type { Figure } from './bench.ts'
import type { FromLoad, LoadPlan } from './ingest/load.ts'
import type { FromServer } from './ingest/server.ts'

/**
 * One ingest process on a synced embedded log, with cached chains and then with a device of its own for each report, whose
 * chain was never seen; a lean load generator in another process sends distinct
 * signed reports over 64 connections, each waiting for its answer. Signing happens outside the timed windows. Printed
 * beside a calibration, the ES256 verifications a second of one core, because a busy machine slows both alike.
 */
export const name = 'ingest'
export const describe = 'signed 20 KiB crashes acknowledged by one process, synced log, 64 connections, median of 5'

const ROUNDS = 5
const WARM_UP = 4_000
const PLAN: Omit<LoadPlan, 'url' | 'devices' | 'issuer'> = { connections: 64, dumpBytes: 20 * 1024, windowMs: 5_000, reports: 20_000 }
const TARGET = { perSecond: 2_000, coldPerSecond: 1_500, p99Ms: 100, cpuMicros: 450 }
const COLD = { rounds: 3, reports: 8_000 }

export async function run(print: (figure: Figure) => void): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'bench-ingest-'))
  const fleet = createFleet({ devices: 64, name: 'bench', now: Date.now() })
  await mkdir(join(data, 'ingest'))
  await writeFile(join(data, 'ingest', 'registry.json'), JSON.stringify(snapshotOf(fleet.ca.pem)))

  const server = fork(join(import.meta.dirname, 'ingest', 'server.ts'), [data])
  const load = fork(join(import.meta.dirname, 'ingest', 'load.ts'))
  try {
    const { url } = await answerOf<FromServer & { kind: 'ready' }>(server)
    const devices = fleet.devices.map(({ keyPem, chain }) => ({ keyPem, chain: chain.map((der) => der.toString('base64')) }))
    const { name: issuerName, certificate, keyPem } = fleet.intermediate
    load.send({ ...PLAN, url, devices, issuer: { name: issuerName, certificate: certificate.toString('base64'), keyPem } })
    await answerOf(load)
    await window(load, server, WARM_UP, false)

    const rounds: (Awaited<ReturnType<typeof window>> & { calibration: number })[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const calibration = es256PerSecond()
      rounds.push({ ...await window(load, server, PLAN.reports, false), calibration })
    }
    const cold: typeof rounds = []
    for (let round = 0; round < COLD.rounds; round++) {
      const calibration = es256PerSecond()
      cold.push({ ...await window(load, server, COLD.reports, true), calibration })
    }
    const middle = (pick: (round: (typeof rounds)[number]) => number) => median(rounds.map(pick))
    const perSecond = middle((round) => round.perSecond)
    const calibration = middle((round) => round.calibration)
    print({ name: 'acknowledged', value: perSecond, unit: 'crashes/s', baseline: TARGET.perSecond, ratio: perSecond / TARGET.perSecond })
    print({ name: 'latency p50', value: middle((round) => round.p50), unit: 'ms' })
    print({ name: 'latency p99', value: middle((round) => round.p99), unit: 'ms', baseline: TARGET.p99Ms, ratio: middle((round) => round.p99) / TARGET.p99Ms })
    print({ name: 'server CPU', value: middle((round) => round.cpuMicros), unit: 'us/crash', baseline: TARGET.cpuMicros, ratio: middle((round) => round.cpuMicros) / TARGET.cpuMicros })
    print({ name: 'server RSS', value: middle((round) => round.rssMiB), unit: 'MiB' })
    print({ name: 'ES256 verifications of one core', value: calibration, unit: '/s' })
    print({ name: 'acknowledged against ES256 verifications', value: perSecond, unit: 'crashes/s', baseline: calibration, ratio: perSecond / calibration })
    const coldPerSecond = median(cold.map((round) => round.perSecond))
    print({ name: 'acknowledged, every chain cold', value: coldPerSecond, unit: 'crashes/s', baseline: TARGET.coldPerSecond, ratio: coldPerSecond / TARGET.coldPerSecond })
    print({ name: 'server CPU, every chain cold', value: median(cold.map((round) => round.cpuMicros)), unit: 'us/crash' })
    print({ name: 'ES256 verifications of one core then', value: median(cold.map((round) => round.calibration)), unit: '/s' })
    const failed = [...rounds, ...cold].reduce((sum, round) => sum + round.failed, 0)
    if (failed > 0) throw new Error(`${failed} reports were not acknowledged`)
  } finally {
    load.kill()
    server.kill('SIGTERM')
    if (server.exitCode === null) await once(server, 'exit')
    await rm(data, { recursive: true })
  }
}

/** One timed window: what the load generator saw, and what it cost the server. */
async function window(load: ChildProcess, server: ChildProcess, reports: number, cold: boolean) {
  load.send({ sign: reports, cold })
  await answerOf(load)
  const before = await usageOf(server)
  load.send('go')
  const seen = await answerOf<FromLoad & { kind: 'done' }>(load)
  const after = await usageOf(server)
  return { ...seen, perSecond: (seen.acknowledged * 1000) / seen.elapsedMs, cpuMicros: (after.cpuMicros - before.cpuMicros) / seen.acknowledged, rssMiB: after.rssBytes / 2 ** 20 }
}

async function usageOf(server: ChildProcess): Promise<FromServer & { kind: 'usage' }> {
  server.send('usage')
  return answerOf(server)
}

/** The child's next message; a child that ends instead is an error. */
export async function answerOf<T>(child: ChildProcess): Promise<T> {
  const heard = new AbortController()
  const ended = once(child, 'exit', { signal: heard.signal }).then(([code]) => { throw new Error(`a child process ended with ${String(code)}`) })
  const message = once(child, 'message', { signal: heard.signal })
  for (const promise of [ended, message]) promise.catch(() => {})
  try {
    return (await Promise.race([message, ended]) as [T])[0]
  } finally {
    heard.abort()
  }
}

function es256PerSecond(): number {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const message = Buffer.alloc(1200, 7)
  const signature = sign('sha256', message, privateKey)
  const started = performance.now()
  let count = 0
  while (performance.now() - started < 500) {
    for (let i = 0; i < 50; i++) verify('sha256', message, publicKey, signature)
    count += 50
  }
  return (count * 1000) / (performance.now() - started)
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

export function snapshotOf(pem: string): RegistrySnapshot {
  const sha256 = createHash('sha256').update(new X509Certificate(pem).raw).digest('hex')
  const settings = { net_facing: [], project_key_uploads: false, project_keys: [], expired_leaf_days: 30, eku: 'any' as const }
  return { v: 1, fleets: { bench: { settings, anchors: { [sha256]: { pem, key_protection: 'hardware' } }, devices: {} } } }
}
