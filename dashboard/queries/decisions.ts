import { z } from 'zod'
import { DEVICE_STATUSES, TRIAGE_STATES, VERDICTS, type Triage, type Verdict } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { parseJson } from './ask.ts'
import type { EventKind } from './event-log.ts'
import { MERGE_KINDS, mergesSaid, type Merges } from './merges.ts'
import { readNewestEvents, type NewestEvent } from './newest-events.ts'

/** What have people decided about each bucket, alert or device? The newest event of a subject is its state. */
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

export interface Decisions { merges: Merges; triage: Map<string, Triage>; verdicts: Map<string, Verdict> }

/** What a page about buckets and alerts shows of people's decisions. */
export async function readDecisions(clickhouse: ClickHouse, fleet: string): Promise<Decisions> {
  const events = await readNewestEvents(clickhouse, fleet, [...MERGE_KINDS, 'bucket.triaged', 'alert.verdict'])
  return { merges: mergesSaid(events), triage: said(events, 'bucket.triaged', 'bucket:', triageBody), verdicts: said(events, 'alert.verdict', 'alert:', verdictBody) }
}

export async function readDeviceStates(clickhouse: ClickHouse, fleet: string): Promise<DeviceStates> {
  const events = await readNewestEvents(clickhouse, fleet, ['device.status', 'fleet.settings', 'fleet.devices-admitted'])
  const states = said(events, 'device.status', 'device:', statusBody)
  const known = new Set([...said(events, 'fleet.devices-admitted', 'admitted:', admittedBody).values()].flatMap(({ devices }) => devices))
  const admitting = said(events, 'fleet.settings', '', settingsBody).get('fleet')?.first_sight === 'pending'
  const unsaid = (device: string) => ({ status: admitting && !known.has(device) ? 'pending' as const : 'active' as const, reason: '', at: null, actor: null })
  return {
    of: (device) => states.get(device) ?? unsaid(device),
    said: (status) => [...states].flatMap(([device, its]) => (its.status === status ? [device] : [])),
  }
}

/** By the id after the prefix. A body that is not understood decides nothing. */
function said<Body extends z.ZodObject>(events: readonly NewestEvent[], kind: EventKind, prefix: string, body: Body): Map<string, z.output<Body> & { at: string; actor: string }> {
  return new Map(events.flatMap((event) => {
    const parsed = event.kind === kind ? body.safeParse(parseJson(event.body)) : undefined
    return parsed?.success ? [[event.subject.slice(prefix.length), { ...parsed.data, at: event.at, actor: event.actor }] as const] : []
  }))
}
