import type { ClickHouse } from '../infra/clickhouse/client.ts'
import { ClickHouseError } from '@clickhouse/client'
import { BrokenWorld, messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { WorkerMetrics } from './metrics.ts'

/**
 * Rows into ClickHouse. While it is away the same block is offered again, for as long as it takes: the log holds what
 * comes meanwhile. A row that ClickHouse refuses for what it says is handed back, and the others are written.
 */
export interface Inserter {
  /** Resolves when all rows but the refused are acknowledged; rejects with BrokenWorld `stopped` when it failed and `givenUp()` is true. */
  insert<Row extends object>(table: string, rows: readonly Row[], givenUp: () => boolean): Promise<{ refused: { row: Row; reason: string }[] }>
}

/** One block each: parsed in one piece, cut nowhere, whatever months its rows are of. */
const ONE_BLOCK = { input_format_parallel_parsing: 0, max_partitions_per_insert_block: '0', async_insert: 0 } as const
/** Beyond it JSON is cut into several inserts; each may be repeated like the whole. */
const BLOCK_BYTES = 16 * 2 ** 20

export function createInserter({ clickhouse, logger, metrics, retryMs, retryMaxMs }: {
  clickhouse: ClickHouse
  logger: Logger
  metrics: WorkerMetrics
  retryMs: number
  retryMaxMs: number
}): Inserter {
  async function once(table: string, rows: readonly object[]) {
    const began = performance.now()
    await clickhouse.insert({ table, values: rows, format: 'JSONEachRow', clickhouse_settings: ONE_BLOCK })
    metrics.inserted(rows.length, (performance.now() - began) / 1000)
  }

  async function block<Row extends object>(table: string, rows: readonly Row[], givenUp: () => boolean): Promise<{ row: Row; reason: string }[]> {
    for (let wait = retryMs; ; wait = Math.min(wait * 2, retryMaxMs)) {
      try {
        await once(table, rows)
        return []
      } catch (error) {
        if (isRefusal(error)) {
          const [row] = rows
          if (rows.length === 1 && row !== undefined) return [{ row, reason: messageOf(error) }]
          const middle = rows.length >> 1
          return [...await block(table, rows.slice(0, middle), givenUp), ...await block(table, rows.slice(middle), givenUp)]
        }
        metrics.insertFailed()
        const giveUp = () => { if (givenUp()) throw new BrokenWorld('stopped', `insert into ${table} given up: the worker stops or lost its partition`, { retryable: true, cause: error }) }
        giveUp()
        logger.warn({ stage: 'insert', table, rows: rows.length, retryInMs: wait, reason: messageOf(error) }, 'insert failed, the same block will be tried again')
        await new Promise((resolve) => setTimeout(resolve, wait))
        // Whoever has taken the partition meanwhile writes these rows, perhaps with other symbols or rules.
        giveUp()
      }
    }
  }

  return {
    async insert(table, rows, givenUp) {
      const refused = []
      for (const part of parts(rows)) refused.push(...await block(table, part, givenUp))
      return { refused }
    },
  }
}

function* parts<Row extends object>(rows: readonly Row[]): Generator<Row[]> {
  let part: Row[] = []
  let bytes = 0
  for (const row of rows) {
    const size = 4096 + lengthOf(row, 'report') + lengthOf(row, 'message')
    if (part.length > 0 && bytes + size > BLOCK_BYTES) {
      yield part
      part = []
      bytes = 0
    }
    part.push(row)
    bytes += size
  }
  if (part.length > 0) yield part
}

/** The columns that can be large: the report of a crash, the message of a dead letter. */
function lengthOf(row: object, column: 'report' | 'message'): number {
  const value = (row as Partial<Record<typeof column, unknown>>)[column]
  return typeof value === 'string' ? value.length : 0
}

/** ClickHouse's codes for "I understood you, and this value can't be stored"; every other failure is the world's. */
const REFUSALS = new Set(['6', '26', '27', '38', '41', '53', '69', '70', '72', '117', '130', '131', '321', '349', '467', '691'])

const isRefusal = (error: unknown): boolean => error instanceof ClickHouseError && REFUSALS.has(error.code)
