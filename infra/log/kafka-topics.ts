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
    // The broker's clock, not a sender's: age, lag and retention then mean the same for every sender.
    'message.timestamp.type': 'LogAppendTime',
  }).map(([name, value]) => ({ name, value: String(value) }))
  if (missing.length > 0) {
    await admin.createTopics({
      waitForLeaders: true,
      topics: missing.map((topic) => ({ topic, numPartitions: partitions, replicationFactor: replicas, configEntries })),
    })
  }
  return checkTopics(admin, { topics, replicas, insync, logger })
}

async function checkTopics(
  admin: Admin,
  { topics, replicas, insync, logger }: { topics: readonly string[]; replicas: number; insync: number; logger: Logger | undefined },
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
    known.set(name, { partitions: partitions.length, maxMessageBytes: Number(setting('max.message.bytes')) })
  }
  return known
}

const unsafe = (topic: string, what: string) => logBroken('log-topic-unsafe',
  `log: Kafka topic ${topic}: ${what}, or an acknowledged crash can be lost. Change the topic, or allow a single broker explicitly`)
