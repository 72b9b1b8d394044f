import { createLogger } from '../../infra/service/logger.ts'
import { startEmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'

/** A process that owns an engine, to be killed: says the engine's pid and waits. */
const engine = await startEmbeddedClickHouse({ directory: process.argv[2] ?? '', logger: createLogger({ part: 'test', level: 'silent' }) })
process.send?.(engine.pid)
