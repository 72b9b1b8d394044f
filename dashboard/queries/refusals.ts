import { z } from 'zod'
import { refusalSchema, type StoredRefusal } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, number, time } from './ask.ts'

/**
 * What did quotas keep out, newest first, of one device or of all? The table has one row a device and summary (ten seconds
 * by default) of a storm, ordered by time: milliseconds for all; of one device, a scan of the fleet's rows of two columns.
 */
const QUESTION = {
  sql: `
SELECT id, device, slug, first_at, last_at, reports, digests
FROM refusals FINAL
WHERE fleet = {fleet:String} AND ({device:String} = '' OR device = {device:String})
  AND (NOT {paged:UInt8} OR (last_at, id) < (fromUnixTimestamp64Milli({before:Int64}, 'UTC'), {before_id:String}))
ORDER BY last_at DESC, id DESC
LIMIT {limit:UInt32}`,
  row: z.object({
    id: z.string(), device: z.string(), slug: refusalSchema.shape.slug, first_at: time, last_at: time, reports: number,
    digests: z.array(z.object({ digest: z.string(), reports: number })),
  }),
}

export interface RefusalsAsked { limit: number; device?: string; before?: readonly [number, string] | undefined }

export const readRefusals = (clickhouse: ClickHouse, fleet: string, { limit, device = '', before }: RefusalsAsked): Promise<StoredRefusal[]> =>
  ask(clickhouse, QUESTION, { fleet, device, limit, paged: before ? 1 : 0, before: before?.[0] ?? 0, before_id: before?.[1] ?? '' })
