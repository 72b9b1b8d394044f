import { z } from 'zod'

/** What the API takes and answers where people keep the installation in order: dead letters, the archive, devices to forget. */
const count = z.int().nonnegative()

export const REPLAY_REASONS = ['message-undecodable', 'message-invalid', 'row-refused'] as const
/** Either some letters by id, or all that wait, or all that wait for one reason. */
export const replayBodySchema = z.union([
  z.object({ ids: z.array(z.string().max(300)).min(1).max(1000) }).strict(),
  z.object({ all: z.literal(true), reason: z.enum(REPLAY_REASONS).optional() }).strict(),
])
export const replayedSchema = z.object({
  /** Ids of the letters that are in the log again. */
  replayed: z.array(z.string()),
  skipped: z.array(z.object({ id: z.string(), why: z.string(), words: z.string() })),
})

export const sweepBodySchema = z.object({ dry_run: z.boolean().default(false) })
const tally = z.object({ objects: count, bytes: count, keys: z.array(z.string()) })
export const sweptSchema = z.object({
  at: z.iso.datetime(),
  dry_run: z.boolean(),
  /** Dumps and packs that there are. */
  objects: count,
  /** Named by no crash and no dead letter. `keys`: the first hundred. */
  orphans: tally,
  /** Past their age. */
  aged: tally,
  /** To be removed once the log is written beyond them. */
  waiting: count,
  written_until: z.iso.datetime(),
})
export type SweptAnswer = z.infer<typeof sweptSchema>

/** `after`: the `next` of the answer before, for the rest of the work. */
export const forgetBodySchema = z.object({ reason: z.string().min(1).max(4000), after: z.string().max(600).default('') })
export const forgottenSchema = z.object({
  next: z.string().nullable(),
  packs: count,
  bytes: count,
  dumps: count,
  rows: z.record(z.string(), count),
})
export type ForgottenAnswer = z.infer<typeof forgottenSchema>
