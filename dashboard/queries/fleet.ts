import { z } from 'zod'
import { fleetSettingsSchema, type FleetSettings } from '../api/fleet-contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, parseJson } from './ask.ts'
import { readNewestEvents } from './newest-events.ts'

/** Whom does a fleet trust (anchors, revocation lists, issuers), and what are its settings? The same events that ingest polls. */
const KINDS = ['fleet.settings', 'fleet.anchor-added', 'fleet.anchor-removed', 'fleet.crl-imported', 'issuer.status'] as const
const anchorBody = z.object({ pem: z.string(), key_protection: z.enum(['hardware', 'software', 'unknown']), sha256: z.string(), proven: z.boolean().default(false), scope: z.string().nullable().default(null) })
const crlBody = z.object({ pem: z.string(), issuer: z.string(), number: z.string(), this_update: z.string(), next_update: z.string(), revoked: z.number() })
const issuerBody = z.object({ status: z.enum(['active', 'disabled']), reason: z.string().default('') })

export type StoredAnchor = z.output<typeof anchorBody> & { added_at: string; actor: string }
export type StoredCrl = z.output<typeof crlBody> & { subject: string; imported_at: string; actor: string }
export type StoredIssuer = z.output<typeof issuerBody> & { issuer: string; at: string; actor: string }
export interface FleetDecisions {
  settings: FleetSettings
  /** The settings' event as it is, with fields that this build does not know. */
  settingsBody: Record<string, unknown>
  anchors: StoredAnchor[]
  crls: StoredCrl[]
  issuers: StoredIssuer[]
}

export async function readFleet(clickhouse: ClickHouse, fleet: string): Promise<FleetDecisions> {
  const rows = await readNewestEvents(clickhouse, fleet, KINDS)
  const settingsBody = z.record(z.string(), z.unknown()).safeParse(parseJson(rows.find(({ subject }) => subject === 'fleet')?.body ?? '{}')).data ?? {}
  const those = <Body extends z.ZodType>(kind: string, body: Body) => rows.flatMap((row) => {
    const parsed = body.safeParse(parseJson(row.body))
    return row.kind === kind && parsed.success ? [{ ...row, said: parsed.data }] : []
  })
  return {
    settings: fleetSettingsSchema.safeParse(settingsBody).data ?? {},
    settingsBody,
    anchors: those('fleet.anchor-added', anchorBody).map(({ said, at, actor }) => ({ ...said, added_at: at, actor })),
    crls: those('fleet.crl-imported', crlBody).map(({ said, subject, at, actor }) => ({ ...said, subject, imported_at: at, actor })),
    issuers: those('issuer.status', issuerBody).map(({ said, subject, at, actor }) => ({ ...said, issuer: subject.slice('issuer:'.length), at, actor })),
  }
}

// One granule of a low-cardinality key column: milliseconds.
const FLEETS = { sql: `SELECT DISTINCT fleet FROM (SELECT DISTINCT fleet FROM events UNION ALL SELECT DISTINCT fleet FROM buckets) ORDER BY fleet LIMIT 1000`, row: z.object({ fleet: z.string() }) }

export const readFleets = async (clickhouse: ClickHouse): Promise<string[]> => (await ask(clickhouse, FLEETS, {})).map(({ fleet }) => fleet)
