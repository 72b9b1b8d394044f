import kafkajs, { type Admin } from 'kafkajs'
import type { Logger } from '../service/logger.ts'
import { logBroken } from './outcome.ts'

const { ConfigResourceTypes } = kafkajs

export interface TopicOptions {
  topics: readonly string[]
  partitions?: number
  replicationFactor?: number
  minInsyncReplicas?: number
  allowSingleBroker?: boolean
  retention: { bytes: number; ageMs: number }
  logger?: Logger
}

export interface KnownTopic { partitions: number; maxMessageBytes: number }

/** Room for the largest message that ingest makes (256 KiB of dump and its manifest) many times over, and for a full batch. */
const MAX_MESSAGE_BYTES = 1_048_588
/** Below it ingest's largest message would be refused for ever: 256 KiB of dump, 8 KiB of manifest, claims and annotations. */
const LEAST_MESSAGE_BYTES = 384 * 1024

/** Makes the topics that are missing; throws `log-topic-unsafe` when one doesn't hold what acks=all is supposed to mean. */
export async function prepareTopics(admin: Admin, options: TopicOptions): Promise<Map<string, KnownTopic>> {
  const { topics, partitions = 6, replicationFactor = 3, minInsyncReplicas = 2, allowSingleBroker = false, retention, logger } = options
  const replicas = allowSingleBroker ? 1 : replicationFactor
  const insync = allowSingleBroker ? 1 : minInsyncReplicas
  if (allowSingleBroker) logger?.warn({ topics }, 'a single Kafka broker is allowed: every crash is kept once, and a lost disk loses it')

  const existing = new Set(await admin.listTopics())
  const missing = topics.filter((topic) => !existing.has(topic))
  const configEntries = Object.entries({
    'min.insync.replicas': insync,
    'unclean.leader.election.enable': false,
    'cleanup.policy': 'delete',
    'retention.bytes': retention.bytes,
    'retention.ms': retention.ageMs,
    'max.message.bytes': MAX_MESSAGE_BYTES,
    // Batches are kept as they were sent; a broker that packs them anew spends its own processor on it.
    'compression.type': 'producer',
    // The broker's clock, not a sender's: age, lag and retention then mean the same for every sender.
    'message.timestamp.type': 'LogAppendTime',
  }).map(([name, value]) => ({ name, value: String(value) }))
  if (missing.length > 0) {
    await admin.createTopics({
      waitForLeaders: true,
      topics: missing.map((topic) => ({ topic, numPartitions: partitions, replicationFactor: replicas, configEntries })),
    })
  }
  return checkTopics(admin, { topics, partitions, replicas, insync, retention, logger })
}

async function checkTopics(
  admin: Admin,
  { topics, partitions: wanted, replicas, insync, retention, logger }: { topics: readonly string[]; partitions: number; replicas: number; insync: number; retention: TopicOptions['retention']; logger: Logger | undefined },
): Promise<Map<string, KnownTopic>> {
  const metadata = await admin.fetchTopicMetadata({ topics: [...topics] })
  const configs = await admin.describeConfigs({
    includeSynonyms: false,
    resources: topics.map((name) => ({ type: ConfigResourceTypes.TOPIC, name })),
  })
  const known = new Map<string, KnownTopic>()
  for (const { name, partitions } of metadata.topics) {
    const entries = configs.resources.find(({ resourceName }) => resourceName === name)?.configEntries ?? []
    const setting = (key: string) => entries.find(({ configName }) => configName === key)?.configValue
    const copies = Math.min(...partitions.map((partition) => partition.replicas.length))
    if (copies < replicas) throw unsafe(name, `replication factor is ${copies}, ${replicas} is needed`)
    if (Number(setting('min.insync.replicas')) < insync) throw unsafe(name, `min.insync.replicas is ${setting('min.insync.replicas')}, ${insync} is needed`)
    if (setting('unclean.leader.election.enable') === 'true') throw unsafe(name, 'unclean.leader.election.enable is true, false is needed')
    if (setting('cleanup.policy') !== 'delete') throw unsafe(name, `cleanup.policy is ${setting('cleanup.policy')}, delete is needed`)
    if (setting('message.timestamp.type') !== 'LogAppendTime') {
      logger?.warn({ topic: name }, 'message.timestamp.type is not LogAppendTime: the age of the log is then what senders claim')
    }
    const maxMessageBytes = Number(setting('max.message.bytes'))
    if (maxMessageBytes < LEAST_MESSAGE_BYTES) throw unsafe(name, `max.message.bytes is ${maxMessageBytes}, ${LEAST_MESSAGE_BYTES} is needed`)
    if (partitions.length !== wanted) logger?.warn({ topic: name, partitions: partitions.length, wanted }, 'the topic keeps the partitions that it has')
    for (const [key, least] of [['retention.bytes', retention.bytes], ['retention.ms', retention.ageMs]] as const) {
      const kept = Number(setting(key))
      if (kept >= 0 && kept < least) logger?.warn({ topic: name, setting: key, kept, wanted: least }, 'the topic keeps less than asked for: a worker that is away for longer loses crashes')
    }
    if (!['producer', 'zstd'].includes(setting('compression.type') ?? 'producer')) {
      logger?.warn({ topic: name, compression: setting('compression.type') }, 'compression.type is not producer: the brokers pack every batch anew')
    }
    known.set(name, { partitions: partitions.length, maxMessageBytes })
  }
  return known
}

const unsafe = (topic: string, what: string) => logBroken('log-topic-unsafe',
  `log: Kafka topic ${topic}: ${what}, or a crash can be lost. Change the topic; one copy alone has to be allowed explicitly (allowSingleBroker)`)
