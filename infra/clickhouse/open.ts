import { join } from 'node:path'
import type { Logger } from '../service/logger.ts'
import { connectClickHouse, type ClickHouse, type ClickHouseAddress } from './client.ts'
import type { ClickHouseSettings } from './config.ts'
import { startEmbeddedClickHouse } from './embedded.ts'

/** The ClickHouse that the settings name: a server, or the engine on DATA/clickhouse, which ends with close(). */
export interface OpenClickHouse {
  clickhouse: ClickHouse
  address: ClickHouseAddress
  close(): Promise<void>
}

export async function openClickHouse({ settings: { server, memoryBytes }, data, application, logger }: {
  settings: ClickHouseSettings
  data: string
  /** Name that the server's query log shows. */
  application: string
  logger: Logger
}): Promise<OpenClickHouse> {
  if (server !== undefined) {
    const clickhouse = connectClickHouse(server, application)
    return { clickhouse, address: server, close: () => clickhouse.close() }
  }
  const engine = await startEmbeddedClickHouse({ directory: join(data, 'clickhouse'), logger, memoryLimitBytes: memoryBytes })
  const clickhouse = connectClickHouse(engine.address, application)
  return {
    clickhouse,
    address: engine.address,
    async close() {
      await clickhouse.close()
      await engine.stop()
    },
  }
}
