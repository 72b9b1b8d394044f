import { setTimeout as delay } from 'node:timers/promises'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import type { Clock } from '../infra/service/clock.ts'
import { messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import { CONTENT_TYPES } from '../ingest/contract.ts'
import { readDump } from './archive.ts'
import type { Inserter } from './insert.ts'
import type { WorkerMetrics } from './metrics.ts'
import type { DumpInput, Processing } from './process.ts'
import { missingModules } from './queries/missing.ts'
import { crashRows } from './queries/rows.ts'
import { FIRST_KEY, waitingFor } from './queries/waiting.ts'
import type { SymbolStore } from './symbols/store.ts'
import { analysedColumns, claimedColumns, renewedRow, claimsOf, type CrashRow } from './write.ts'

/**
 * Symbols arrive after the crash: whoever waits for them is read back from the archive, analysed again and written with
 * the next revision. The key stays, so the crash is counted once as before; only what was computed from it is new.
 *
 * Each worker does this for the crashes of the partitions that it owns, so that workers share the work, no two write the
 * same revision, and what is analysed at this moment is known (`settled`). A second run for the same module finds nobody
 * waiting. A crash whose new analysis is no better (its parser was killed, the symbols are for another file) keeps its row.
 * A worker that dies half-way leaves the rest to whoever gets its partitions: getting them is a reason to sweep.
 */
export interface Reprocessor {
  /** Of these modules the symbols have arrived: how many crashes changed. */
  reprocess(debugIds: readonly string[]): Promise<number>
  /** In the background: reprocesses for every module that crashes wait for and the store has. */
  sweep(): void
  stop(): Promise<void>
}

const PAGE = 64

/** How many of these modules the crash still waits for. */
const missing = (row: CrashRow, debugIds: readonly string[]): number => row.missing_symbols.filter(({ debug_id }) => debugIds.includes(debug_id)).length

export function createReprocessor({ clickhouse, blobs, symbols, process, inserter, clock, logger, metrics, partitions, settled, isStopping }: {
  clickhouse: ClickHouse
  blobs: Blobs
  symbols: Pick<SymbolStore, 'locate' | 'forget'>
  process: (input: DumpInput) => Processing
  inserter: Inserter
  clock: Clock
  logger: Logger
  metrics: WorkerMetrics
  /** What this worker owns now. */
  partitions: () => readonly number[]
  /** Resolves when the crashes that are analysed now, perhaps without the new symbols, are in the table. */
  settled: () => Promise<unknown>
  isStopping: () => boolean
}): Reprocessor {
  let last: Promise<unknown> = Promise.resolve()
  let sweeping: Promise<void> | null = null
  let sweepAgain = false

  /** One at a time: two that complete the same crash must not write the same revision twice. */
  function reprocess(debugIds: readonly string[]): Promise<number> {
    const run = last.then(() => reprocessAll(debugIds))
    last = run.catch(() => {})
    return run
  }

  async function reprocessAll(debugIds: readonly string[]): Promise<number> {
    for (const debugId of debugIds) symbols.forget(debugId)
    await settled()
    const changed = await renewAll(debugIds, false) + await renewAll(debugIds, true)
    logger.info({ stage: 'reprocess', debugIds, changed }, 'symbols arrived')
    return changed
  }

  /** Crashes with a dump before those that stand on the dump of another. */
  async function renewAll(debugIds: readonly string[], claimed: boolean): Promise<number> {
    let changed = 0
    let after = FIRST_KEY
    while (!isStopping()) {
      const rows = await waitingFor(clickhouse, { debugIds, partitions: partitions(), claimed, after, limit: PAGE })
      const end = rows.at(-1)
      if (end === undefined) break
      const named = await crashRows(clickhouse, [...new Set(rows.flatMap(({ claimed_of }) => (claimed_of === '' ? [] : [claimed_of])))])
      const renewed = (await Promise.all(rows.map((row) => (claimed ? follow(row, named.get(row.claimed_of), debugIds) : renew(row, debugIds))))).filter((row) => row !== null)
      await inserter.insert('crashes', renewed, isStopping)
      metrics.event('reprocessed', renewed.length)
      changed += renewed.length
      after = { fleet: end.fleet, event_time: end.event_time, id: end.id }
    }
    return changed
  }

  /** A claimed crash goes where the crash that it names went. */
  function follow(row: CrashRow, named: CrashRow | undefined, debugIds: readonly string[]): CrashRow | null {
    if (named === undefined || missing(named, debugIds) >= missing(row, debugIds)) return null
    return renewedRow(row, claimedColumns(named, 0, clock.now()))
  }

  async function renew(row: CrashRow, debugIds: readonly string[]): Promise<CrashRow | null> {
    const contentType = CONTENT_TYPES.find((type) => type === row.content_type)
    if (contentType === undefined) return null
    const place = { pack: row.pack, dumpOffset: Number(row.dump_offset), dumpLength: Number(row.dump_length) }
    const analysis = await process({ contentType, claims: claimsOf(row), annotations: row.annotations, load: () => readDump(blobs, place) }).analysis
    const renewed = renewedRow(row, analysedColumns(analysis, 0, clock.now()))
    const better = (analysis.status === 'ok' || analysis.status === 'partial') && missing(renewed, debugIds) < missing(row, debugIds)
    return better ? renewed : null
  }

  async function sweepAll(): Promise<void> {
    for (let wait = 1000; !isStopping(); wait = Math.min(wait * 2, 60_000)) {
      try {
        const there: string[] = []
        for (const module of await missingModules(clickhouse, partitions())) {
          if (isStopping()) return
          if ((await symbols.locate(module)).status === 'found') there.push(module.debugId)
        }
        if (there.length > 0) await reprocess(there)
        return
      } catch (error) {
        if (isStopping()) return
        logger.warn({ stage: 'reprocess', retryInMs: wait, reason: messageOf(error) }, 'could not look for crashes whose symbols have arrived')
        await delay(wait, undefined, { ref: false })
      }
    }
  }

  return {
    reprocess,
    /** One at a time; asked for while one runs, another follows, because it may concern other partitions. */
    sweep() {
      sweepAgain = sweeping !== null
      sweeping ??= sweepAll().finally(() => {
        sweeping = null
        if (sweepAgain && !isStopping()) this.sweep()
      })
    },
    async stop() {
      await Promise.race([Promise.all([last, sweeping]), delay(1000, undefined, { ref: false })])
    },
  }
}
