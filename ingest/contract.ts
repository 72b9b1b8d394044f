import { decode, encode } from 'cborg'
import { z } from 'zod'

/**
 * AcceptedCrash, version 1: what ingest promises to the worker, as one CBOR map per message of `crashes.accepted`,
 * keyed by device. It is self-contained: the manifest and (up to 256 KiB) the dump are the very bytes that were signed.
 * A version 2 will stand beside this one, and both decode; kept bytes of version 1 are in test/ingest.
 *
 * Beside crashes the topic carries two facts about devices, told apart by `type` (a crash has none): Heartbeat, a device
 * that is alive on a version, and Refused, what was kept out. They share the topic for its order by device.
 */
/** In the header `overrun-contract` of each message. */
export const CONTRACT_VERSION = '1'

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'bytes expected')
const count = z.int().nonnegative()

/** How the sender proved who it is. Only the first two feed baselines and probing detection. */
export const AUTH_LEVELS = ['payload-signed', 'transport-authenticated', 'project-key'] as const
/** `counted` and `claimed` crashes feed buckets; the others are kept and shown, and stay out of every baseline. */
export const STANDINGS = ['counted', 'claimed', 'pending', 'stale-counter', 'counter-reuse'] as const
export const KEY_PROTECTIONS = ['hardware', 'software', 'unknown'] as const
export const LAYERS = ['boot', 'secure', 'kernel', 'system', 'app'] as const

export const CONTENT_TYPES = [
  'application/x-minidump', 'application/x-elf-core', 'application/x-esp-coredump', 'application/x-zephyr-coredump',
  'application/vnd.overrun.mcu+cbor', 'application/vnd.overrun.crash-storm+cbor', 'application/vnd.overrun.js-stack+json', 'text/plain',
] as const

/** The claims of wire-format.md, decoded; a claim that was not made is absent, never a default. */
export const claimsSchema = z.object({
  bootcount: count.optional(),
  seq: count.optional(),
  size: count.optional(),
  uptimeSeconds: count.optional(),
  /** Seconds since the epoch, as the device claims. */
  iat: z.number().optional(),
  hwmodel: z.string().optional(),
  swname: z.string().optional(),
  swversion: z.string().optional(),
  dbgstat: count.optional(),
  /** Lower-case hex. */
  buildId: z.string().optional(),
  encoding: z.enum(['gzip', 'zstd']).optional(),
  resetReason: z.string().optional(),
  compartment: z.string().optional(),
  layer: z.enum(LAYERS).optional(),
  svn: count.optional(),
  process: z.string().optional(),
  lastInputAgeMs: count.optional(),
  /** Dotted IPv4, RFC 5952 IPv6, or `h:` and the hex of a salted hash. */
  peer: z.string().optional(),
  listenerPort: count.optional(),
  /** Lower-case hex of the fingerprint claim. */
  fingerprint: z.string().optional(),
})
export type Claims = z.infer<typeof claimsSchema>

const acceptedCrashSchema = z.object({
  v: z.literal(1),
  /** 32 hex digits, wire-format.md "Freshness without a clock". */
  id: z.string().regex(/^[0-9a-f]{32}$/),
  fleet: z.string(),
  /** Server receive time, ms since the epoch: the authority. */
  receivedAt: count,
  /**
   * iat clamped to [this device key's previous event, receivedAt], and to at most 400 days before receivedAt; else
   * receivedAt; ms. Decided here, so a re-read of the log decides the same.
   */
  eventTime: count,
  authLevel: z.enum(AUTH_LEVELS),
  standing: z.enum(STANDINGS),
  /** What people and detectors count: from the chain by the fleet's policy; for unsigned reports `source:` and a hash. */
  deviceId: z.string(),
  /** SHA-256 of the leaf's SubjectPublicKeyInfo, hex: the replay domain. Absent where no certificate was shown. */
  deviceKeyId: z.string().optional(),
  /** Which life of the device's counters these are: the number of the event that began it (`overrun device rebase`); absent: the first. */
  epoch: count.optional(),
  /** Subject of the leaf's issuer, RFC 4514. */
  issuer: z.string().optional(),
  /** SHA-256 of the anchor certificate, hex. */
  anchor: z.string().optional(),
  keyProtection: z.enum(KEY_PROTECTIONS),
  /** Marks that people should see beside the crash, such as `certificate-expired`. */
  flags: z.array(z.string()),
  /** Network the report came from: the /24 or /48 of the peer address. */
  source: z.string(),
  contentType: z.enum(CONTENT_TYPES),
  /** SHA-256 of the dump as transmitted, hex. */
  digest: z.string(),
  /** Bytes of the dump as transmitted. */
  size: count,
  claims: claimsSchema,
  /** Unsigned annotations of a multipart upload; at most 64 of 256 characters each. */
  annotations: z.record(z.string(), z.string()),
  /** The COSE_Sign1 item, byte for byte. */
  manifest: bytes.optional(),
  dump: z.union([z.object({ bytes }), z.object({ blob: z.string() })]),
  /**
   * Id of the crash whose fingerprint this one names (offer.ts); with fresh counters its standing is `claimed`. Its own
   * dump stayed on the device: `dump` is empty, while `digest` and `size` are what the manifest signs.
   */
  claimedOf: z.string().regex(/^[0-9a-f]{32}$/).optional(),
})
export type AcceptedCrash = z.infer<typeof acceptedCrashSchema>

const heartbeatSchema = z.object({
  v: z.literal(1),
  type: z.literal('heartbeat'),
  fleet: z.string(),
  receivedAt: count,
  authLevel: z.enum(AUTH_LEVELS),
  /** Only `counted` ones say that a device is alive: an older counter may be a replay, and a pending device may be anybody's. */
  standing: z.enum(['counted', 'pending', 'stale-counter']),
  deviceId: z.string(),
  deviceKeyId: z.string(),
  claims: claimsSchema,
})
export type Heartbeat = z.infer<typeof heartbeatSchema>

/** What keeps a proven sender out, and is counted: its quotas, and that it was shut out. */
export const REFUSED_SLUGS = ['quota-device', 'quota-issuer', 'quota-fleet', 'device-revoked', 'device-disabled', 'issuer-disabled', 'certificate-revoked'] as const

/** Reports of one device that were kept out, between two times. The id makes a repeated message one fact. */
const refusedSchema = z.object({
  v: z.literal(1),
  type: z.literal('refused'),
  id: z.string().regex(/^[0-9a-f]{32}$/),
  fleet: z.string(),
  /** Empty for all devices that found no room in the summary. */
  deviceId: z.string(),
  slug: z.enum(REFUSED_SLUGS),
  firstAt: count,
  lastAt: count,
  reports: count,
  /** SHA-256 of the dumps as signed, hex, and how many reports had each; those of a longer list are in `reports` alone. */
  digests: z.array(z.object({ digest: z.string(), reports: count })),
})
export type Refused = z.infer<typeof refusedSchema>

export const encodeAcceptedCrash = (crash: AcceptedCrash): Uint8Array => encode(withoutUndefined({ ...crash, claims: withoutUndefined(crash.claims) }))
export const encodeHeartbeat = (heartbeat: Heartbeat): Uint8Array => encode({ ...heartbeat, claims: withoutUndefined(heartbeat.claims) })
export const encodeRefused = (refused: Refused): Uint8Array => encode(refused)

/** Unknown at the edge, exact inside: a message that is none of these is a dead letter with this reason. */
export type Decoded = { crash: AcceptedCrash } | { heartbeat: Heartbeat } | { refused: Refused } | { slug: 'message-undecodable' | 'message-invalid'; reason: string }

export function decodeMessage(message: Uint8Array): Decoded {
  let value: unknown
  try {
    value = decode(message)
  } catch (error) {
    return { slug: 'message-undecodable', reason: `log message: not CBOR: ${error instanceof Error ? error.message : String(error)}` }
  }
  switch (typeOf(value)) {
    case 'heartbeat': return checked(heartbeatSchema.safeParse(value), (heartbeat) => ({ heartbeat }))
    case 'refused': return checked(refusedSchema.safeParse(value), (refused) => ({ refused }))
    default: return checked(acceptedCrashSchema.safeParse(value), (crash) => ({ crash }))
  }
}

const typeOf = (value: unknown): unknown => (typeof value === 'object' && value !== null && 'type' in value ? value.type : undefined)

function checked<T>(parsed: z.ZodSafeParseResult<T>, named: (data: T) => Decoded): Decoded {
  if (parsed.success) return named(parsed.data)
  const issue = parsed.error.issues[0]
  return { slug: 'message-invalid', reason: `log message: ${issue?.path.join('.') || 'value'}: ${issue?.message}` }
}

/** CBOR has `undefined` and JSON has not: an absent field is left out. Only the message and its claims have optional fields. */
function withoutUndefined<T extends object>(fields: T): T {
  const kept = { ...fields }
  for (const name in kept) if (kept[name] === undefined) delete kept[name]
  return kept
}
