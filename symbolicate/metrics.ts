import { Counter, Gauge, Histogram } from 'prom-client'
import type { LogStats } from '../infra/log/log.ts'
import type { Metrics } from '../infra/service/metrics.ts'
import type { AnalysisStatus } from './contract.ts'
import type { Dump } from './formats/dump.ts'
import type { DeadLetterSlug, Result } from './outcome.ts'
import type { SymbolStatus } from './symbols/source.ts'

/** A label comes from a closed list, never from a child. */
const FORMATS: ReadonlySet<string> = new Set<Dump['format']>(['minidump', 'sanitizer', 'js-stack', 'text'])

/** The worker's metrics; each help text says what a rise means. */
export function createWorkerMetrics(registry: Metrics) {
  const registers = [registry]
  const events = new Counter({ registers, name: 'overrun_worker_events_total', labelNames: ['result'], help: 'Messages by what became of them. "dead-letter" rising: see overrun_dlq_messages_total. "duplicate" rising: senders retry, or a batch was read twice. "fact" is heartbeats and summaries of what quotas kept out.' })
  const statuses = new Counter({ registers, name: 'overrun_worker_analyses_total', labelNames: ['status'], help: 'Dumps by how well they could be read. "parser-killed" or "budget-exceeded" rising: somebody sends dumps that no honest device makes, or a new kind of dump is too large.' })
  const symbolicate = new Histogram({ registers, name: 'overrun_symbolicate_seconds', labelNames: ['format'], buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30], help: 'Time from a free parser to the analysis of one dump. Rising: larger dumps, cold symbols, or too few cores.' })
  const kills = new Counter({ registers, name: 'overrun_parser_kills_total', labelNames: ['why'], help: 'Parsers ended by force. Rising "time" or "memory": hostile or huge dumps. Rising "died" or "protocol": a defect in a parser.' })
  const unsymbolicated = new Counter({ registers, name: 'overrun_events_unsymbolicated_total', labelNames: ['reason'], help: 'Crashes with a module on the crashing stack that has no usable symbols. Rising: upload the builds that the page "symbols missing" lists.' })
  const deadLetters = new Counter({ registers, name: 'overrun_dlq_messages_total', labelNames: ['reason'], help: 'Messages that could not become a crash. Any rise wants a look: the row in dead_letters says what and where.' })
  const insertSeconds = new Histogram({ registers, name: 'overrun_clickhouse_insert_seconds', buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10], help: 'Time of one insert of a block. Rising: ClickHouse is busy merging or reading, or its disk is slow.' })
  const insertRows = new Counter({ registers, name: 'overrun_clickhouse_insert_rows_total', help: 'Rows that ClickHouse has acknowledged. Flat while crashes arrive: nothing reaches the pages.' })
  const insertFailures = new Counter({ registers, name: 'overrun_clickhouse_insert_failures_total', help: 'Inserts that failed and will be tried again with the same block. Rising: ClickHouse is away or refuses work; crashes wait in the log.' })
  const age = new Histogram({ registers, name: 'overrun_event_age_seconds', buckets: [0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200], help: 'From the acknowledgement of a crash to its row. The one number to promise: rising means that pages and alerts are late.' })
  const gaps = new Counter({ registers, name: 'overrun_queue_gap_messages_total', labelNames: ['topic'], help: 'Messages that the log deleted before any worker read them. Any rise is loss of acknowledged crashes: the worker was away for longer than the retention of the log, or the topic keeps too little.' })
  const stragglers = new Gauge({ registers, name: 'overrun_worker_stragglers', help: 'Slow dumps under way beside the batches. At its limit: slow dumps arrive faster than they can be given up.' })

  return {
    event: (result: Result, count = 1) => events.inc({ result }, count),
    analysis: (status: AnalysisStatus, format: string, seconds: number, missing: boolean) => {
      statuses.inc({ status })
      symbolicate.observe({ format: FORMATS.has(format) ? format : 'other' }, seconds)
      if (missing) unsymbolicated.inc({ reason: 'missing' })
    },
    kill: (why: string) => kills.inc({ why }),
    deadLetter: (reason: DeadLetterSlug) => deadLetters.inc({ reason }),
    inserted: (rows: number, seconds: number) => {
      insertRows.inc(rows)
      insertSeconds.observe(seconds)
    },
    insertFailed: () => insertFailures.inc(),
    written: (ageSeconds: number) => age.observe(Math.max(0, ageSeconds)),
    gap: (topic: string, messages: number) => gaps.inc({ topic }, messages),
    stragglers: (count: number) => stragglers.set(count),
  }
}
export type WorkerMetrics = ReturnType<typeof createWorkerMetrics>

/** How far the worker is behind; asked of the log when somebody looks. A log that can't say keeps its last figures: that it is away shows in /readyz. */
export function createQueueMetrics(registry: Metrics, topic: string, stats: () => Promise<LogStats>): void {
  const registers = [registry]
  let asked: Promise<LogStats | null> | undefined
  const now = () => (asked ??= stats().catch(() => null).finally(() => { asked = undefined }))
  new Gauge({
    registers, name: 'overrun_queue_lag_messages', labelNames: ['topic', 'partition'], help: 'Messages that the worker has not confirmed. Rising: crashes arrive faster than they are analysed, or ClickHouse is away.',
    async collect() {
      for (const { partition, lag } of (await now())?.partitions ?? []) this.set({ topic, partition: String(partition) }, lag)
    },
  })
  new Gauge({
    registers, name: 'overrun_queue_oldest_seconds', labelNames: ['topic'], help: 'Age of the oldest message that the worker has not confirmed. Rising steadily: it will meet the retention of the log.',
    async collect() {
      const known = await now()
      if (known !== null) this.set({ topic }, known.oldestAgeMs / 1000)
    },
  })
}

/** The symbol store's; apart, because the dashboard has a store and no worker. */
export function createSymbolMetrics(registry: Metrics) {
  const requests = new Counter({ registers: [registry], name: 'overrun_symbol_cache_requests_total', labelNames: ['result'], help: 'Look-ups of symbol files. "missing" rising: builds are in the field whose symbols nobody uploaded. "prepared" rising: the cache is too small.' })
  return { request: (result: 'cached' | 'prepared' | Exclude<SymbolStatus, 'found'>) => requests.inc({ result }) }
}
