import { LRUCache } from 'lru-cache'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import { deviceKey, knownNumbers, type OfFleet } from './queries/device-numbers.ts'

/**
 * A small number for each device, so that sets of devices are bitmaps (infra/clickhouse/schema/009-counts.sql).
 *
 * Promise: a device has one number, though nobody hands them out. It is the place in the log of the first of its crashes that
 * a worker found without one, and goes into the table with that crash. A device's crashes lie in one partition, which one
 * worker reads in order from where the table ends: so whoever reads it again, after a kill or beside a frozen worker, finds the
 * number in the table or comes upon the same crash first. What was given out here and may not be in the table yet (a slow
 * dump's) is remembered, and forgotten when a partition is taken over, since another may have read on in between.
 */
export interface DeviceNumbers {
  /** The number of each device, by `deviceKey`; `crashes` in the order of the log. */
  of(crashes: readonly (OfFleet & { partition: number; offset: number })[]): Promise<Map<string, number>>
  forget(): void
}

const REMEMBERED = 50_000

export function createDeviceNumbers(clickhouse: ClickHouse): DeviceNumbers {
  const given = new LRUCache<string, number>({ max: REMEMBERED })
  return {
    async of(crashes) {
      const unknown = new Map(crashes.filter((crash) => !given.has(deviceKey(crash))).map((crash) => [deviceKey(crash), crash]))
      const known = await knownNumbers(clickhouse, [...unknown.values()])
      const numbers = new Map<string, number>()
      for (const crash of crashes) {
        const key = deviceKey(crash)
        // 0 says that there is none.
        const number = known.get(key) ?? given.get(key) ?? crash.partition * 2 ** 40 + crash.offset + 1
        given.set(key, number)
        numbers.set(key, number)
      }
      return numbers
    },
    forget: () => given.clear(),
  }
}
