import kafkajs, { type Kafka } from 'kafkajs'
import { messageOf } from '../service/errors.ts'
import { renewedClient } from './kafka-client.ts'
import type { KnownTopic } from './kafka-topics.ts'
import type { LogMessage, LogPosition } from './log.ts'
import { logBroken } from './outcome.ts'
import { partitionOf } from './partition.ts'

/**
 * Appends in micro-batches: while a send is on its way the next messages gather, so one lone message leaves at once and
 * a thousand waiting ones leave together. One send at a time keeps the order of a key also for appends that weren't
 * awaited. kafkajs puts all messages of a send to one partition into one record batch, which must stay below the
 * topic's max.message.bytes.
 *
 * Every append has its own deadline: after a broker died a send of kafkajs hangs until its retries are spent, and the
 * device must have its 503 long before. The message may still arrive: the sender repeats it, the reader drops repeats.
 */
export type Compression = 'none' | 'zstd'
export interface ProducerOptions { topics: ReadonlyMap<string, KnownTopic>; compression: Compression; sendTimeoutMs: number; maxBytesInFlight: number }

/** Offset and length fields, timestamps and attributes of a record and its batch: more than Kafka ever spends. */
const RECORD_OVERHEAD = 64
const BATCH_OVERHEAD = 1_024
/** Of all partitions together: what is lost time for everybody when one send hangs. */
const MAX_SEND_BYTES = 4 * 1024 * 1024

/** kafkajs itself gives a send up after its retries, 17 s after a broker died; what takes longer was lost by it. */
const LONGEST_SEND_MS = 30_000

const CODECS = { none: kafkajs.CompressionTypes.None, zstd: kafkajs.CompressionTypes.ZSTD } as const satisfies Record<Compression, number>

interface Pending {
  topic: string
  partition: number
  message: LogMessage
  bytes: number
  settled: boolean
  resolve(position: LogPosition): void
  reject(error: unknown): void
}

export function createKafkaProducer(kafka: Kafka, { topics, compression, sendTimeoutMs, maxBytesInFlight }: ProducerOptions) {
  const producer = renewedClient(() => kafka.producer({
    idempotent: false,
    allowAutoTopicCreation: false,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
  }), Math.max(LONGEST_SEND_MS, 4 * sendTimeoutMs))
  const maxBatchBytes = Math.min(...[...topics.values()].map(({ maxMessageBytes }) => maxMessageBytes)) - BATCH_OVERHEAD
  let queue: Pending[] = []
  let bytesInFlight = 0
  let closed = false
  let running: Promise<void> | undefined

  function append(topic: string, message: LogMessage): Promise<LogPosition> {
    const known = topics.get(topic)
    if (!known) throw new Error(`log: ${topic} was not named when Kafka was connected`)
    const bytes = sizeOf(message)
    if (closed) throw logBroken('log-closed', 'log: closed')
    if (bytes > maxBatchBytes) throw logBroken('log-message-too-large', `log: a message of ${bytes} bytes, ${topic} takes ${maxBatchBytes}`)
    if (bytesInFlight > 0 && bytesInFlight + bytes > maxBytesInFlight) {
      throw logBroken('log-overloaded', `log: ${bytesInFlight} bytes wait for Kafka, the limit is ${maxBytesInFlight}`)
    }
    bytesInFlight += bytes
    return new Promise((resolve, reject) => {
      const settle = <T>(how: (value: T) => void) => (value: T) => {
        if (pending.settled) return
        pending.settled = true
        clearTimeout(timer)
        how(value)
      }
      const pending: Pending = {
        topic, message, bytes, settled: false, partition: partitionOf(message.key, known.partitions), resolve: settle(resolve), reject: settle(reject),
      }
      const timer = setTimeout(() => pending.reject(logBroken('log-timeout', `log: Kafka has not acknowledged within ${sendTimeoutMs} ms`)), sendTimeoutMs)
      queue.push(pending)
      wake()
    })
  }

  function wake(): void {
    running ??= new Promise<void>((resolve) => setImmediate(resolve)).then(run).finally(() => {
      running = undefined
      if (queue.length > 0) wake()
    })
  }

  async function run(): Promise<void> {
    while (queue.length > 0) await send(takeBatch())
  }

  /** What fits into one send; what was given up while it waited is not sent at all. */
  function takeBatch(): Pending[] {
    const batch: Pending[] = []
    const perPartition = new Map<string, number>()
    let bytes = 0
    let count = 0
    for (const pending of queue) {
      const place = `${pending.topic}/${pending.partition}`
      const placeBytes = (perPartition.get(place) ?? 0) + pending.bytes
      if (!pending.settled && (placeBytes > maxBatchBytes || bytes + pending.bytes > MAX_SEND_BYTES)) break
      count++
      if (pending.settled) {
        bytesInFlight -= pending.bytes
        continue
      }
      bytes += pending.bytes
      perPartition.set(place, placeBytes)
      batch.push(pending)
    }
    queue = queue.slice(count)
    return batch
  }

  async function send(batch: readonly Pending[]): Promise<void> {
    if (batch.length === 0) return
    try {
      const byTopic = Map.groupBy(batch, ({ topic }) => topic)
      const topicMessages = [...byTopic].map(([topic, members]) => ({
        topic,
        messages: members.map(({ partition, message: { key, value, headers } }) =>
          ({ partition, key, value: Buffer.from(value.buffer, value.byteOffset, value.byteLength), ...(headers ? { headers } : {}) })),
      }))
      const acknowledged = await producer.call((client) => client.sendBatch({ acks: -1, timeout: sendTimeoutMs, compression: CODECS[compression], topicMessages }))
      const next = new Map(acknowledged.map(({ topicName, partition, baseOffset }) => [`${topicName}/${partition}`, Number(baseOffset)]))
      for (const { topic, partition, resolve } of batch) {
        const place = `${topic}/${partition}`
        const offset = next.get(place)!
        next.set(place, offset + 1)
        resolve({ partition, offset })
      }
    } catch (error) {
      for (const { reject } of batch) reject(logBroken('log-write-failed', `log: Kafka has not acknowledged: ${messageOf(error)}`, error))
    } finally {
      for (const { bytes } of batch) bytesInFlight -= bytes
    }
  }

  return {
    connect: () => producer.call(() => Promise.resolve()),
    append,
    check(): void {
      if (bytesInFlight >= maxBytesInFlight) throw logBroken('log-overloaded', `log: ${bytesInFlight} bytes wait for Kafka`)
    },
    async close(): Promise<void> {
      closed = true
      while (running) await running
      await producer.disconnect()
    },
  }
}

function sizeOf({ key, value, headers = {} }: LogMessage): number {
  let bytes = RECORD_OVERHEAD + Buffer.byteLength(key) + value.byteLength
  for (const [name, text] of Object.entries(headers)) bytes += 10 + Buffer.byteLength(name) + Buffer.byteLength(text)
  return bytes
}
