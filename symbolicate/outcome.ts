/**
 * Every way in which the worker can end with a message: one closed table. The slug is the log field, the metric label,
 * the reason of the dead letter and the test's name. An unreadable dump is none of these: it is a crash with a status.
 */
export const DEAD_LETTER_SLUGS = {
  'checksum-mismatch': 'The log gave back other bytes than were written: a failing disk. The bytes are kept as they are.',
  'message-undecodable': 'Not CBOR: somebody else writes to this topic, or the log was damaged.',
  'message-invalid': 'CBOR, but not an AcceptedCrash that this version knows: a newer ingest, or somebody else writes to this topic.',
  'row-refused': 'ClickHouse took the other rows of the batch and refuses this one.',
  'retention-gap': 'The log deleted messages before the worker read them: it was away for longer than the retention.',
} as const
export type DeadLetterSlug = keyof typeof DEAD_LETTER_SLUGS

/** Where it happened: in the log, while a message was decoded, while its row was written. */
export const stageOf = (slug: DeadLetterSlug): 'log' | 'decode' | 'write' => STAGES[slug]
const STAGES = {
  'checksum-mismatch': 'log', 'retention-gap': 'log', 'message-undecodable': 'decode', 'message-invalid': 'decode', 'row-refused': 'write',
} as const satisfies Record<DeadLetterSlug, 'log' | 'decode' | 'write'>

/** What became of a message: `result` of overrun_worker_events_total. */
export const RESULTS = ['written', 'duplicate', 'dead-letter', 'reprocessed', 'fact'] as const
export type Result = (typeof RESULTS)[number]

