import { setTimeout as delay } from 'node:timers/promises'
import kafkajs from 'kafkajs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { needs } from '../system/java.ts'
import { createDevices, seeded, type Devices } from './devices.ts'
import { startInstallation, type Installation } from './installation.ts'
import { judge, keep, recovery } from './oracle.ts'
import { long, seed, until } from './scenario.ts'
import { toxiproxyNeeds, type Toxic } from './toxiproxy.ts'

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
    world = await startInstallation({ linked: !toxiproxyNeeds.skip })
    devices = createDevices({ urls: () => world.urls(), random })
    await world.trust(devices.fleet)
  }, 180_000)
  afterAll(() => world?.stop(), 60_000)

  /** Load, the fault so many times, then: everything acknowledged, everything counted once. */
  async function survive(fault: string, times: number, hurt: (time: number) => Promise<void>): Promise<void> {
    const before = devices.acknowledged.size
    devices.start()
    await delay(500)
    let since = performance.now()
    try {
      for (let time = 0; time < times; time++) await hurt(time)
      since = performance.now()
    } finally {
      await devices.stop()
    }
    await recovery(async () => Number((await world.rows<{ n: string }>('SELECT uniqExact(id) AS n FROM crashes'))[0]?.n), (n) => n >= devices.acknowledged.size)
      .catch((error: unknown) => { throw new Error(`${String(error)}\n${world.workers.map(({ name, pid, said }) => `${name} (${pid}): ${said.slice(-2_000)}`).join('\n')}`) })
    const outcome = judge(fault, { times, devices, counted: await world.counted(), seconds: (performance.now() - since) / 1000, before })
    expect(outcome.acknowledged).toBeGreaterThan(0)
  }

  for (const role of ['ingest', 'symbolicate', 'dashboard'] as const) {
    test(`kill -9 of ${role}`, () => survive(`kill -9 of ${role}, on Kafka`, long ? 35 : 2, async (time) => {
      const part = role === 'dashboard' ? world.dashboard : (role === 'ingest' ? world.ingests : world.workers)[time % 2]!
      await delay(random() * 1_000)
      await part.kill()
      await part.start()
    }), long ? 900_000 : 300_000)
  }

  test('kill -9 of the engine that is the ClickHouse server here', () => survive('kill -9 of the ClickHouse server', long ? 30 : 2, async () => {
    await delay(random() * 1_500)
    world.engine.kill()
  }), long ? 600_000 : 300_000)

  test('kill -9 of the broker', () => survive('kill -9 of the broker', long ? 5 : 1, async () => {
    await delay(500)
    await world.kafka.kill()
    await delay(random() * 3_000)
    await world.kafka.restart()
    await delay(2_000)
  }), long ? 600_000 : 300_000)

  test('a worker that is frozen past its session, and goes on with a batch that is another one\'s by now', () => survive('SIGSTOP of a worker past its session', long ? 5 : 1, async (time) => {
    const worker = world.workers[time % 2]!
    worker.signal('SIGSTOP')
    await delay(14_000)
    worker.signal('SIGCONT')
    await delay(1_000)
  }), long ? 300_000 : 300_000)

  test('workers that come and go in mid-batch', () => survive('rebalance in mid-batch', long ? 20 : 2, async (time) => {
    const worker = world.workers[time % 2]!
    await delay(random() * 1_000)
    expect(await worker.stop()).toBe('exit code 0')
    await worker.start()
  }), long ? 600_000 : 300_000)

  describe.skipIf(toxiproxyNeeds.skip)(`the network between them${toxiproxyNeeds.note}`, () => {
    const between = long ? ['kafka', ...['ingest', 'symbolicate', 'dashboard'].flatMap((role) => [`${role}-clickhouse`, `${role}-s3`])] : ['kafka', 'symbolicate-clickhouse', 'ingest-s3']
    for (const [index, link] of between.entries()) {
      const toxics = long ? TOXICS : TOXICS.filter((_, n) => n % between.length === index)
      test(`${link}: ${toxics.map(({ name }) => name).join(', ')}`, () => survive(`network ${link}`, toxics.length, async (time) => {
        const { toxic, streams } = toxics[time]!
        for (const stream of streams) await world.links.get(link)!.poison(toxic, stream)
        await delay(long ? 6_000 : 2_500)
        await world.links.get(link)!.heal()
        await delay(500)
      }), long ? 600_000 : 300_000)
    }
  })

  test('a table that takes no rows, and a server that says "too many parts": lag, not loss', () => survive('ClickHouse: read-only, too many parts', long ? 6 : 2, async (time) => {
    const [set, reset] = time % 2 === 0 ? ['MODIFY SETTING table_readonly = 1', 'MODIFY SETTING table_readonly = 0'] : ['MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1, max_delay_to_insert = 1', 'RESET SETTING parts_to_throw_insert, parts_to_delay_insert, max_delay_to_insert']
    await world.command(`ALTER TABLE crashes ${set}`)
    await delay(3_000)
    await world.command(`ALTER TABLE crashes ${reset}`)
  }), 180_000)

  test('two contract versions in flight: workers first, then ingests, and back again with the new ones under way', async () => {
    const next = { NODE_OPTIONS: `--import=${new URL('./next-version.ts', import.meta.url).href}` }
    await survive('rolling upgrade, two contract versions', 1, async () => {
      for (const part of [...world.workers, ...world.ingests]) {
        expect(await part.stop()).toBe('exit code 0')
        await part.start(next)
        await delay(500)
      }
      // Back: what the new ingests wrote is still there for the new workers; the old ingests come first.
      for (const part of [...world.ingests, ...world.workers]) {
        if (part === world.workers[0]) {
          const written = [...devices.acknowledged]
          const isCounted = async () => { const { crashes } = await world.counted(); return written.every((id) => crashes.has(id)) }
          await until(isCounted, 'the new workers have counted what the new ingests wrote', 300_000)
        }
        expect(await part.stop()).toBe('exit code 0')
        await part.start()
      }
    })
  }, 240_000)

  test('retention that passed before a worker read: reported to the message, and what is left is counted', async () => {
    for (const worker of world.workers) await worker.stop()
    await devices.send(60)
    const kafka = new kafkajs.Kafka({ brokers: world.kafka.brokers, logLevel: kafkajs.logLevel.NOTHING })
    const admin = kafka.admin()
    await admin.connect()
    const partitions = await admin.fetchTopicOffsets('crashes.accepted')
    await admin.deleteTopicRecords({ topic: 'crashes.accepted', partitions: partitions.map(({ partition, high, low }) => ({ partition, offset: String(Math.max(Number(low), Number(high) - 2)) })) })
    await admin.disconnect()
    await devices.send(20)
    for (const worker of world.workers) await worker.start()
    const gone = async () => Number((await world.rows<{ n: string }>('SELECT sum(end_offset - first_offset) AS n FROM log_gaps FINAL'))[0]?.n)
    const counted = async () => (await world.counted()).crashes.size
    await until(async () => (await counted()) + (await gone()) >= devices.acknowledged.size, 'each is counted or told as lost', 60_000)
    const reported = await gone()
    expect(reported).toBeGreaterThan(0)
    const missing = devices.acknowledged.size - (await counted())
    keep({ fault: 'Kafka retention passed before it was read', times: 1, acknowledged: 80, lost: Math.max(0, missing - reported), duplicated: 0, invented: 0, letters: reported, seconds: null, note: 'letters: lost to retention, and reported' })
    // Messages are reported, and a report that was sent to both ingests is two of them.
    expect(missing).toBeGreaterThan(0)
    expect(missing).toBeLessThanOrEqual(reported)
  }, 180_000)
})

/** What a network does; `streams` says in which direction. Answers that never come although the other side did its work are the lost acknowledgement. */
const TOXICS: readonly { name: string; toxic: Toxic; streams: readonly ('downstream' | 'upstream')[] }[] = [
  { name: 'acknowledgement lost', toxic: { type: 'timeout', timeout: 0 }, streams: ['downstream'] },
  { name: 'black hole', toxic: { type: 'timeout', timeout: 0 }, streams: ['downstream', 'upstream'] },
  { name: 'reset', toxic: { type: 'reset_peer', timeout: 100 }, streams: ['downstream'] },
  { name: 'latency', toxic: { type: 'latency', latency: 300, jitter: 200 }, streams: ['downstream', 'upstream'] },
  { name: 'bandwidth', toxic: { type: 'bandwidth', rate: 30 }, streams: ['downstream', 'upstream'] },
  { name: 'cut in an answer', toxic: { type: 'limit_data', bytes: 2_000 }, streams: ['downstream'] },
]
