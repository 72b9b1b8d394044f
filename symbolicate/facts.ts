import type { Heartbeat, Refused } from '../ingest/contract.ts'
import type { Inserter } from './insert.ts'
import { dateTime } from './write.ts'

/**
 * What the log says of devices beside their crashes: who is alive on which version, and what quotas kept out. Rows are
 * sets keyed by what they say, so an entry that is read again changes nothing.
 */
export interface Facts { heartbeats: Heartbeat[]; refused: Refused[] }

export async function writeFacts({ heartbeats, refused }: Facts, inserter: Inserter, givenUp: () => boolean): Promise<void> {
  if (heartbeats.length > 0) await inserter.insert('heartbeats', heartbeats.map(heartbeatRow), givenUp)
  if (refused.length > 0) await inserter.insert('refusals', refused.map(refusalRow), givenUp)
}

const heartbeatRow = ({ fleet, receivedAt, authLevel, standing, deviceId, deviceKeyId, claims }: Heartbeat) => ({
  fleet, day: dateTime(receivedAt).slice(0, 10), device: deviceId.toWellFormed(), device_key: deviceKeyId, standing, received_at: dateTime(receivedAt),
  auth_level: authLevel, bootcount: claims.bootcount ?? 0, seq: claims.seq ?? 0, hwmodel: claims.hwmodel?.toWellFormed() ?? '',
  swname: claims.swname?.toWellFormed() ?? '', swversion: claims.swversion?.toWellFormed() ?? '', svn: claims.svn ?? null,
})

const refusalRow = ({ fleet, id, deviceId, slug, firstAt, lastAt, reports, digests }: Refused) => ({
  fleet, id, device: deviceId.toWellFormed(), slug, first_at: dateTime(firstAt), last_at: dateTime(lastAt), reports, digests,
})
