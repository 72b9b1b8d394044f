import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { needs } from '../system/java.ts'
import { createDevices, seeded, type Devices } from './devices.ts'
import { startInstallation, type Installation } from './installation.ts'
import { judge, recovery } from './oracle.ts'
import { long, seed } from './scenario.ts'

/**
 * The large installation, hurt while devices send: its processes killed and frozen, its broker killed, partitions moved in
 * mid-batch. One installation for all of it, so what one fault leaves behind is there for the next.
 */
const { skip, note } = needs('kafka')

describe.skipIf(skip)(`ingest, workers and dashboard as processes of their own${note}`, () => {
  const random = seeded(seed)
  let world: Installation
  let devices: Devices
  beforeAll(async () => {
    world = await startInstallation()
    devices = createDevices({ urls: () => world.urls(), random })
    await world.trust(devices.fleet)
  }, 180_000)
  afterAll(() => world?.stop(), 60_000)

  /** Load, the fault so many times, then: everything acknowledged, everything counted once. */
  async function survive(fault: string, times: number, hurt: (time: number) => Promise<void>): Promise<void> {
    const before = devices.acknowledged.size
    devices.start()
    await delay(500)
    for (let time = 0; time < times; time++) await hurt(time)
    const since = performance.now()
    await devices.stop()
    await recovery(async () => Number((await world.rows<{ n: string }>('SELECT uniqExact(id) AS n FROM crashes'))[0]?.n), (n) => n >= devices.acknowledged.size)
    const outcome = judge(fault, { times, devices, counted: await world.counted(), seconds: (performance.now() - since) / 1000, before })
    expect(outcome.acknowledged).toBeGreaterThan(0)
  }

  for (const role of ['ingest', 'symbolicate', 'dashboard'] as const) {
    test(`kill -9 of ${role}`, () => survive(`kill -9 of ${role}, on Kafka`, long ? 35 : 2, async (time) => {
      const part = role === 'dashboard' ? world.dashboard : (role === 'ingest' ? world.ingests : world.workers)[time % 2]!
      await delay(random() * 1_000)
      await part.kill()
      await part.start()
    }), long ? 900_000 : 120_000)
  }

  test('kill -9 of the engine that is the ClickHouse server here', () => survive('kill -9 of the ClickHouse server', long ? 30 : 2, async () => {
    await delay(random() * 1_500)
    world.engine.kill()
  }), long ? 600_000 : 120_000)

  test('kill -9 of the broker', () => survive('kill -9 of the broker', long ? 5 : 1, async () => {
    await delay(500)
    await world.kafka.kill()
    await delay(random() * 3_000)
    await world.kafka.restart()
    await delay(2_000)
  }), long ? 600_000 : 120_000)

  test('a worker that is frozen past its session, and goes on with a batch that is another one\'s by now', () => survive('SIGSTOP of a worker past its session', long ? 5 : 1, async (time) => {
    const worker = world.workers[time % 2]!
    worker.signal('SIGSTOP')
    await delay(14_000)
    worker.signal('SIGCONT')
    await delay(1_000)
  }), long ? 300_000 : 120_000)

  test('workers that come and go in mid-batch', () => survive('rebalance in mid-batch', long ? 20 : 2, async (time) => {
    const worker = world.workers[time % 2]!
    await delay(random() * 1_000)
    expect(await worker.stop()).toBe('exit code 0')
    await worker.start()
  }), long ? 600_000 : 120_000)
})
