import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { migrate, pendingMigrations } from '../../infra/clickhouse/migrate.ts'
import { openClickHouse } from '../../infra/clickhouse/open.ts'
import type { Clock } from '../../infra/service/clock.ts'
import { BrokenWorld } from '../../infra/service/errors.ts'
import type { World } from '../../infra/service/process.ts'
import type { Configuration } from '../configuration.ts'

/**
 * ClickHouse with the schema that this build needs. A server is migrated by `overrun migrate` alone, before a rollout, and
 * waited for here; the embedded engine belongs to this process, which migrates it itself.
 */
export async function openMigratedClickHouse({ configuration: { clickhouse: settings, data }, application, clock, world: { logger, stopper, patiently } }: {
  configuration: Configuration
  application: string
  clock: Clock
  world: World
}): Promise<ClickHouse> {
  const { clickhouse, close } = await openClickHouse({ settings, data, application, logger })
  stopper.add('clickhouse', close)
  await patiently('ClickHouse', async () => {
    if (settings.server === undefined) return migrate(clickhouse, { now: clock.now(), retentionDays: settings.retentionDays })
    const pending = await pendingMigrations(clickhouse)
    if (pending.length > 0) throw new BrokenWorld('schema-pending', `schema: ${pending.join(', ')} not applied; run overrun migrate`, { retryable: true })
    return undefined
  })
  return clickhouse
}
