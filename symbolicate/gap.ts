import type { ClickHouse } from '../infra/clickhouse/client.ts'
import type { LogBatch } from '../infra/log/log.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { Inserter } from './insert.ts'
import type { WorkerMetrics } from './metrics.ts'
import { writtenAt } from './queries/position.ts'
import { dateTime } from './write.ts'

/**
 * Retention removed messages before any worker read them: crashes that were acknowledged are gone. Said in every way there
 * is: a row that the overview shows, a metric that alarms, a line in the log, and a dead letter that stands for them. The row
 * is there before the position moves, and its key is the place, so a batch that is read again says the same gap.
 */
export async function tellGap({ topic, partition, entries, gap }: LogBatch, { clickhouse, inserter, logger, metrics, now, givenUp }: {
  clickhouse: ClickHouse
  inserter: Inserter
  logger: Logger
  metrics: WorkerMetrics
  now: number
  givenUp: () => boolean
}): Promise<void> {
  if (gap === undefined) return
  const lostAfter = await writtenAt(clickhouse, topic, partition)
  await inserter.insert('log_gaps', [{
    topic, partition, first_offset: gap.from, end_offset: gap.to,
    lost_after: lostAfter, lost_before: dateTime(entries.find(({ fault }) => fault === undefined)?.appendedAt ?? now), seen_at: dateTime(now),
  }], givenUp)
  metrics.gap(topic, gap.to - gap.from)
  logger.error({ stage: 'worker', topic, partition, from: gap.from, to: gap.to }, 'the log deleted messages before they were read')
}
