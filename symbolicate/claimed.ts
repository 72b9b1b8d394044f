import { setTimeout as delay } from 'node:timers/promises'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import { BrokenWorld, messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import { crashRows } from './queries/rows.ts'
import type { CrashRow } from './write.ts'

/**
 * The crash that a claimed one names. It was in the log before (ingest saw to that), so its row is there or will be: in
 * this very batch, behind a slow dump, or from another partition. The wait has an end, because the named crash may have
 * become a dead letter.
 */
export interface Claimed {
  /** Those whose rows are there now, by id. */
  present(ids: readonly string[]): Promise<ReadonlyMap<string, CrashRow>>
  /** Null when there is no row after all. Rejects when the worker stops first. */
  awaited(id: string): Promise<CrashRow | null>
}

export function createClaimed({ clickhouse, logger, retryMs, retryMaxMs, waitMs, isUnderWay, isStopping }: {
  clickhouse: ClickHouse
  logger: Logger
  retryMs: number
  retryMaxMs: number
  waitMs: number
  isUnderWay: (id: string) => boolean
  isStopping: () => boolean
}): Claimed {
  /** Many crashes name the same one: they wait together. */
  const waits = new Map<string, Promise<CrashRow | null>>()

  async function wait(id: string): Promise<CrashRow | null> {
    const end = performance.now() + waitMs
    for (let pause = retryMs; ; pause = Math.min(pause * 2, retryMaxMs)) {
      if (isStopping()) throw new BrokenWorld('stopped', `crash ${id} was not there before the worker stopped`, { retryable: true })
      // Asked first: a row that is written while we ask must not be taken for one that never comes.
      const mayCome = isUnderWay(id) || performance.now() < end
      try {
        const row = (await crashRows(clickhouse, [id])).get(id)
        if (row !== undefined || !mayCome) return row ?? null
      } catch (error) {
        logger.warn({ stage: 'claimed', crash: id, retryInMs: pause, reason: messageOf(error) }, 'the crash that others name could not be read')
      }
      await delay(pause)
    }
  }

  return {
    present: (ids) => crashRows(clickhouse, [...new Set(ids)]),
    awaited(id) {
      const pending = waits.get(id) ?? wait(id).finally(() => waits.delete(id))
      waits.set(id, pending)
      return pending
    },
  }
}
