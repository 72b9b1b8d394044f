import { z } from 'zod'
import { DEVICE_STATUSES, TRIAGE_STATES, VERDICTS, type Triage, type Verdict } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, parseJson, time } from './ask.ts'

/**
 * What have people decided about each bucket, alert or device? The newest event of a subject is its state.
 * A few rows per decision that was ever made, whatever `crashes` holds.
 */
const QUESTION = {
  sql: `
SELECT subject, argMax(body, number) AS body, argMax(actor, number) AS actor, max(at) AS at
FROM events FINAL
WHERE fleet = {fleet:String} AND kind = {kind:String}
GROUP BY subject`,
  row: z.object({ subject: z.string(), body: z.string(), actor: z.string(), at: time }),
}

const triageBody = z.object({ state: z.enum(TRIAGE_STATES), note: z.string().default(''), fixed_in: z.string().nullable().default(null) })
const verdictBody = z.object({ verdict: z.enum(VERDICTS), note: z.string().default('') })
const statusBody = z.object({ status: z.enum(DEVICE_STATUSES), reason: z.string().default('') })
const settingsBody = z.object({ first_sight: z.enum(['active', 'pending']).default('active') })
const admittedBody = z.object({ devices: z.array(z.string()) })
/** `at` and `actor` are null where nobody has decided about the device itself. */
export type DeviceStatus = z.infer<typeof statusBody> & { at: string | null; actor: string | null }
/** The state of each device, as ingest sees it (registry-source.ts). */
export interface DeviceStates {
  of(device: string): DeviceStatus
  /** Those about whom somebody said this. */
  said(status: DeviceStatus['status']): string[]
}

export const readTriage = (clickhouse: ClickHouse, fleet: string): Promise<Map<string, Triage>> => read(clickhouse, fleet, 'bucket.triaged', 'bucket:', triageBody)
export const readVerdicts = (clickhouse: ClickHouse, fleet: string): Promise<Map<string, Verdict>> => read(clickhouse, fleet, 'alert.verdict', 'alert:', verdictBody)

export async function readDeviceStates(clickhouse: ClickHouse, fleet: string): Promise<DeviceStates> {
  const [said, settings, admitted] = await Promise.all([
    read(clickhouse, fleet, 'device.status', 'device:', statusBody), read(clickhouse, fleet, 'fleet.settings', '', settingsBody), read(clickhouse, fleet, 'fleet.devices-admitted', 'admitted:', admittedBody),
  ])
  const known = new Set([...admitted.values()].flatMap(({ devices }) => devices))
  const admitting = settings.get('fleet')?.first_sight === 'pending'
  const unsaid = (device: string) => ({ status: admitting && !known.has(device) ? 'pending' as const : 'active' as const, reason: '', at: null, actor: null })
  return {
    of: (device) => said.get(device) ?? unsaid(device),
    said: (status) => [...said].flatMap(([device, its]) => (its.status === status ? [device] : [])),
  }
}

/** By the id after the prefix. A body that is not understood decides nothing. */
async function read<Body extends z.ZodObject>(clickhouse: ClickHouse, fleet: string, kind: string, prefix: string, body: Body): Promise<Map<string, z.output<Body> & { at: string; actor: string }>> {
  const rows = await ask(clickhouse, QUESTION, { fleet, kind })
  return new Map(rows.flatMap((row) => {
    const parsed = body.safeParse(parseJson(row.body))
    return parsed.success ? [[row.subject.slice(prefix.length), { ...parsed.data, at: row.at, actor: row.actor }] as const] : []
  }))
}
