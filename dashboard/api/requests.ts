import { z } from 'zod'
import { DEVICE_STATUSES, TRIAGE_STATES, VERDICTS } from './contract.ts'
import { ISSUER_STATUSES, keyProtection } from './fleet-contract.ts'

/** What may be asked of the dashboard's API (queries of GETs) and said to it (bodies of POSTs); contract.ts has the answers. */
const time = z.iso.datetime()
const fleetName = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/)
const limit = z.coerce.number().int().min(1).max(200).default(50)
const cursor = z.string().max(512).optional()
/** Half-open [from, to). Without them: the last 14 days. */
const range = { from: time.optional(), to: time.optional() }
export const scopeQuerySchema = z.object({ fleet: fleetName.optional() })
export const rangeQuerySchema = scopeQuerySchema.extend(range)
export const pageQuerySchema = rangeQuerySchema.extend({ limit, cursor })

export const BUCKET_SORTS = ['devices', 'crashes', 'last_seen', 'first_seen', 'evidence'] as const
export const bucketsQuerySchema = pageQuerySchema.extend({
  sort: z.enum(BUCKET_SORTS).default('devices'),
  /** Words in the title or the signature, upper or lower case. */
  q: z.string().max(200).optional(),
  kind: z.string().max(64).optional(),
  /** At least this evidence class. */
  evidence: z.coerce.number().int().min(0).max(4).optional(),
  swversion: z.string().max(256).optional(),
  state: z.enum(TRIAGE_STATES).optional(),
})
export type BucketsQuery = z.infer<typeof bucketsQuerySchema>

export const alertsQuerySchema = scopeQuerySchema.extend({ limit, cursor, state: z.enum(['open', 'closed', 'all']).default('all'), queue: z.enum(['security', 'release', 'operations']).optional(), pattern: z.string().max(64).optional() })
export const DEVICE_SORTS = ['crashes', 'last_seen', 'evidence'] as const
export const devicesQuerySchema = pageQuerySchema.extend({ sort: z.enum(DEVICE_SORTS).default('crashes'), q: z.string().max(200).optional(), status: z.enum(DEVICE_STATUSES).exclude(['active']).optional() })
export const refusalsQuerySchema = scopeQuerySchema.extend({ limit, cursor })
export const eventsQuerySchema = scopeQuerySchema.extend({ limit, cursor, subject: z.string().max(400).optional() })
export const DEAD_LETTER_STATES = ['waiting', 'replayed', 'all'] as const
export const deadLettersQuerySchema = z.object({ limit, cursor, state: z.enum(DEAD_LETTER_STATES).default('all') })

// ---- what may be said ----
const text = (max: number) => z.string().max(max)
export const loginBodySchema = z.object({ token: text(256) })
export const triageBodySchema = z.object({ state: z.enum(TRIAGE_STATES), note: text(4000).default(''), fixed_in: text(256).optional() })
export const mergeBodySchema = z.object({ into: z.string().regex(/^[0-9a-f]{16}$/), reason: text(4000) })
export const unmergeBodySchema = z.object({ reason: text(4000).default('') })
export const verdictBodySchema = z.object({ verdict: z.enum(VERDICTS), note: text(4000).default('') })
export const anchorBodySchema = z.object({
  pem: text(16_384),
  key_protection: keyProtection,
  scope: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/).optional(),
  /** The challenge as it was given, and its signature in base64; without them the anchor is marked as not proven. */
  proof: z.object({ challenge: text(1024), signature: text(1024) }).optional(),
})
export const challengeBodySchema = z.object({ pem: text(16_384) })
/** `issuer`: the CA that made the list, then what stands between it and its anchor, where no anchor made it. */
export const crlBodySchema = z.object({ pem: text(6 * 1024 * 1024), issuer: text(16_384).default('') })
export const issuerStatusBodySchema = z.object({ issuer: z.string().min(1).max(1024), status: z.enum(ISSUER_STATUSES), reason: text(4000) })
export const inventoryBodySchema = z.object({
  devices: z.array(z.object({ device: z.string().min(1).max(512), swversion: text(256), hwmodel: text(256), last_seen: time.optional() })).min(1).max(1000),
})
export const removeAnchorBodySchema = z.object({ reason: text(4000).default('') })
export const gatewayBodySchema = z.object({ name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/) })
export const rebaseBodySchema = z.object({ reason: text(4000) })
export const deviceStatusBodySchema = z.object({ status: z.enum(DEVICE_STATUSES), reason: text(4000) })
