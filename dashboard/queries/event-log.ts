import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { Clock } from '../../infra/service/clock.ts'
import { ask, asBrokenWorld, iso, number, time } from './ask.ts'

/**
 * Appends to the audit log: what people decided, numbered per fleet, each line naming the hash of the line before it.
 * One append at a time in this process; when it resolves the line is in ClickHouse.
 * hash = SHA-256 of the JSON array [prev_hash, fleet, at, number, actor, kind, subject, body], in hex.
 */
export const EVENT_KINDS = [
  'bucket.triaged', 'bucket.merged', 'bucket.unmerged', 'alert.verdict', 'device.status', 'device.rebased', 'device.forget-asked', 'device.forgotten', 'dead-letters.replayed', 'archive.swept',
  'issuer.status',
  'fleet.anchor-added', 'fleet.anchor-removed', 'fleet.crl-imported', 'fleet.inventory-imported', 'fleet.devices-admitted', 'fleet.gateway-added', 'fleet.gateway-removed', 'fleet.settings', 'crash.dump-read', 'crash.manifest-read', 'symbols.uploaded',
] as const
export type EventKind = (typeof EVENT_KINDS)[number]

export interface NewEvent { fleet: string; actor: string; kind: EventKind; subject: string; body: Record<string, unknown> }
export interface StoredEvent { fleet: string; at: string; number: number; actor: string; kind: string; subject: string; body: string; prev_hash: string; hash: string }
export interface EventLog { append(event: NewEvent): Promise<StoredEvent> }

// The end of one fleet's chain: one range of the primary key.
const LAST = {
  sql: `SELECT number, hash FROM events FINAL WHERE fleet = {fleet:String} ORDER BY number DESC, hash DESC LIMIT 1`,
  row: z.object({ number, hash: z.string() }),
}

export const storedEventRow = z.object({
  fleet: z.string(), at: time, number, actor: z.string(), kind: z.string(), subject: z.string(), body: z.string(), prev_hash: z.string(), hash: z.string(),
})

export function createEventLog({ clickhouse, clock }: { clickhouse: ClickHouse; clock: Clock }): EventLog {
  let turn: Promise<unknown> = Promise.resolve()
  return {
    append(event) {
      const mine = turn.then(() => appendOne(event), () => appendOne(event))
      turn = mine
      return mine
    },
  }

  async function appendOne({ fleet, actor, kind, subject, body }: NewEvent): Promise<StoredEvent> {
    const [last] = await ask(clickhouse, LAST, { fleet })
    const event = { fleet, at: iso(clock.now()), number: (last?.number ?? 0) + 1, actor, kind, subject, body: JSON.stringify(body), prev_hash: last?.hash ?? '' }
    const stored = { ...event, hash: hashOf(event) }
    try {
      await clickhouse.insert({ table: 'events', values: [stored], format: 'JSONEachRow' })
    } catch (error) {
      throw asBrokenWorld(error)
    }
    return stored
  }
}

export function hashOf(event: Omit<StoredEvent, 'hash'>): string {
  const line = [event.prev_hash, event.fleet, event.at, event.number, event.actor, event.kind, event.subject, event.body]
  return createHash('sha256').update(JSON.stringify(line)).digest('hex')
}
