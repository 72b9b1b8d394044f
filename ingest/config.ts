import { z } from 'zod'

/**
 * Every setting of ingest, with its default. Sizes in bytes, times in milliseconds, rates per minute.
 * The quotas suit devices that crash now and then and tell about it; a fleet that batches behind one gateway raises
 * the source's, a load test raises all of them.
 */
const bytes = z.int().positive()
const ms = z.int().positive()
const rate = z.number().positive()

export const limitsSchema = z.object({
  dumpBytes: bytes.default(32 * 1024 * 1024).describe('Largest dump in one request'),
  inlineBytes: bytes.default(256 * 1024).describe('Largest dump that rides in the log message; larger ones go to the blob store first'),
  inflatedBytes: bytes.default(64 * 1024 * 1024).describe('Most bytes that the gzip body of a multipart upload may inflate to'),
  bytesInFlight: bytes.default(128 * 1024 * 1024).describe('Bytes of dumps held in memory at once; above it new ones get 503'),
  chainsCached: z.int().positive().default(10_000).describe('Verified certificate chains remembered, about 4 KB each'),
  connections: z.int().positive().default(10_000).describe('Most open connections'),
  headersMs: ms.default(15_000).describe('Time for a request line and its headers'),
  manifestMs: ms.default(10_000).describe('Time for the whole manifest, once the headers are there'),
  idleMs: ms.default(15_000).describe('Longest silence inside a body'),
  bytesPerSecond: bytes.default(1024).describe('Slowest average at which a dump may trickle in'),
  tarpitMs: ms.default(1_000).describe('How long an address or a network that has failed too often waits for its 429'),
  lingerBytes: bytes.default(1024 * 1024).describe('Bytes of an unwanted body that are read and dropped, so that its sender gets to see the answer'),
  lingerMs: ms.default(2_000).describe('Time for the same'),
})

export const uploadsSchema = z.object({
  dumpBytes: bytes.default(256 * 1024 * 1024).describe('Largest dump of a resumable upload'),
  most: z.int().positive().default(1_000).describe('Resumable uploads under way'),
  perDevice: z.int().positive().default(4).describe('Resumable uploads under way of one device'),
  bytes: bytes.default(8 * 1024 * 1024 * 1024).describe('Bytes of disk that the dumps of all resumable uploads under way may need'),
  expiryMs: ms.default(24 * 60 * 60 * 1000).describe('Time for a whole resumable upload'),
})

export const quotasSchema = z.object({
  devicePerMinute: rate.default(30).describe('Reports of one device, sustained; charged only after its signature is good'),
  deviceBurst: rate.default(120).describe('Reports of one device at once'),
  issuerPerMinute: rate.default(60_000).describe('Reports of all devices under one issuer, sustained'),
  issuerBurst: rate.default(150_000).describe('Reports of all devices under one issuer at once'),
  fleetPerMinute: rate.default(120_000).describe('Reports of one fleet, sustained'),
  fleetBurst: rate.default(300_000).describe('Reports of one fleet at once'),
  addressFailuresPerMinute: rate.default(60).describe('Refused requests of one address (IPv6: /64), sustained'),
  addressFailureBurst: rate.default(300).describe('Refused requests of one address at once; beyond it the address gets 429'),
  sourceFailuresPerMinute: rate.default(600).describe('Refused requests of one network (/24 or /48), sustained'),
  sourceFailureBurst: rate.default(3_000).describe('Refused requests of one network at once; beyond it addresses of it that have proven nothing get 429'),
  uploadsPerMinute: rate.default(60).describe('Unsigned uploads of one network, sustained'),
  uploadBurst: rate.default(300).describe('Unsigned uploads of one network at once'),
  tracked: z.int().positive().default(100_000).describe('Devices and networks remembered; the least recently seen are forgotten first'),
  summaryMs: ms.default(10_000).describe('How often what a quota kept out is written to the log'),
})

const network = z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()])

export const tlsSchema = z.object({
  certificate: z.string().min(1).describe('File with the certificate of the listener and its issuers, PEM; with it the listener speaks TLS only'),
  key: z.string().min(1).describe('File with its private key, PEM'),
})

export const ingestSettingsSchema = z.object({
  host: z.string().default('127.0.0.1').describe('Address that devices reach'),
  port: z.int().min(0).max(65_535).default(4680).describe('Port that devices reach; 0 is any free one'),
  tls: tlsSchema.optional(),
  proxies: z.array(network).default([]).describe('Addresses or networks of proxies whose Client-Cert and X-Forwarded-For are believed'),
  appendMs: ms.default(10_000).describe('Deadline of the log; past it the device gets 503 and sends again'),
  retryAfterSeconds: z.int().positive().default(5).describe('Retry-After of a 503'),
  registryIntervalMs: ms.default(2_000).describe('How often anchors, fleet settings and device states are read again'),
  knownDays: z.number().positive().default(7).describe('Days for which an offered crash with a known fingerprint needs no dump of its own'),
  limits: limitsSchema.prefault({}),
  uploads: uploadsSchema.prefault({}),
  quotas: quotasSchema.prefault({}),
})

export type IngestSettings = z.infer<typeof ingestSettingsSchema>
export type Limits = IngestSettings['limits']
export type UploadLimits = IngestSettings['uploads']
export type Quotas = IngestSettings['quotas']
