import { z } from 'zod'
import { fleetSettingsSchema, type FleetSettings } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, parseJson, time } from './ask.ts'

/**
 * Which anchors does a fleet trust, and what are its settings? The same events that ingest polls.
 * A few rows per decision that was ever made, whatever `crashes` holds.
 */
const QUESTION = {
  sql: `
SELECT subject, argMax(kind, number) AS newest, argMax(body, number) AS body, argMax(actor, number) AS actor, max(at) AS at
FROM events FINAL
WHERE fleet = {fleet:String} AND kind IN ('fleet.settings', 'fleet.anchor-added', 'fleet.anchor-removed')
GROUP BY subject
ORDER BY subject`,
  row: z.object({ subject: z.string(), newest: z.string(), body: z.string(), actor: z.string(), at: time }),
}
const anchorBody = z.object({ pem: z.string(), key_protection: z.enum(['hardware', 'software', 'unknown']), sha256: z.string() })

export interface StoredAnchor { pem: string; key_protection: 'hardware' | 'software' | 'unknown'; sha256: string; added_at: string; actor: string }
export interface FleetDecisions {
  settings: FleetSettings
  /** The settings' event as it is, with fields that this build does not know. */
  settingsBody: Record<string, unknown>
  anchors: StoredAnchor[]
}

export async function readFleet(clickhouse: ClickHouse, fleet: string): Promise<FleetDecisions> {
  const rows = await ask(clickhouse, QUESTION, { fleet })
  const settingsBody = z.record(z.string(), z.unknown()).safeParse(parseJson(rows.find(({ subject }) => subject === 'fleet')?.body ?? '{}')).data ?? {}
  return {
    settings: fleetSettingsSchema.safeParse(settingsBody).data ?? {},
    settingsBody,
    anchors: rows.flatMap(({ newest, body, actor, at }) => {
      const parsed = anchorBody.safeParse(parseJson(body))
      return newest === 'fleet.anchor-added' && parsed.success ? [{ ...parsed.data, added_at: at, actor }] : []
    }),
  }
}

// One granule of a low-cardinality key column: milliseconds.
const FLEETS = { sql: `SELECT DISTINCT fleet FROM (SELECT DISTINCT fleet FROM events UNION ALL SELECT DISTINCT fleet FROM buckets) ORDER BY fleet LIMIT 1000`, row: z.object({ fleet: z.string() }) }

export const readFleets = async (clickhouse: ClickHouse): Promise<string[]> => (await ask(clickhouse, FLEETS, {})).map(({ fleet }) => fleet)
