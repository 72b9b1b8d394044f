import { z } from 'zod'

/** Every setting of the log, with its default. Sizes in bytes, times in milliseconds. With `kafka` it is Kafka, else a folder. */
const bytes = z.int().positive()
const ms = z.int().positive()
const secret = { secret: true }

export const saslSchema = z.object({
  mechanism: z.enum(['plain', 'scram-sha-256', 'scram-sha-512']).default('scram-sha-512').describe('How Kafka is told who we are'),
  username: z.string().min(1).describe('Name of our user'),
  password: z.string().min(1).meta({ ...secret, description: 'Password of our user' }),
})

export const kafkaSettingsSchema = z.object({
  brokers: z.array(z.string().regex(/^[^\s,:]+:\d+$|^\[[0-9a-fA-F:]+\]:\d+$/, 'host:port is expected')).min(1).describe('host:port of some brokers; the others are found through them'),
  clientId: z.string().min(1).default('overrun').describe('Name that brokers log'),
  partitions: z.int().positive().default(6).describe('Partitions of topics that are made now: the most workers that share the work'),
  replicationFactor: z.int().positive().default(3).describe('Copies that every topic must have'),
  minInsyncReplicas: z.int().positive().default(2).describe('Copies that must be there before a crash is acknowledged'),
  allowSingleBroker: z.boolean().default(false).describe('Accept one copy of everything: a lost disk is then lost crashes'),
  compression: z.enum(['zstd', 'none']).default('zstd').describe('How batches travel and are kept; readers read both'),
  sendTimeoutMs: ms.default(5_000).describe('Deadline of one append; past it the device gets 503'),
  sessionTimeoutMs: ms.default(30_000).describe('A reader that the group has not heard of for so long has lost its partitions'),
  ssl: z.boolean().default(false).describe('Whether to speak TLS'),
  caFile: z.string().optional().describe('PEM of the CA of the brokers; the system\'s when left out'),
  certFile: z.string().optional().describe('PEM of our certificate, when brokers ask for one'),
  keyFile: z.string().optional().describe('PEM of its key'),
  sasl: saslSchema.optional(),
})

export const logSettingsSchema = z.object({
  retention: z.object({
    bytes: bytes.default(8 * 2 ** 30).describe('Most bytes that a partition keeps, read or not; an existing Kafka topic keeps its own'),
    ageMs: ms.default(14 * 24 * 3_600_000).describe('How long a partition keeps an entry, read or not; an existing Kafka topic keeps its own'),
  }).prefault({}),
  maxBytesInFlight: bytes.default(64 * 2 ** 20).describe('Unacknowledged bytes above which appends are refused and devices get 503'),
  kafka: kafkaSettingsSchema.optional(),
})

export type LogSettings = z.infer<typeof logSettingsSchema>
export type KafkaSettings = z.infer<typeof kafkaSettingsSchema>
