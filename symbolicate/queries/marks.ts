import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import type { AcceptedCrash } from '../../ingest/contract.ts'

/**
 * What is known by now of who sent these crashes, though ingest may not have known it when it took them: devices and
 * issuers that people have shut out since, and higher security versions of earlier boots. Each is a mark on the crash; it
 * stays what it was, since what a device said before its key was withdrawn may be true.
 * A few rows of decisions and one look-up by primary key: milliseconds, whatever `crashes` holds.
 */
export type Mark = 'device-revoked' | 'device-disabled' | 'issuer-disabled' | 'svn-rollback'

const STATUS_SQL = `
SELECT fleet, subject, argMax(JSONExtractString(body, 'status'), number) AS status
FROM events FINAL
WHERE kind IN ('device.status', 'issuer.status') AND (fleet, subject) IN (SELECT arrayJoin(arrayZip({fleets:Array(String)}, {subjects:Array(String)})))
GROUP BY fleet, subject`

const SVN_SQL = `
SELECT fleet, device, epoch, svn, min(first_boot) AS since
FROM svns
WHERE (fleet, device) IN (SELECT arrayJoin(arrayZip({fleets:Array(String)}, {devices:Array(String)})))
GROUP BY fleet, device, epoch, svn`

/** `since`: the first boot with this version in that epoch (contract.ts). */
type Known = { svn: number; epoch: number; since: number }

/** By crash id; crashes without a mark are left out. */
export async function marksOf(clickhouse: ClickHouse, crashes: readonly AcceptedCrash[]): Promise<Map<string, Mark[]>> {
  const [shutOut, svns] = await Promise.all([shutOutAmong(clickhouse, crashes), svnsOf(clickhouse, crashes)])
  return new Map(crashes.flatMap((crash) => {
    const { id, fleet, deviceId, issuer, epoch = 0, claims: { svn, bootcount } } = crash
    const marks: Mark[] = []
    const device = shutOut.get(key(fleet, `device:${deviceId}`))
    if (device === 'revoked' || device === 'disabled') marks.push(`device-${device}`)
    if (issuer !== undefined && shutOut.get(key(fleet, `issuer:${issuer}`)) === 'disabled') marks.push('issuer-disabled')
    const before = svns.get(key(fleet, deviceId)) ?? []
    const isBefore = (known: Known) => known.epoch < epoch || (known.epoch === epoch && known.since < bootcount!)
    if (counts(crash) && before.some((known) => known.svn > svn! && isBefore(known))) marks.push('svn-rollback')
    return marks.length > 0 ? [[id, marks] as const] : []
  }))
}

const key = (...parts: string[]): string => parts.join('\0')

async function shutOutAmong(clickhouse: ClickHouse, crashes: readonly AcceptedCrash[]): Promise<Map<string, string>> {
  const asked = new Map(crashes.flatMap(({ fleet, deviceId, issuer }) =>
    [`device:${deviceId}`, ...(issuer === undefined ? [] : [`issuer:${issuer}`])].map((subject) => [key(fleet, subject), { fleet, subject }] as const)))
  if (asked.size === 0) return new Map()
  const query_params = { fleets: [...asked.values()].map(({ fleet }) => fleet), subjects: [...asked.values()].map(({ subject }) => subject.toWellFormed()) }
  const result = await clickhouse.query({ query: STATUS_SQL, query_params, format: 'JSONEachRow' })
  return new Map((await result.json<{ fleet: string; subject: string; status: string }>()).map(({ fleet, subject, status }) => [key(fleet, subject), status]))
}

/** Those of the table, and of the crashes themselves, which may all be of one batch. */
async function svnsOf(clickhouse: ClickHouse, crashes: readonly AcceptedCrash[]): Promise<Map<string, Known[]>> {
  const found = new Map<string, Known[]>()
  const add = (at: string, known: Known) => void found.set(at, [...found.get(at) ?? [], known])
  const counting = crashes.filter(counts)
  if (counting.length === 0) return found
  for (const { fleet, deviceId, epoch = 0, claims: { svn, bootcount } } of counting) add(key(fleet, deviceId), { svn: svn!, epoch, since: bootcount! })
  const query_params = { fleets: counting.map(({ fleet }) => fleet), devices: counting.map(({ deviceId }) => deviceId.toWellFormed()) }
  const result = await clickhouse.query({ query: SVN_SQL, query_params, format: 'JSONEachRow' })
  for (const { fleet, device, epoch, svn, since } of await result.json<{ fleet: string; device: string; epoch: number; svn: string; since: string }>()) {
    add(key(fleet, device), { svn: Number(svn), epoch, since: Number(since) })
  }
  return found
}

/** As the view `svns_by_epoch` has it: no counters that may be replayed, no word without proof. */
const counts = ({ authLevel, standing, claims: { svn, bootcount } }: AcceptedCrash): boolean =>
  svn !== undefined && bootcount !== undefined && authLevel !== 'project-key' && (standing === 'counted' || standing === 'claimed')
