import kafkajs, { type KafkaConfig, type logLevel as LogLevel } from 'kafkajs'
import { constants, zstdCompress, zstdDecompress } from 'node:zlib'
import { promisify } from 'node:util'
import { messageOf } from '../service/errors.ts'
import type { Logger } from '../service/logger.ts'
import { renewedClient, withDeadline } from './kafka-client.ts'
import { startKafkaConsumer } from './kafka-consumer.ts'
import { createKafkaProducer, type Compression } from './kafka-producer.ts'
import { kafkaStats } from './kafka-stats.ts'
import { prepareTopics } from './kafka-topics.ts'
import { TOPIC_ACCEPTED, TOPIC_DEAD_LETTERS, type Log, type LogConsumer } from './log.ts'
import { logBroken } from './outcome.ts'

const { Kafka, CompressionCodecs, CompressionTypes, logLevel } = kafkajs

export interface KafkaLogOptions {
  /** host:port of some brokers; the others are found through them. */
  brokers: readonly string[]
  clientId: string
  /** Made when missing, checked when there. Defaults to the two topics of the product. */
  topics?: readonly string[]
  /** Of topics that are made now. */
  partitions?: number
  replicationFactor?: number
  minInsyncReplicas?: number
  /** Accept one copy of everything: a lost disk is then lost crashes. For a test machine; it warns. */
  allowSingleBroker?: boolean
  /** Per partition; for topics that are made now, an existing topic keeps its operator's settings. */
  retention: { bytes: number; ageMs: number }
  /** An append that isn't acknowledged by then is rejected with `log-timeout`; a send of kafkajs may hang for 17 s after a broker died. */
  sendTimeoutMs?: number
  /** How batches travel and are kept; readers read both. */
  compression?: Compression
  /** Appends beyond this many unacknowledged bytes are refused with `log-overloaded`. */
  maxBytesInFlight?: number
  /** A reader that the group hasn't heard of for so long has lost its partitions. */
  sessionTimeoutMs?: number
  ssl?: KafkaConfig['ssl']
  sasl?: KafkaConfig['sasl']
  logger?: Logger
}

/**
 * The log for several processes and machines: Kafka.
 *
 * Promise: append() resolves after all in-sync replicas have it (acks=all). That is worth what the topic is worth, so at
 * start every topic must have the replication factor and min.insync.replicas asked for and no unclean leader election
 * (`log-topic-unsafe`). kafkajs' idempotent producer is not used: with kill -9 of the broker under load it lost
 * acknowledged messages and doubled others, plain acks=all lost none. Repeats are dropped by crash id.
 */
export async function connectKafkaLog(options: KafkaLogOptions): Promise<Log> {
  const { brokers, clientId, topics = [TOPIC_ACCEPTED, TOPIC_DEAD_LETTERS], logger, ssl, sasl } = options
  const { compression = 'zstd', sendTimeoutMs = 5_000, maxBytesInFlight = 64 * 1024 * 1024, sessionTimeoutMs = 30_000 } = options
  registerZstd()
  const kafka = new Kafka({
    clientId,
    brokers: [...brokers],
    connectionTimeout: 3_000,
    requestTimeout: Math.max(sendTimeoutMs, 5_000),
    retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: 8 },
    logCreator: () => ({ level, log }) => report(logger, level, log),
    ...(ssl === undefined ? {} : { ssl }),
    ...(sasl === undefined ? {} : { sasl }),
  })
  const admin = renewedClient(() => kafka.admin(), 2 * sendTimeoutMs)
  const consumers = new Set<LogConsumer>()
  let closing: Promise<void> | undefined

  const producer = await unreachable(`log: no Kafka at ${brokers.join(', ')}`, start)

  async function start() {
    // To make a topic may take longer than any later question.
    const first = kafka.admin()
    try {
      await first.connect()
      const known = await prepareTopics(first, { ...options, topics })
      const made = createKafkaProducer(kafka, { topics: known, compression, sendTimeoutMs, maxBytesInFlight })
      await made.connect()
      return made
    } finally {
      await first.disconnect()
    }
  }

  async function close(): Promise<void> {
    await Promise.all([...consumers].map((consumer) => consumer.stop()))
    await producer.close()
    await admin.disconnect()
  }

  const open = () => { if (closing) throw logBroken('log-closed', 'log: closed') }

  return {
    async append(topic, message) {
      open()
      return producer.append(topic, message)
    },
    async consume(consumeOptions, handle) {
      open()
      const consumer = await startKafkaConsumer({ kafka, admin, sessionTimeoutMs, logger }, consumeOptions, handle)
      consumers.add(consumer)
      return { assigned: consumer.assigned, async stop() { consumers.delete(consumer); await consumer.stop() } }
    },
    async stats(topic, confirmed) {
      open()
      return unreachable('log: Kafka does not tell its offsets', () => admin.call((client) => kafkaStats(client, topic, confirmed)))
    },
    async check() {
      open()
      producer.check()
      await withDeadline(sendTimeoutMs, unreachable('log: Kafka does not answer', () => admin.call((client) => client.fetchTopicMetadata({ topics: [...topics] }))))
    },
    close: () => (closing ??= close()),
  }
}

async function unreachable<T>(what: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    if (error instanceof Error && error.name === 'BrokenWorld') throw error
    throw logBroken('log-unreachable', `${what}: ${messageOf(error)}`, error)
  }
}

/**
 * kafkajs knows zstd by name only, and the codecs on npm don't install: node has it. Level 1, in the thread pool: what
 * a device has compressed already gets no smaller, and what it hasn't (memory is mostly zeros and pointers) gets most of it.
 */
function registerZstd(): void {
  const compress = promisify(zstdCompress)
  const decompress = promisify(zstdDecompress)
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: (encoder: { buffer: Buffer }) => compress(encoder.buffer, { params: { [constants.ZSTD_c_compressionLevel]: 1 } }),
    decompress: (buffer: Buffer) => decompress(buffer),
  })
}

/** kafkajs' own words, without the stack and the settings that it attaches. */
function report(logger: Logger | undefined, level: LogLevel, { message, error, groupId, broker }: Record<string, unknown>): void {
  const fields = { error, groupId, broker }
  if (level === logLevel.ERROR) logger?.warn(fields, `kafka: ${message}`)
  else logger?.debug(fields, `kafka: ${message}`)
}
