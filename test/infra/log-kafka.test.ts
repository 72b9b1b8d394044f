import kafkajs from 'kafkajs'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connectKafkaLog, type KafkaLogOptions } from '../../infra/log/kafka.ts'
import { BrokenWorld } from '../../infra/service/errors.ts'
import type { Logger } from '../../infra/service/logger.ts'
import { needs } from '../system/java.ts'
import { startKafka, type KafkaServer } from '../system/kafka.ts'
import { consumed, logSuite, read, until } from './log.suite.ts'

const { skip, note } = needs('kafka')

const connect = (server: KafkaServer, topic: string, options: Partial<KafkaLogOptions> = {}) => connectKafkaLog({
  brokers: server.brokers, clientId: 'test', topics: [topic], partitions: 3, allowSingleBroker: true,
  retention: { bytes: 1e9, ageMs: 1e9 }, sendTimeoutMs: 20_000, sessionTimeoutMs: 6_000, ...options,
})

async function withAdmin<T>(server: KafkaServer, work: (admin: kafkajs.Admin) => Promise<T>): Promise<T> {
  const admin = new kafkajs.Kafka({ clientId: 'test-admin', brokers: server.brokers, logLevel: kafkajs.logLevel.NOTHING }).admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

logSuite(`Kafka log${note}`, skip, () => {
  let server: KafkaServer
  return {
    async start() { server = await startKafka() },
    open: ([topic], options) => connect(server, topic!, options),
    async expire(log, topic) {
      await withAdmin(server, async (admin) => {
        const partitions = (await admin.fetchTopicOffsets(topic)).map(({ partition, high }) => ({ partition, offset: high }))
        await admin.deleteTopicRecords({ topic, partitions: partitions.filter(({ offset }) => offset !== '0') })
      })
      return log
    },
    appender: () => JSON.stringify({ brokers: server.brokers }),
    async stop() { await server?.stop() },
  }
})

describe.skipIf(skip)(`Kafka log, when Kafka is in trouble${note}`, () => {
  let server: KafkaServer
  beforeAll(async () => { server = await startKafka() })
  afterAll(() => server?.stop())

  test('a topic that can lose what it acknowledged is refused at start', async () => {
    await withAdmin(server, (admin) => admin.createTopics({ topics: [{ topic: 'single', numPartitions: 1, replicationFactor: 1 }] }))
    await expect(connect(server, 'single', { allowSingleBroker: false })).rejects.toMatchObject({ code: 'log-topic-unsafe', retryable: false })
    await withAdmin(server, (admin) => admin.createTopics({ topics: [{
      topic: 'unclean', numPartitions: 1, replicationFactor: 1, configEntries: [{ name: 'unclean.leader.election.enable', value: 'true' }],
    }] }))
    await expect(connect(server, 'unclean')).rejects.toThrow(/unclean\.leader\.election\.enable is true/)
  })

  test('topics are made as asked for; one that would refuse crashes is refused, and what differs otherwise is told', async () => {
    const warned: Record<string, unknown>[] = []
    const logger = { warn: (fields: Record<string, unknown>, what: string) => void warned.push({ ...fields, what }), error() {}, info() {}, debug() {} } as unknown as Logger
    const made = await connect(server, 'made', { partitions: 5, retention: { bytes: 123_456_789, ageMs: 987_654 }, logger })
    await made.close()
    expect(warned).toEqual([{ topics: ['made'], what: expect.stringContaining('a single Kafka broker is allowed') }])
    await withAdmin(server, async (admin) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: ['made'] })
      expect(topics[0]!.partitions).toHaveLength(5)
      const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: 'made' }] })
      const config = Object.fromEntries(resources[0]!.configEntries.map(({ configName, configValue }) => [configName, configValue]))
      expect(config).toMatchObject({
        'retention.bytes': '123456789', 'retention.ms': '987654', 'compression.type': 'producer', 'cleanup.policy': 'delete',
        'unclean.leader.election.enable': 'false', 'message.timestamp.type': 'LogAppendTime',
      })
      await admin.createTopics({ topics: [{ topic: 'small', numPartitions: 3, replicationFactor: 1, configEntries: [{ name: 'max.message.bytes', value: '100000' }] }] })
    })
    await expect(connect(server, 'small')).rejects.toThrow(/max\.message\.bytes is 100000/)

    warned.length = 0
    const kept = await connect(server, 'made', { partitions: 6, retention: { bytes: 2e9, ageMs: 987_654 }, logger })
    await kept.close()
    expect(warned.slice(1)).toEqual([
      { topic: 'made', partitions: 5, wanted: 6, what: expect.any(String) },
      { topic: 'made', setting: 'retention.bytes', kept: 123_456_789, wanted: 2e9, what: expect.any(String) },
    ])
  })

  test('what is kept is packed with zstd, and read as it was', async () => {
    const sizeOf = (topic: string) => withAdmin(server, async (admin) => {
      const dirs = readdirSync(join(server.directory, 'data')).filter((name) => name.startsWith(`${topic}-`))
      await admin.fetchTopicOffsets(topic)
      return dirs.flatMap((dir) => readdirSync(join(server.directory, 'data', dir)).filter((name) => name.endsWith('.log')).map((name) => statSync(join(server.directory, 'data', dir, name)).size)).reduce((a, b) => a + b)
    })
    const value = Buffer.from('a stack is mostly the same words '.repeat(600))
    const sizes: Record<string, number> = {}
    for (const compression of ['none', 'zstd'] as const) {
      const topic = `kept-${compression}`
      const log = await connect(server, topic, { partitions: 1, compression })
      await Promise.all(Array.from({ length: 40 }, () => log.append(topic, { key: 'd', value })))
      const entries = await read(log, topic, 40)
      expect(entries.every((entry) => Buffer.compare(entry.value, value) === 0)).toBe(true)
      await log.close()
      sizes[compression] = await sizeOf(topic)
    }
    expect(sizes.none).toBeGreaterThan(40 * value.length)
    expect(sizes.zstd).toBeLessThan(value.length * 4)
  })

  test('a message larger than the topic takes is refused without being sent', async () => {
    const log = await connect(server, 'large')
    await expect(log.append('large', { key: 'd', value: new Uint8Array(1_100_000) })).rejects.toMatchObject({ code: 'log-message-too-large', retryable: false })
    await log.append('large', { key: 'd', value: new Uint8Array(1_000_000) })
    await log.close()
  })

  test('another reader of the group takes partitions over, each starts from its store, and the first hears that it lost them', async () => {
    const log = await connect(server, 'shared', { partitions: 4 })
    const other = await connect(server, 'shared')
    const store = new Map<number, number>()
    const seen: string[] = []
    const options = {
      topic: 'shared', group: 'worker', startAt: async (partition: number) => store.get(partition) ?? 0, maxEntries: 5, maxBytes: 1e6, maxWaitMs: 20,
    }
    const readers: Set<string>[] = [new Set(), new Set()]
    const start = (which: number) => (which === 0 ? log : other).consume(options, async (batch) => {
      if (batch.stale()) return
      readers[which]!.add(String(batch.partition))
      for (const { key } of batch.entries) seen.push(key)
      store.set(batch.partition, batch.entries.at(-1)!.offset + 1)
    })
    const sent: string[] = []
    const send = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const key = `d${sent.length}`
        sent.push(key)
        await log.append('shared', { key, value: Buffer.from(key) })
      }
    }
    const first = await start(0)
    await send(50)
    await until(() => seen.length >= 50)
    const second = await start(1)
    while (readers[1]!.size === 0) await send(5)
    await first.stop()
    await send(20)
    await until(() => new Set(seen).size === sent.length)
    expect(new Set(seen)).toEqual(new Set(sent))
    await second.stop()
    await log.close()
    await other.close()
  })

  test('a reader that Kafka has thrown out is told so, and its batch comes again', async () => {
    const log = await connect(server, 'evicted')
    await log.append('evicted', { key: 'd', value: Buffer.from('x') })
    const options = { topic: 'evicted', group: 'evicted', startAt: async () => 0, maxEntries: 1, maxBytes: 1_000, maxWaitMs: 20 }
    let deliveries = 0
    let told = false
    const reader = await log.consume(options, async (batch) => {
      if (++deliveries > 1) return
      expect(batch.stale()).toBe(false)
      // Longer without a turn of the event loop than the session lasts: no heartbeat leaves.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 6_500)
      told = batch.stale()
    })
    await until(() => deliveries > 1)
    expect(told).toBe(true)
    await reader.stop()
    await log.close()
  })

  test('while Kafka is dead appends are rejected by their deadline; when it is back everything acknowledged is there', async () => {
    const log = await connect(server, 'killed', { sendTimeoutMs: 1_500 })
    const acknowledged = new Set<string>()
    const codes = new Set<string>()
    let sending = true
    let n = 0
    const senders = Array.from({ length: 8 }, async () => {
      while (sending) {
        const id = `m${n++}`
        try {
          await log.append('killed', { key: id, value: new Uint8Array(2_000) })
          acknowledged.add(id)
        } catch (error) {
          if (!(error instanceof BrokenWorld && error.retryable)) throw error
          codes.add(error.code)
        }
      }
    })
    await until(() => acknowledged.size > 500)
    await server.kill()
    await until(() => codes.has('log-timeout'))
    await expect(log.check()).rejects.toMatchObject({ name: 'BrokenWorld', retryable: true })
    const before = acknowledged.size
    await server.restart()
    await until(() => acknowledged.size > before + 200)
    sending = false
    await Promise.all(senders)
    await log.check()
    const kept = new Set<string>()
    await consumed(log, { topic: 'killed' }, ({ entries }) => {
      for (const { key } of entries) kept.add(key)
      return [...acknowledged].every((id) => kept.has(id))
    })
    expect([...acknowledged].filter((id) => !kept.has(id))).toEqual([])
    await log.close()
  })

  test('batches that another producer packed with zstd are read', async () => {
    const log = await connect(server, 'packed')
    const producer = new kafkajs.Kafka({ clientId: 'other', brokers: server.brokers, logLevel: kafkajs.logLevel.NOTHING })
      .producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
    await producer.connect()
    await producer.send({ topic: 'packed', compression: kafkajs.CompressionTypes.ZSTD, messages: [{ key: 'd', value: 'x'.repeat(5_000) }] })
    await producer.disconnect()
    const [entry] = await read(log, 'packed', 1)
    expect(Buffer.from(entry!.value).toString()).toBe('x'.repeat(5_000))
    await log.close()
  })
})

test.skipIf(skip)(`no Kafka at all is a broken world that may pass${note}`, async () => {
  const options = { brokers: ['127.0.0.1:1'], clientId: 'test', retention: { bytes: 1, ageMs: 1 } }
  await expect(connectKafkaLog(options)).rejects.toMatchObject({ code: 'log-unreachable', retryable: true })
})
