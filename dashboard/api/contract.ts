import { z } from 'zod'
import { reportSchema } from './report-contract.ts'

/**
 * What the dashboard's API answers, for the web pages and everybody else; requests.ts says what it takes. The OpenAPI
 * document is made from both.
 * Names are the words of the contracts and of the SQL columns. Times are ISO 8601 in UTC, addresses 0x-hex, counts numbers.
 * What a fleet is, stands in fleet-contract.ts, what a dump said in report-contract.ts. They import nothing but zod, so that pages may import them too.
 */
const time = z.iso.datetime()
const count = z.int().nonnegative()
const address = z.string().regex(/^0x[0-9a-f]+$/).nullable()
const claimed = count.nullable()
const note = z.object({ slug: z.string(), text: z.string() })
const evidenceClass = z.int().min(0).max(4)

/** A series without holes: value i belongs to [from + i * step_seconds, from + (i + 1) * step_seconds). */
export const seriesSchema = z.object({ from: time, step_seconds: count, crashes: z.array(count), devices: z.array(count) })
export type Series = z.infer<typeof seriesSchema>

const change = z.object({ now: count, before: count })
/** `next` is the cursor of the next page, or null at the end. `as_of` is the story's clock when the question was asked. */
const page = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item), next: z.string().nullable(), as_of: time })

// ---- errors (RFC 9457) ----
export const PROBLEMS = {
  'not-authenticated': { status: 401, title: 'Sign in first', hint: 'Send the token printed at start as "Authorization: Bearer TOKEN", or sign in on the page.' },
  'wrong-token': { status: 401, title: 'That is not the token', hint: 'The token is printed when the dashboard starts.' },
  'too-many-logins': { status: 429, title: 'Too many failed sign-ins', hint: 'Wait a minute and try again.' },
  'cross-site': { status: 403, title: 'The request comes from another site', hint: 'Use the page itself, or a bearer token.' },
  'not-found': { status: 404, title: 'There is no such thing', hint: 'It may belong to another fleet: add ?fleet=NAME.' },
  'invalid-request': { status: 400, title: 'The request is not understood', hint: 'The description of every route is at /docs.' },
  'cursor-invalid': { status: 400, title: 'The cursor is not one of ours', hint: 'Start again without a cursor.' },
  'merge-cycle': { status: 409, title: 'The bucket would end up inside itself', hint: 'Unmerge the other bucket first.' },
  'anchor-refused': { status: 422, title: 'The certificate can not be an anchor', hint: 'Give one CA certificate in PEM with a P-256, P-384 or Ed25519 key.' },
  'anchor-unproven': { status: 422, title: 'The signature does not prove that the CA key is at hand', hint: 'Sign the challenge as it was given, within a day: overrun fleet anchor-challenge' },
  'crl-refused': { status: 422, title: 'The revocation list can not be used', hint: 'Give one full list in PEM, signed by an anchor of the fleet or by the issuer that you give with it.' },
  'symbols-refused': { status: 422, title: 'The symbol file can not be used', hint: 'Check it with: overrun symbols check FILE' },
  'too-large': { status: 413, title: 'The request is too large', hint: 'Split it or raise the limit in the settings.' },
  'media-type': { status: 415, title: 'The content type is not accepted here', hint: 'Send JSON, or application/octet-stream for symbols.' },
  'bytes-missing': { status: 410, title: 'The original bytes are no longer kept', hint: 'Retention has removed them.' },
  'log-missing': { status: 409, title: 'This dashboard has no log', hint: 'Give it the log settings of the workers (log.kafka).' },
  'unavailable': { status: 503, title: 'ClickHouse does not answer', hint: 'Nothing is lost: try again in a few seconds.' },
  'too-many-pages': { status: 503, title: 'Too many pages are open', hint: 'This page asks every 30 s instead.' },
  'internal': { status: 500, title: 'Something broke on our side', hint: 'Look for the request id in the log.' },
} as const satisfies Record<string, { status: number; title: string; hint: string }>
export type ProblemSlug = keyof typeof PROBLEMS

export const problemSchema = z.object({
  type: z.enum(Object.keys(PROBLEMS) as [ProblemSlug, ...ProblemSlug[]]),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  hint: z.string(),
  request_id: z.string(),
})
export type Problem = z.infer<typeof problemSchema>

// ---- people's words ----
export const TRIAGE_STATES = ['new', 'investigating', 'not-a-vulnerability', 'vulnerability', 'actively-exploited', 'resolved', 'muted'] as const
export const VERDICTS = ['attack', 'bug', 'release', 'hardware', 'lab'] as const
/** `pending`: heard and kept, counted only when somebody admits it. */
export const DEVICE_STATUSES = ['active', 'disabled', 'revoked', 'pending'] as const

export const triageSchema = z.object({ state: z.enum(TRIAGE_STATES), note: z.string(), fixed_in: z.string().nullable(), at: time, actor: z.string() })
export type Triage = z.infer<typeof triageSchema>

export const verdictSchema = z.object({ verdict: z.enum(VERDICTS), note: z.string(), at: time, actor: z.string() })
export type Verdict = z.infer<typeof verdictSchema>

/** One line of the audit log. `intact`: its hash is right and it names the hash of the line before it. */
export const eventSchema = z.object({
  fleet: z.string(),
  at: time,
  number: count,
  actor: z.string(),
  kind: z.string(),
  subject: z.string(),
  body: z.record(z.string(), z.unknown()),
  prev_hash: z.string(),
  hash: z.string(),
  intact: z.boolean(),
})
export type Event = z.infer<typeof eventSchema>
export const eventsPageSchema = page(eventSchema)
export type EventsPage = z.infer<typeof eventsPageSchema>

// ---- alerts ----
export const alertSummarySchema = z.object({
  id: z.string(),
  version: count,
  /** The detector that fired, such as PRB-SPREAD. */
  pattern: z.string(),
  severity: z.string(),
  state: z.string(),
  bucket: z.string(),
  device: z.string(),
  title: z.string(),
  opened_at: time,
  updated_at: time,
  first_event: time,
  last_event: time,
  devices: count,
  crashes: count,
  /** null where the detector has no such number. */
  p_value: z.number().nullable(),
  ln_p: z.number().nullable(),
  score: z.number().nullable(),
  stratum: z.string(),
  /** Whose business it is: only `security` is a campaign. */
  queue: z.enum(['security', 'release', 'operations']),
  verdict: verdictSchema.nullable(),
})
export type AlertSummary = z.infer<typeof alertSummarySchema>
export const alertsPageSchema = page(alertSummarySchema)
export type AlertsPage = z.infer<typeof alertsPageSchema>

/** Written by the detectors as JSON into the alert's row. */
export const alertEvidenceSchema = z.object({
  /** One sentence: what happened. */
  what: z.string(),
  facts: z.array(z.object({ name: z.string(), value: z.union([z.string(), z.number()]), usual: z.union([z.string(), z.number()]).optional() })),
  for: z.array(note),
  against: z.array(note),
  unknown: z.array(z.string()),
  series: z.array(z.object({ at: z.union([z.string(), z.number()]), devices: z.number() })).optional(),
  score_terms: z.array(z.object({ name: z.string(), value: z.number() })).optional(),
  false_alarms: z.string().optional(),
  do_now: z.array(z.string()).optional(),
  /** Who should read it: security, release or operations. */
  queue: z.string().optional(),
  /** Entries of MITRE ATT&CK. */
  attack: z.array(z.object({ id: z.string(), name: z.string() })).optional(),
  /** Samples. */
  devices: z.array(z.string()).optional(),
  firmware: z.array(z.object({ swversion: z.string(), devices: z.number() })).optional(),
  sources: z.array(z.object({ source: z.string(), devices: z.number() })).optional(),
  peers: z.array(z.object({ peer: z.string(), devices: z.number() })).optional(),
  buckets: z.array(z.string()).optional(),
  first_crash_ids: z.array(z.string()).optional(),
  calm_since: z.string().nullable().optional(),
})
export type AlertEvidence = z.infer<typeof alertEvidenceSchema>

export const alertDetailSchema = alertSummarySchema.extend({
  /** null when the row's JSON is not readable; `evidence_fault` then says why. */
  evidence: alertEvidenceSchema.nullable(),
  evidence_fault: z.string().nullable(),
  /** Distinct devices and crashes of the alert's bucket or device, with the same span again before the first event. */
  strip: seriesSchema,
  query: z.string(),
  query_params: z.record(z.string(), z.unknown()),
  bucket_title: z.string().nullable(),
  /** Newest first. */
  versions: z.array(alertSummarySchema.pick({ version: true, state: true, severity: true, updated_at: true, devices: true, crashes: true, score: true })),
  history: z.array(eventSchema),
})
export type AlertDetail = z.infer<typeof alertDetailSchema>

// ---- buckets ----
export const bucketSummarySchema = z.object({
  bucket: z.string(),
  title: z.string(),
  kind: z.string(),
  evidence: evidenceClass,
  severity: z.string(),
  /** Within the asked time range; only counted and claimed crashes. */
  crashes: count,
  devices: count,
  /** Of them, devices whose crashes were payload-signed or transport-authenticated. */
  verified_devices: count,
  /** Over all time. */
  first_seen: time,
  last_seen: time,
  is_new: z.boolean(),
  sparkline: seriesSchema.omit({ devices: true }),
  provisional: z.boolean(),
  swversions: z.array(z.string()),
  compartments: z.array(z.string()),
  triage: triageSchema.nullable(),
  /** Ids of the open alerts on it. */
  alerts: z.array(z.string()),
  /** Buckets that people merged into it. */
  merged: z.array(z.string()),
})
export type BucketSummary = z.infer<typeof bucketSummarySchema>
export const bucketsPageSchema = page(bucketSummarySchema)
export type BucketsPage = z.infer<typeof bucketsPageSchema>

export const bucketDetailSchema = bucketSummarySchema.extend({
  /** The id that was asked for; it differs from `bucket` when people merged it. */
  asked_for: z.string(),
  /** Why this is one bucket. */
  signature: z.object({
    ruleset: count,
    text: z.string(),
    frames: z.array(z.string()),
    notes: z.array(z.object({ rule: z.string(), from: z.string(), to: z.string(), why: z.string() })),
  }),
  access: z.string(),
  cwe: z.array(count),
  evidence_for: z.array(note),
  evidence_against: z.array(note),
  /** The strongest crash (highest evidence, then newest): its row gave the signature and the evidence above. */
  strongest: z.string(),
  newest: z.string(),
  oldest: z.string(),
  series: seriesSchema,
  open_alerts: z.array(alertSummarySchema),
  merges: z.array(z.object({ bucket: z.string(), into: z.string(), reason: z.string(), at: time, actor: z.string() })),
  history: z.array(eventSchema),
})
export type BucketDetail = z.infer<typeof bucketDetailSchema>

export const bucketDevicesSchema = page(z.object({
  device: z.string(),
  crashes: count,
  first_seen: time,
  last_seen: time,
  swversion: z.string(),
  hwmodel: z.string(),
  auth_level: z.string(),
  key_protection: z.string(),
  source: z.string(),
  status: z.enum(DEVICE_STATUSES),
}))
export type BucketDevices = z.infer<typeof bucketDevicesSchema>

export const bucketFirmwareSchema = z.object({
  items: z.array(z.object({
    swversion: z.string(),
    devices: count,
    crashes: count,
    first_seen: time,
    last_seen: time,
    /** Devices of the fleet whose last word in the asked range was this version. */
    active_devices: count,
    fixed: z.boolean(),
  })),
  as_of: time,
})
export type BucketFirmware = z.infer<typeof bucketFirmwareSchema>

export const CORRELATION_KEYS = ['swversion', 'hwmodel', 'compartment', 'source'] as const
export const bucketCorrelationsSchema = z.object({
  items: z.array(z.object({
    key: z.enum(CORRELATION_KEYS),
    value: z.string(),
    in_bucket: count,
    bucket_total: count,
    overall: count,
    overall_total: count,
    /** Share of the bucket's crashes, and of all crashes in the range, 0 to 1. */
    share: z.number(),
    overall_share: z.number(),
    lift: z.number(),
  })),
  as_of: time,
})
export type BucketCorrelations = z.infer<typeof bucketCorrelationsSchema>

// ---- crashes ----
export const crashSummarySchema = z.object({
  id: z.string(),
  revision: count,
  event_time: time,
  received_at: time,
  device: z.string(),
  device_key: z.string(),
  issuer: z.string(),
  key_protection: z.string(),
  auth_level: z.string(),
  standing: z.string(),
  flags: z.array(z.string()),
  source: z.string(),
  bootcount: claimed,
  seq: claimed,
  uptime_s: claimed,
  hwmodel: z.string(),
  swname: z.string(),
  swversion: z.string(),
  compartment: z.string(),
  layer: z.string(),
  process: z.string(),
  reset_reason: z.string(),
  status: z.string(),
  kind: z.string(),
  access: z.string(),
  evidence: evidenceClass,
  severity: z.string(),
  address_class: z.string(),
  fault_address: address,
  pc: address,
  bucket: z.string(),
  title: z.string(),
  provisional: z.boolean(),
})
export type CrashSummary = z.infer<typeof crashSummarySchema>
export const crashesPageSchema = page(crashSummarySchema)
export type CrashesPage = z.infer<typeof crashesPageSchema>

export const crashDetailSchema = crashSummarySchema.extend({
  fleet: z.string(),
  written_at: time,
  topic: z.string(),
  partition: count,
  offset: count,
  anchor: z.string(),
  build_id: z.string(),
  svn: claimed,
  last_input_age_ms: claimed,
  peer: z.string(),
  listener_port: claimed,
  fingerprint: z.string(),
  /** State of the debug port, as the device claims it (EAT dbgstat). */
  dbgstat: claimed,
  annotations: z.record(z.string(), z.string()),
  content_type: z.string(),
  encoding: z.string(),
  digest: z.string(),
  size: count,
  /** What of the original bytes is kept, by length; 0 = nothing (a project-key report has no manifest). */
  dump_length: count,
  manifest_length: count,
  status_reason: z.string(),
  format: z.string(),
  os: z.string(),
  cpu: z.string(),
  cwe: z.array(count),
  evidence_for: z.array(note),
  evidence_against: z.array(note),
  sp: address,
  pattern: z.string(),
  pc_outside_modules: z.boolean(),
  ruleset: count,
  signature: z.string(),
  signature_frames: z.array(z.string()),
  signature_notes: z.array(z.object({ rule: z.string(), from: z.string(), to: z.string(), why: z.string() })),
  missing_symbols: z.array(z.object({ debug_file: z.string(), debug_id: z.string(), code_id: z.string() })),
  report: reportSchema.nullable(),
  /** Why `report` is null. */
  report_fault: z.string().nullable(),
  device_status: z.enum(DEVICE_STATUSES),
  /** Neighbours in the bucket, in time. */
  previous: z.string().nullable(),
  next: z.string().nullable(),
})
export type CrashDetail = z.infer<typeof crashDetailSchema>

// ---- devices ----
/** Reports that a quota kept out, or that came from a device that was shut out, between two times; `device` is empty for all that found no room in the summary. */
export const refusalSchema = z.object({
  id: z.string(),
  device: z.string(),
  slug: z.enum(['quota-device', 'quota-issuer', 'quota-fleet', 'device-revoked', 'device-disabled', 'issuer-disabled', 'certificate-revoked']),
  first_at: time,
  last_at: time,
  reports: count,
  /** SHA-256 of the dumps as signed, and how many reports had each; those of a longer list are in `reports` alone. */
  digests: z.array(z.object({ digest: z.string(), reports: count })),
})
export type StoredRefusal = z.infer<typeof refusalSchema>
export const refusalsPageSchema = page(refusalSchema)
export type RefusalsPage = z.infer<typeof refusalsPageSchema>

const deviceStatusOf = z.object({ status: z.enum(DEVICE_STATUSES), reason: z.string(), at: time.nullable(), actor: z.string().nullable() })
export const deviceSummarySchema = z.object({
  device: z.string(),
  first_seen: time,
  last_seen: time,
  hwmodel: z.string(),
  swversion: z.string(),
  auth_level: z.string(),
  /** More than one: renewed, or a credential of two devices. */
  device_keys: count,
  /** Within the asked time range. */
  crashes: count,
  buckets: count,
  evidence: evidenceClass,
  status: z.enum(DEVICE_STATUSES),
  alerts: z.array(z.string()),
})
export type DeviceSummary = z.infer<typeof deviceSummarySchema>
export const devicesPageSchema = page(deviceSummarySchema)
export type DevicesPage = z.infer<typeof devicesPageSchema>

export const deviceDetailSchema = deviceSummarySchema.extend({
  registry: deviceStatusOf,
  credentials: z.array(z.object({
    device_key: z.string(),
    issuer: z.string(),
    anchor: z.string(),
    key_protection: z.string(),
    auth_level: z.string(),
    first_seen: time,
    last_seen: time,
    crashes: count,
    flags: z.array(z.string()),
    /** Other devices that were seen with the same key: a clone alarm. */
    shared_with: z.array(z.string()),
  })),
  versions: z.array(z.object({ swversion: z.string(), first_seen: time, last_seen: time, crashes: count })),
  /** What was kept out, newest first, at most 100. */
  refusals: z.array(refusalSchema),
  /** Newest first, at most 500. */
  timeline: z.array(crashSummarySchema),
  open_alerts: z.array(alertSummarySchema),
  history: z.array(eventSchema),
})
export type DeviceDetail = z.infer<typeof deviceDetailSchema>

// ---- symbols and dead letters ----
export const missingSymbolsSchema = z.object({
  items: z.array(z.object({
    debug_file: z.string(),
    debug_id: z.string(),
    code_id: z.string(),
    crashes: count,
    devices: count,
    buckets: count,
    swversions: z.array(z.string()),
    first_seen: time,
    last_seen: time,
  })),
  as_of: time,
})
export type MissingSymbols = z.infer<typeof missingSymbolsSchema>

export const symbolsStoredSchema = z.object({ key: z.string(), debug_id: z.string(), debug_file: z.string(), reprocessing: z.boolean() })
export type SymbolsStored = z.infer<typeof symbolsStoredSchema>

export const deadLettersPageSchema = page(z.object({
  /** topic/partition/offset: what `overrun dead-letters replay` takes. */
  id: z.string(),
  topic: z.string(),
  partition: count,
  offset: count,
  at: time,
  stage: z.string(),
  slug: z.string(),
  reason: z.string(),
  key: z.string(),
  message_length: count,
  /** The first 256 bytes in hex. */
  message_head: z.string(),
  /** When it was put back into the log; null while it waits. */
  replayed_at: time.nullable(),
  /** The letter that was put back and came to this; empty for a first one. */
  replay_of: z.string(),
}))
export type DeadLettersPage = z.infer<typeof deadLettersPageSchema>

// ---- overview, whoami ----
export const overviewSchema = z.object({
  fleet: z.string(),
  as_of: time,
  /** This hour and the 23 before it, against the day before up to the same minute. */
  crashes: change,
  devices: change,
  new_buckets: change,
  dead_letters: change,
  /** What the log deleted before it was read, found in the last 14 days; null when nothing was. */
  lost_messages: z.object({ messages: count, partitions: count, lost_after: time.nullable(), lost_before: time, seen_at: time }).nullable(),
  /** Of the security queue, as are `top_alerts`. */
  open_alerts: count,
  unsymbolicated: z.object({ crashes: count, devices: count, modules: count }),
  /** Crashes of the 24 hours up to this one by evidence class, 0 to 4. */
  by_evidence: z.array(count).length(5),
  /** Hourly, the last 48 h. */
  series: seriesSchema,
  top_alerts: z.array(alertSummarySchema),
  newest_buckets: z.array(bucketSummarySchema),
})
export type Overview = z.infer<typeof overviewSchema>

export const whoamiSchema = z.object({
  actor: z.string(),
  auth: z.enum(['bearer', 'session']),
  /** The fleet that is meant when a request names none. */
  fleet: z.string(),
  fleets: z.array(z.string()),
  version: z.string(),
  as_of: time,
})
export type Whoami = z.infer<typeof whoamiSchema>

/** What GET /api/v1/stream sends as `data`: a hint to ask again, never the data itself. */
export const hintSchema = z.object({ type: z.enum(['alert', 'bucket', 'event']), id: z.string() })
export type Hint = z.infer<typeof hintSchema>
