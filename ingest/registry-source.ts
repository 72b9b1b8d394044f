import { z } from 'zod'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import type { Logger } from '../infra/service/logger.ts'
import { fleetName, fleetSettingsSchema, snapshotSchema, type FleetRecord, type RegistrySnapshot } from './registry.ts'

/**
 * What people decided about fleets and devices: the newest event of each subject is its state.
 *
 *   subject            kind                                           body
 *   fleet              fleet.settings                                 settings of the fleet (registry.ts)
 *   anchor:<sha256>    fleet.anchor-added | fleet.anchor-removed      { pem, key_protection, scope? }
 *   device:<id>        device.status                                  { status, reason }
 *
 * The table grows with what people do, not with crashes, so a full read of these kinds stays in milliseconds.
 */
const NEWEST_EVENTS = `
SELECT fleet, subject, argMax(kind, number) AS newest_kind, argMax(body, number) AS newest_body
FROM events
WHERE kind IN {kinds: Array(String)}
GROUP BY fleet, subject
ORDER BY fleet, subject
SETTINGS max_execution_time = 5`

const KINDS = ['fleet.settings', 'fleet.anchor-added', 'fleet.anchor-removed', 'device.status']

const rowSchema = z.object({ fleet: fleetName, subject: z.string(), newest_kind: z.string(), newest_body: z.string() })
type Row = z.infer<typeof rowSchema>

const anchorSchema = snapshotSchema.shape.fleets.valueType.shape.anchors.valueType
const deviceSchema = snapshotSchema.shape.fleets.valueType.shape.devices.valueType

export function loadRegistryFromClickHouse(clickhouse: ClickHouse, logger?: Logger): () => Promise<RegistrySnapshot> {
  return async () => {
    const result = await clickhouse.query({ query: NEWEST_EVENTS, query_params: { kinds: KINDS }, format: 'JSONEachRow' })
    return snapshotOf(await result.json(), logger)
  }
}

/** A row that can't be understood is left out and logged: one bad event must not take every fleet down. */
export function snapshotOf(rows: readonly unknown[], logger?: Logger): RegistrySnapshot {
  const fleets: Record<string, FleetRecord> = {}
  for (const value of rows) {
    const row = rowSchema.safeParse(value)
    const applied = row.success && applyEvent(fleets[row.data.fleet] ??= emptyFleet(), row.data)
    if (!applied) logger?.error({ slug: 'registry-event-invalid', fleet: row.data?.fleet, subject: row.data?.subject }, 'event left out')
  }
  return { v: 1, fleets }
}

const emptyFleet = (): FleetRecord => ({ settings: fleetSettingsSchema.parse({}), anchors: {}, devices: {} })

function applyEvent(fleet: FleetRecord, { subject, newest_kind: kind, newest_body: json }: Row): boolean {
  const body = parseJson(json)
  const [, type, name = ''] = /^(fleet|anchor|device)(?::(.+))?$/s.exec(subject) ?? []
  switch (`${type} ${kind}`) {
    case 'fleet fleet.settings': return keep(fleetSettingsSchema.safeParse(body), (settings) => { fleet.settings = settings })
    case 'anchor fleet.anchor-added': return keep(anchorSchema.safeParse(body), (anchor) => { fleet.anchors[name] = anchor })
    case 'anchor fleet.anchor-removed': return true
    case 'device device.status': return keep(deviceSchema.safeParse(body), (device) => { fleet.devices[name] = device })
    default: return false
  }
}

function keep<T>(parsed: { success: true; data: T } | { success: false }, use: (value: T) => void): boolean {
  if (parsed.success) use(parsed.data)
  return parsed.success
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
