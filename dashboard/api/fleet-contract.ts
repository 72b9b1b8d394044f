import { z } from 'zod'

/**
 * What people have said of a fleet: its settings, the CAs that it trusts, what these took back, and its inventory. Names and
 * forms are those of contract.ts.
 */
const time = z.iso.datetime()
const count = z.int().nonnegative()
export const keyProtection = z.enum(['hardware', 'software', 'unknown'])
export const ISSUER_STATUSES = ['active', 'disabled'] as const

const tau = z.number().gt(0).lt(1)
/** Ingest and the detectors read these too (event `fleet.settings`); what is absent keeps its default. */
export const fleetSettingsSchema = z.object({
  /** What a device is that nobody has decided about. Those that are known when it becomes `pending` are admitted. */
  first_sight: z.enum(['active', 'pending']).optional(),
  /** Compartments that face the network. */
  net_facing: z.array(z.string().max(256)).max(256).optional(),
  /** Days after its end that a device certificate is still accepted, flagged. */
  expired_leaf_days: z.int().min(0).max(3650).optional(),
  /** Whether unsigned multipart uploads are taken, and under which keys. */
  project_key_uploads: z.boolean().optional(),
  project_keys: z.array(z.string().min(8).max(128)).max(64).optional(),
  /** Gateways that vouch for the devices behind them: name to the SHA-256 of the token. */
  gateways: z.record(z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/), z.string().regex(/^[0-9a-f]{64}$/)).optional(),
  /** Extended key usages (OIDs) of which a device certificate must have one. */
  eku: z.union([z.literal('any'), z.array(z.string().regex(/^\d+(\.\d+)+$/)).min(1).max(32)]).optional(),
  /** Whether each issuer on a device's path needs a revocation list that is current. */
  crl: z.enum(['if-there', 'required']).optional(),
  /** Thresholds of PRB-SPREAD. */
  spread_tau: z.object({ 'E4-net': tau, 'E3-net': tau, 'E34-inside': tau, rest: tau, release: tau }).partial().optional(),
})
export type FleetSettings = z.infer<typeof fleetSettingsSchema>

export const anchorSchema = z.object({
  sha256: z.string(),
  pem: z.string(),
  key_protection: keyProtection,
  subject: z.string(),
  algorithm: z.string(),
  not_before: time,
  not_after: time,
  added_at: time,
  actor: z.string(),
  /** Whether whoever added it has shown that the CA's key is at hand. */
  proven: z.boolean(),
  /** Goes before its devices' names, where manufacturers number alike; null: nothing does. */
  scope: z.string().nullable(),
})
/** The token is told this once. */
export const gatewaySchema = z.object({ name: z.string(), token: z.string() })
export const crlSchema = z.object({
  /** `crl:` and the SHA-256 of the CA's public key. */
  subject: z.string(),
  issuer: z.string(),
  number: z.string(),
  this_update: time,
  next_update: time,
  /** How many certificates it takes back. */
  revoked: count,
  imported_at: time,
  actor: z.string(),
})
export const issuerSchema = z.object({ issuer: z.string(), status: z.enum(ISSUER_STATUSES), reason: z.string(), at: time, actor: z.string() })
export const fleetSchema = z.object({
  fleet: z.string(), settings: fleetSettingsSchema, anchors: z.array(anchorSchema), crls: z.array(crlSchema), issuers: z.array(issuerSchema), as_of: time,
})
export const challengeSchema = z.object({
  sha256: z.string(),
  /** To be signed byte for byte with the CA's key, within a day. */
  challenge: z.string(),
  /** The command that does it where the key is. */
  command: z.string(),
})
export type Fleet = z.infer<typeof fleetSchema>

export const inventoryStoredSchema = z.object({ devices: count })
