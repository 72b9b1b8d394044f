import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { Merges } from '../queries/merges.ts'
import type { Release } from './releases.ts'
import type { FleetSettings } from './settings.ts'

/**
 * What a detector says, and how severe and whose business it is.
 *
 * A finding is a value computed from rows that are still there: the same rows at the same time give the same finding.
 * It isn't an alert yet. alerts.ts decides whether it opens one, worsens one, or keeps one from closing.
 */
export const PATTERNS = ['PRB-SPREAD', 'PRB-SWEEP', 'PRB-PATTERN', 'PRB-CANARY', 'PRB-REPLAY'] as const
export type Pattern = (typeof PATTERNS)[number]

export const SEVERITIES = ['info', 'low', 'medium', 'high', 'critical'] as const
export type Severity = (typeof SEVERITIES)[number]
export const worse = (a: Severity, b: Severity): Severity => (SEVERITIES.indexOf(a) >= SEVERITIES.indexOf(b) ? a : b)

/** Only `security` may wake anybody: the others are worth reading at the next coffee. */
export const QUEUES = ['security', 'release', 'operations'] as const
export type Queue = (typeof QUEUES)[number]

/** The same surprise means different things: each stratum has its own threshold (settings.ts) and its own queue. */
export const STRATA = {
  'E4-net': { queue: 'security', severity: 'high', says: 'control-flow evidence in a part that faces the network' },
  'E3-net': { queue: 'security', severity: 'high', says: 'memory corruption in a part that faces the network' },
  'E34-inside': { queue: 'security', severity: 'medium', says: 'memory corruption in a part that does not face the network' },
  rest: { queue: 'operations', severity: 'low', says: 'ordinary failures' },
  release: { queue: 'release', severity: 'low', says: 'failures that came with a new release' },
  'one-device': { queue: 'security', severity: 'high', says: 'behaviour of a single device' },
  'one-event': { queue: 'security', severity: 'high', says: 'a single crash that is enough' },
} as const satisfies Record<string, { queue: Queue; severity: Severity; says: string }>
export type Stratum = keyof typeof STRATA

/** Whose business an alert is; a stratum of another version is security's, so that nothing is hidden by an upgrade. */
export const queueOf = (stratum: string): Queue => (Object.hasOwn(STRATA, stratum) ? STRATA[stratum as Stratum].queue : 'security')
export const strataOf = (queue: Queue): Stratum[] => (Object.keys(STRATA) as Stratum[]).filter((stratum) => STRATA[stratum].queue === queue)

export interface Reason { slug: string; text: string }

/** Kept as JSON in `alerts.evidence`; the page, the webhook and the text are made from it and from nothing else. */
export interface AlertEvidence {
  queue: Queue
  /** One sentence that needs no knowledge of statistics. */
  what: string
  facts: { name: string; value: string; usual?: string }[]
  /** What speaks for an attack, and what speaks against it: computed, never boilerplate. */
  for: Reason[]
  against: Reason[]
  /** What could not be known, so that silence isn't read as an answer. */
  unknown: string[]
  /** Distinct devices per slot, every slot present. */
  series: { at: string; devices: number }[]
  score_terms: { name: string; value: number }[]
  /** How often this detector was wrong here, or that nobody has judged it yet. */
  false_alarms: string
  do_now: string[]
  attack: { id: string; name: string }[]
  /** A sample, at most SAMPLE of them. */
  devices: string[]
  firmware: { swversion: string; devices: number }[]
  sources: { source: string; devices: number }[]
  /** Networks of the last peers that the devices name. */
  peers: { peer: string; devices: number }[]
  buckets: string[]
  first_crash_ids: string[]
}
export const SAMPLE = 20

export interface Finding {
  pattern: Pattern
  fleet: string
  bucket: string
  /** Set where one device is the subject. */
  device: string
  stratum: Stratum
  severity: Severity
  title: string
  /** True: past the threshold, opens an alert. False: still past its square root, keeps an open one from closing. */
  opens: boolean
  firstEvent: number
  lastEvent: number
  devices: number
  crashes: number
  /** ln of the probability that chance alone does this; null where the rule is a count and no test. */
  lnP: number | null
  evidence: AlertEvidence
  /** The query that fired, with its parameters: what the chart draws and anybody can run again. */
  query: string
  queryParams: Record<string, unknown>
}

export interface DetectorInput {
  clickhouse: ClickHouse
  fleet: string
  /** Milliseconds of the clock that was handed in; a replay over the past gives a past one. */
  now: number
  settings: FleetSettings
  /** Firmware that is new in this fleet, newest first. */
  releases: readonly Release[]
  /** Buckets that people put together: from[i] counts as into[i]. */
  merges: Pick<Merges, 'from' | 'into'>
}

/** Every detector is one file of this shape. */
export interface Detector {
  pattern: Pattern
  /** In plain words, for people who choose what to switch on. */
  describe: string
  evaluate(input: DetectorInput): Promise<Finding[]>
}

export const scoreOf = (evidence: AlertEvidence): number => evidence.score_terms.reduce((sum, term) => sum + term.value, 0)
