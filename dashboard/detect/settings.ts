import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { Stratum } from './finding.ts'

/**
 * What a fleet's people have told us: the newest event of kind `fleet.settings`, subject `fleet`.
 * Fields of other parts live in the same body and are left alone.
 *
 * The starting thresholds are those measured for a quarter of a false alert a week each, on a simulated fleet of 100,000
 * devices with 0.02 crashes a device and day. They differ by seventy orders of magnitude because what is ordinary does:
 * outages make hundreds of devices fail at once, and never by executing data.
 */
export type SpreadStratum = Extract<Stratum, 'E4-net' | 'E3-net' | 'E34-inside' | 'rest' | 'release'>
export const SPREAD_TAU = { 'E4-net': 1e-3, 'E3-net': 1e-5, 'E34-inside': 5e-14, rest: 3e-76, release: 1e-9 } as const satisfies Record<SpreadStratum, number>

const tau = z.number().gt(0).lt(1)
const bodySchema = z.object({
  /** Compartments that read what strangers send. */
  net_facing: z.array(z.string().max(256)).max(1000).default([]),
  spread_tau: z.object({ 'E4-net': tau, 'E3-net': tau, 'E34-inside': tau, rest: tau, release: tau }).partial().default({}),
})

export interface FleetSettings { netFacing: string[]; spreadTau: Record<SpreadStratum, number> }

const DEFAULTS: FleetSettings = { netFacing: [], spreadTau: SPREAD_TAU }

// A few rows of one fleet, whatever the size of `crashes`.
const SQL = `
SELECT body FROM events FINAL
WHERE fleet = {fleet:String} AND kind = 'fleet.settings' AND subject = 'fleet'
ORDER BY number DESC LIMIT 1
SETTINGS max_execution_time = 10`

/** A body that can't be read is reported and the defaults hold: a typing error must not switch detection off. */
export async function readFleetSettings(clickhouse: ClickHouse, fleet: string): Promise<{ settings: FleetSettings; problem?: string }> {
  const result = await clickhouse.query({ query: SQL, query_params: { fleet }, format: 'JSONEachRow' })
  const [row] = await result.json<{ body: string }>()
  return row === undefined ? { settings: DEFAULTS } : parseFleetSettings(row.body)
}

export function parseFleetSettings(body: string): { settings: FleetSettings; problem?: string } {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    return { settings: DEFAULTS, problem: 'fleet.settings: body is not JSON' }
  }
  const parsed = bodySchema.safeParse(value)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    return { settings: DEFAULTS, problem: `fleet.settings: ${issue?.path.join('.') || 'body'}: ${issue?.message}` }
  }
  return { settings: { netFacing: parsed.data.net_facing, spreadTau: { ...SPREAD_TAU, ...parsed.data.spread_tau } } }
}
