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
 *   admitted:<number>  fleet.devices-admitted                         { devices }: those that there were when first_sight became `pending`
 *   device:<id>        device.status                                  { status, reason }; outranks what admitted it
 *   rebase:<id>        device.rebased                                 { reason }; the number of the event is the new epoch of its counters
 *   issuer:<name>      issuer.status                                  { status, reason }; the name as in Verified, RFC 4514
 *   crl:<sha256>       fleet.crl-imported                             { pem, ... }; by the CA's public key, a newer one replaces
 *
 * The table grows with what people do, not with crashes. It is asked every 2 s whether anything was said, and read whole
 * (milliseconds, but for long revocation lists) only then.
 */
const STAMP = `
SELECT toString(groupBitXor(cityHash64(fleet, number, hash, body))) AS stamp, count() AS events
FROM events FINAL
WHERE kind IN {kinds: Array(String)}
SETTINGS max_execution_time = 5`


const NEWEST_EVENTS = `
SELECT fleet, subject, argMax(kind, number) AS newest_kind, argMax(body, number) AS newest_body, toUInt32(max(number)) AS newest_number
FROM events
WHERE kind IN {kinds: Array(String)}
GROUP BY fleet, subject
ORDER BY fleet, subject
SETTINGS max_execution_time = 5`

const KINDS = ['fleet.settings', 'fleet.anchor-added', 'fleet.anchor-removed', 'fleet.crl-imported', 'fleet.devices-admitted', 'device.status', 'device.rebased', 'issuer.status']

const rowSchema = z.object({ fleet: fleetName, subject: z.string(), newest_kind: z.string(), newest_body: z.string(), newest_number: z.int().positive() })
type Row = z.infer<typeof rowSchema>

const anchorSchema = snapshotSchema.shape.fleets.valueType.shape.anchors.valueType
const deviceSchema = snapshotSchema.shape.fleets.valueType.shape.devices.valueType
const issuerSchema = snapshotSchema.shape.fleets.valueType.shape.issuers.unwrap().valueType
const admittedSchema = z.object({ devices: z.array(z.string()) })
const crlSchema = snapshotSchema.shape.fleets.valueType.shape.crls.unwrap().valueType

export function loadRegistryFromClickHouse(clickhouse: ClickHouse, logger?: Logger): () => Promise<RegistrySnapshot> {
  const ask = async (query: string): Promise<unknown[]> => (await clickhouse.query({ query, query_params: { kinds: KINDS }, format: 'JSONEachRow' })).json()
  let stamp = ''
  let snapshot: RegistrySnapshot = { v: 1, fleets: {} }
  return async () => {
    // The stamp is of before the read: what is said in between is read now, and once more at the next call.
    const now = JSON.stringify(await ask(STAMP))
    if (now !== stamp) snapshot = snapshotOf(await ask(NEWEST_EVENTS), logger)
    stamp = now
    return snapshot
  }
}

/** A row that can't be understood is left out and logged: one bad event must not take every fleet down. */
export function snapshotOf(rows: readonly unknown[], logger?: Logger): { v: 1; fleets: Record<string, FleetRecord> } {
  const fleets: Record<string, FleetRecord> = {}
  for (const value of rows) {
    const row = rowSchema.safeParse(value)
    const applied = row.success && applyEvent(fleets[row.data.fleet] ??= emptyFleet(), row.data)
    if (!applied) logger?.error({ slug: 'registry-event-invalid', fleet: row.data?.fleet, subject: row.data?.subject }, 'event left out')
  }
  return { v: 1, fleets }
}

const emptyFleet = (): FleetRecord => ({ settings: fleetSettingsSchema.parse({}), anchors: {}, devices: {}, rebased: {}, issuers: {}, crls: {} })

function applyEvent(fleet: FleetRecord, { subject, newest_kind: kind, newest_body: json, newest_number: number }: Row): boolean {
  const body = parseJson(json)
  const [, type, name = ''] = /^(fleet|anchor|admitted|device|rebase|issuer|crl)(?::(.+))?$/s.exec(subject) ?? []
  switch (`${type} ${kind}`) {
    case 'fleet fleet.settings': return keep(fleetSettingsSchema.safeParse(body), (settings) => { fleet.settings = settings })
    case 'anchor fleet.anchor-added': return keep(anchorSchema.safeParse(body), (anchor) => { fleet.anchors[name] = anchor })
    case 'anchor fleet.anchor-removed': return true
    // Rows come by subject, so what is said of one device comes after this.
    case 'admitted fleet.devices-admitted': return keep(admittedSchema.safeParse(body), ({ devices }) => {
      for (const device of devices) fleet.devices[device] = { status: 'active', reason: '' }
    })
    case 'rebase device.rebased': fleet.rebased[name] = number; return true
    case 'device device.status': return keep(deviceSchema.safeParse(body), (device) => { fleet.devices[name] = device })
    case 'issuer issuer.status': return keep(issuerSchema.safeParse(body), (issuer) => { fleet.issuers[name] = issuer })
    case 'crl fleet.crl-imported': return keep(crlSchema.safeParse(body), (crl) => { fleet.crls[name] = crl })
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
