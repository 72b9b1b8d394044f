import { z } from 'zod'
import { asBrokenWorld, sqlTime } from '../queries/ask.ts'
import { ACTOR, type Api, type ApiDeps } from './api.ts'
import { inventoryStoredSchema } from './fleet-contract.ts'
import { inventoryBodySchema, scopeQuerySchema } from './requests.ts'
import { Refused } from './problems.ts'

/**
 * Devices that somebody knows of, so that rates and "who still lacks the fix" count those too that never crash. It says
 * nothing of who a device is: that takes a certificate. Saying a row again changes nothing.
 */
const BODY_LIMIT = 2 * 1024 * 1024
/** A clock of another machine may be this far ahead. */
const SKEW_MS = 5 * 60_000

export function inventoryRoutes(api: Api, { clickhouse, clock, events }: ApiDeps): void {
  api.post('/api/v1/fleets/:fleet/inventory', {
    bodyLimit: BODY_LIMIT,
    schema: {
      summary: 'Say which devices a fleet has, on which version', tags: ['fleets'], params: z.object({ fleet: scopeQuerySchema.shape.fleet.unwrap() }),
      body: inventoryBodySchema, response: { 200: inventoryStoredSchema },
    },
  }, async ({ params: { fleet }, body: { devices } }) => {
    const now = clock.now()
    const rows = devices.map(({ device, swversion, hwmodel, last_seen }) => {
      const seen = last_seen === undefined ? now : Date.parse(last_seen)
      if (seen > now + SKEW_MS) throw new Refused('invalid-request', `device ${device}: last_seen ${last_seen} is to come`)
      return { fleet, device: device.toWellFormed(), swversion: swversion.toWellFormed(), hwmodel: hwmodel.toWellFormed(), seen_at: sqlTime(Math.max(0, Math.min(seen, now))), imported_at: sqlTime(now) }
    })
    await events.append({ fleet, actor: ACTOR, kind: 'fleet.inventory-imported', subject: 'fleet', body: { devices: rows.length } })
    try {
      await clickhouse.insert({ table: 'inventory', values: rows, format: 'JSONEachRow' })
    } catch (error) {
      throw asBrokenWorld(error)
    }
    return { devices: rows.length }
  })
}
