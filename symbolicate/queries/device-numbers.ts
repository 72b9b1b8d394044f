import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/** Which of these devices have a number, and which? By primary key: some milliseconds for 256 devices, however many there are. */
const SQL = `
SELECT fleet, device, min(number) AS number
FROM device_numbers
WHERE (fleet, device) IN (SELECT arrayJoin(arrayZip({fleets:Array(String)}, {devices:Array(String)})))
GROUP BY fleet, device`

export interface OfFleet { fleet: string; device: string }

/** As the table has the name: half a surrogate pair is in no UTF-8. */
export const deviceKey = ({ fleet, device }: OfFleet): string => `${fleet}\0${device.toWellFormed()}`

export async function knownNumbers(clickhouse: ClickHouse, devices: readonly OfFleet[]): Promise<Map<string, number>> {
  if (devices.length === 0) return new Map()
  const query_params = { fleets: devices.map(({ fleet }) => fleet), devices: devices.map(({ device }) => device.toWellFormed()) }
  const result = await clickhouse.query({ query: SQL, query_params, format: 'JSONEachRow' })
  return new Map((await result.json<OfFleet & { number: string }>()).map((row) => [deviceKey(row), Number(row.number)]))
}
