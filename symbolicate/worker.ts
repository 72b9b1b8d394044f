import { readDump, archive } from './archive.ts'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import { endOf, TOPIC_ACCEPTED, type Log, type LogBatch, type LogConsumer, type LogEntry } from '../infra/log/log.ts'
import type { Clock } from '../infra/service/clock.ts'
import { BrokenWorld, messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { Metrics } from '../infra/service/metrics.ts'
import { NO_TRACING, type Span, type Tracing } from '../infra/service/tracing.ts'
import { decodeMessage, type AcceptedCrash } from '../ingest/contract.ts'
import { createArrivals } from './arrivals.ts'
import { createClaimed } from './claimed.ts'
import type { WorkerSettings } from './config.ts'
import type { Analysis, Archive } from './contract.ts'
import { createConvoy } from './convoy.ts'
import { bury, REPLAY_OF, type DeadLetter } from './dead-letter.ts'
import { createDeviceNumbers } from './device-numbers.ts'
import { writeFacts, type Facts } from './facts.ts'
import { tellGap } from './gap.ts'
import { createInflight, type Inflight } from './inflight.ts'
import { createInserter } from './insert.ts'
import { createQueueMetrics, createWorkerMetrics } from './metrics.ts'
import { createProcessor, type SymbolFiles } from './process.ts'
import { counterKey, usedCounters, type Counter, type Used } from './queries/counters.ts'
import { deviceKey } from './queries/device-numbers.ts'
import { marksOf, type Mark } from './queries/marks.ts'
import { nextOffset } from './queries/position.ts'
import { written, type Written } from './queries/written.ts'
import { createReprocessor } from './reprocess.ts'
import { createPool } from './sandbox/pool.ts'
import type { SymbolStore } from './symbols/store.ts'
import { unreadable } from './unreadable.ts'
import { claimedRowOf, dateTime, revised, rowOf, type CrashRow } from './write.ts'

/**
 * From the log to the table. Promise: every acknowledged crash ends as exactly one crash in every count, or as one dead
 * letter with its reason; kill -9 anywhere, duplicates and rebalances included.
 *
 * A batch, together with those of other partitions that are there (convoy.ts): decode; drop what is there already; archive
 * the dumps as one object a partition, while the pool analyses them; one block into `crashes`; the dead letters; then, as
 * their own rows, the positions. What is half done when the process dies is done
 * again and says the same key: that of a row (fleet, event time, id) comes from ingest, and everything that counts counts
 * keys. So a re-read entry is written again, for the views that a kill may have cut off and because symbols may have come
 * meanwhile: then it says something else and has the next revision (write.ts); only an entry whose crash the table holds from another place in the log is a duplicate.
 *
 * The position that counts is the one in ClickHouse: start reads it, the log's own may be ahead by the slow dumps that
 * are still under way (inflight.ts). Order is decided here: of two reports with the same counters and other bytes, the
 * later in the log is the one that reused them. Who was shut out since ingest took the crash is marked here (queries/marks.ts).
 *
 * A crash that came without its dump (claimed.ts) is written behind the dumps of its batch, with the bucket of the crash
 * that it names.
 */
export interface WorkerDeps {
  settings: WorkerSettings
  log: Log
  blobs: Blobs
  symbols: SymbolFiles & Pick<SymbolStore, 'cacheDirectory' | 'forget'>
  clickhouse: ClickHouse
  clock: Clock
  logger: Logger
  metrics: Metrics
  tracing?: Tracing
}

export interface Worker {
  /** Resolves when the log hands over its first batches. */
  start(): Promise<void>
  /** Finishes the batch in hand unless ClickHouse is away; slow dumps are left to the next start. */
  stop(): Promise<void>
  /** Rejects with the reason when there is no parser. */
  ready(): Promise<void>
  /** Crashes of its partitions that wait for these modules' symbols, analysed again: how many changed. */
  reprocess(debugIds: readonly string[]): Promise<number>
  /** Symbols have arrived in this process: look for them now rather than with the next poll. */
  look(): void
}

/** A crash and where the log holds it. */
interface Item { crash: AcceptedCrash; entry: LogEntry; batch: LogBatch }
interface Letter extends DeadLetter { batch: LogBatch }
interface Done extends Item { row: CrashRow }
/** Written later than its batch: a slow dump, or a crash whose named crash is not there yet. */
interface Late { item: Item; row: (givenUp: () => boolean) => Promise<CrashRow> }

/** A convoy's names and keys go to ClickHouse in one address. */
const CONVOY_ENTRIES = 512

export function createWorker({ settings, log, blobs, symbols, clickhouse, clock, logger, metrics: registry, tracing = NO_TRACING }: WorkerDeps): Worker {
  const metrics = createWorkerMetrics(registry)
  createQueueMetrics(registry, TOPIC_ACCEPTED, () => log.stats(TOPIC_ACCEPTED, settings.group))
  const { children: size, timeMs, patienceMs, memoryBytes, answerBytes } = settings.sandbox
  const pool = createPool({ size, timeMs, patienceMs, memoryBytes, answerBytes, idleMs: null, cacheDirectory: symbols.cacheDirectory, logger, onKill: metrics.kill })
  const inserter = createInserter({ clickhouse, logger, metrics, retryMs: settings.retryMs, retryMaxMs: settings.retryMaxMs })
  const process = createProcessor({ pool, symbols, inflateBytes: settings.sandbox.inflateBytes, metrics })
  const inflights = new Map<number, Inflight>()
  /** Crashes that are analysed now, by id, with their counters; slow ones stay here beyond their batch. */
  const underWay = new Map<string, string | null>()
  /** From the start of a crash's analysis to its row, under the span that the door sent with it. */
  const spans = new Map<string, Span>()
  const stragglers = new Set<Promise<void>>()
  const batches = new Set<Promise<void>>()
  let consumer: LogConsumer | null = null
  let stopping = false
  const isStopping = () => stopping
  const deviceNumbers = createDeviceNumbers(clickhouse)
  const claimed = createClaimed({
    clickhouse, logger, retryMs: settings.retryMs, retryMaxMs: settings.retryMaxMs, waitMs: settings.claimWaitMs, isUnderWay: (id) => underWay.has(id), isStopping,
  })
  const reprocessor = createReprocessor({ clickhouse, blobs, symbols, process, inserter, clock, logger, metrics, partitions: () => consumer?.assigned() ?? [], settled: () => Promise.allSettled([...batches, ...stragglers]), isStopping })

  const arrivals = createArrivals({
    clickhouse, clock, logger, pollMs: settings.arrivalsMs, settleMs: settings.symbols.relistMs + settings.sandbox.timeMs, onArrival: (debugIds) => reprocessor.reprocess(debugIds),
  })

  async function startAt(partition: number): Promise<number> {
    deviceNumbers.forget()
    inflights.set(partition, createInflight())
    if (consumer !== null) reprocessor.sweep()
    return nextOffset(clickhouse, TOPIC_ACCEPTED, partition)
  }

  const convoy = createConvoy((batches) => tracing.span('symbolicate batch', {
    kind: 'consumer', links: batches.flatMap(({ entries }) => entries.map(({ headers }) => headers)),
    attributes: {
      'messaging.batch.message_count': batches.reduce((sum, { entries }) => sum + entries.length, 0),
      'messaging.destination.partition.id': batches.map(({ partition }) => partition).join(' '),
    },
  }, () => handle(batches)), { maxEntries: CONVOY_ENTRIES, isStopping })

  async function handle(batches: readonly LogBatch[]): Promise<void> {
    const givenUp = () => stopping || batches.every((batch) => batch.stale())
    // As of now: a partition that is lost and comes back begins anew.
    const inflightOf = new Map(batches.map((batch) => [batch, inflights.get(batch.partition) ?? createInflight()]))
    const { items, facts, letters } = decodeBatches(batches)
    const [there, used, marks] = await Promise.all([
      written(clickhouse, [...new Set(items.map(({ crash }) => crash.id))]),
      usedCounters(clickhouse, items.flatMap(({ crash }) => counterOf(crash) ?? [])),
      marksOf(clickhouse, items.map(({ crash }) => crash)),
    ])
    const kept = withoutDuplicates(items, there)
    const judged = judgeCounters(kept, used).map((item) => marked(item, marks))
    const numbers = await deviceNumbers.of(judged.map(({ crash: { fleet, deviceId: device }, entry: { offset }, batch: { partition } }) => ({ fleet, device, partition, offset })))

    for (const { crash, entry } of judged) {
      underWay.set(crash.id, counterKeyOf(crash))
      spans.set(crash.id, tracing.start('symbolicate crash', { kind: 'consumer', parent: entry.headers, attributes: { 'overrun.crash': crash.id, 'messaging.kafka.offset': entry.offset } }))
    }
    const handedOn = new Set<string>()
    try {
      const claims = judged.filter(({ crash }) => crash.claimedOf !== undefined)
      const work = judged.filter(({ crash }) => crash.claimedOf === undefined).map((item) => ({ item, ...process(inputOf(item.crash)) }))
      const [places] = await Promise.all([
        Promise.all(batches.map((batch) => packed(batch, judged.filter((item) => item.batch === batch)))),
        Promise.all(work.map(({ analysis, slow }) => Promise.race([analysis, slow]))),
      ])
      const placeOf = new Map(places.flat())
      const found = ({ crash, entry, batch: { topic, partition } }: Item) => ({
        accepted: crash, position: { topic, partition, offset: entry.offset }, revision: 0,
        deviceNumber: numbers.get(deviceKey({ fleet: crash.fleet, device: crash.deviceId })) as number, archive: placeOf.get(crash.id) as Archive,
      })
      const ready: Done[] = []
      const late: Late[] = []
      for (const { item, analysis } of work) {
        const now = await Promise.race([analysis, Promise.resolve(null)])
        const row = (analysed: Analysis) => rowOf({ ...found(item), analysis: analysed }, clock.now())
        if (now === null) late.push({ item, row: async (givenUp) => row(await insist('analyse', item.crash, (tries) => (tries === 0 ? analysis : process(inputOf(item.crash)).analysis), givenUp)) })
        else ready.push({ ...item, row: settled(row(now), there) })
      }
      // Never taken for handled: by the clock a partition may be lost now and ours again in a moment.
      if (batches.some((batch) => batch.stale())) throw new BrokenWorld('stopped', 'a partition of the batch is another worker\'s by now', { retryable: true })
      await writeCrashes(ready, letters, givenUp)
      const standing = await claimed.present(claims.map(({ crash }) => crash.claimedOf as string))
      const known: Done[] = []
      for (const item of claims) {
        const named = standing.get(item.crash.claimedOf as string)
        if (named === undefined) late.push({ item, row: () => claimedRow(item.crash, found(item)) })
        else known.push({ ...item, row: settled(claimedRowOf(found(item), named, clock.now()), there) })
      }
      await writeCrashes(known, letters, givenUp)
      await writeFacts(facts, inserter, givenUp)
      metrics.event('fact', facts.heartbeats.length + facts.refused.length)
      for (const batch of batches) {
        await tellGap(batch, { clickhouse, inserter, logger, metrics, now: clock.now(), givenUp })
        await bury(letters.filter((letter) => letter.batch === batch), batch, { log, inserter, metrics, now: clock.now(), givenUp })
      }
      metrics.event('duplicate', items.length - kept.length)

      for (const [batch, inflight] of inflightOf) inflight.read(endOf(batch), late.filter(({ item }) => item.batch === batch).map(({ item }) => item.entry.offset))
      await writePositions([...inflightOf], givenUp)
      for (const straggler of late) {
        handedOn.add(straggler.item.crash.id)
        track(stragglers, follow(straggler, inflightOf.get(straggler.item.batch) as Inflight))
        metrics.stragglers(stragglers.size)
      }
      while (stragglers.size >= settings.stragglers && !givenUp()) await Promise.race(stragglers)
    } finally {
      for (const { crash } of judged) if (!handedOn.has(crash.id)) forget(crash.id)
    }
  }

  async function packed({ topic, partition }: LogBatch, items: readonly Item[]): Promise<(readonly [id: string, Archive])[]> {
    const places = await archive(blobs, topic, partition, items.map(({ crash, entry }) => ({ crash, offset: entry.offset })))
    return items.map(({ crash }, index) => [crash.id, places[index] as Archive] as const)
  }

  function forget(id: string): void {
    underWay.delete(id)
    spans.get(id)?.end()
    spans.delete(id)
  }

  /**
   * The end of a late one: its row, then the position. Until then a restart reads it again. It is looked up once more, since a
   * partition may have been another worker's meanwhile, who has read it again, perhaps with other symbols or rules.
   */
  async function follow({ item, row }: Late, inflight: Inflight): Promise<void> {
    const { batch } = item
    const givenUp = () => stopping || batch.stale()
    try {
      const letters: Letter[] = []
      const made = await row(givenUp)
      const there = await insist('look up', item.crash, () => written(clickhouse, [made.id]), givenUp)
      await writeCrashes([{ ...item, row: settled(made, there) }], letters, givenUp)
      await bury(letters, batch, { log, inserter, metrics, now: clock.now(), givenUp })
      inflight.finish(item.entry.offset)
      await writePositions([[batch, inflight]], givenUp)
    } catch (error) {
      if (!givenUp()) logger.error({ stage: 'worker', crash: item.crash.id, topic: batch.topic, partition: batch.partition, offset: item.entry.offset, reason: messageOf(error) }, 'a slow dump was left to the next start')
    } finally {
      forget(item.crash.id)
      metrics.stragglers(stragglers.size - 1)
    }
  }

  /** Without a row of the named crash, what is left is that it crashed. */
  async function claimedRow(crash: AcceptedCrash, found: Parameters<typeof claimedRowOf>[0]): Promise<CrashRow> {
    const named = await claimed.awaited(crash.claimedOf as string)
    if (named !== null) return claimedRowOf(found, named, clock.now())
    const analysis = unreadable('dump-missing', `the device named crash ${crash.claimedOf} instead of sending a dump, and that crash has no row`, crash)
    return rowOf({ ...found, analysis }, clock.now())
  }

  /** Tried again for as long as the world (never the dump) keeps it from ending. */
  async function insist<T>(stage: string, crash: AcceptedCrash, attempt: (tries: number) => Promise<T>, givenUp: () => boolean): Promise<T> {
    for (let tries = 0, wait = settings.retryMs; ; tries++, wait = Math.min(wait * 2, settings.retryMaxMs)) {
      try {
        return await attempt(tries)
      } catch (error) {
        if (givenUp()) throw error
        logger.warn({ stage, crash: crash.id, retryInMs: wait, reason: messageOf(error) }, 'a slow crash is not written yet, it will be tried again')
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
  }

  const inputOf = (crash: AcceptedCrash) => {
    const { contentType, claims, annotations, dump } = crash
    const load = async () => ('blob' in dump ? readDump(blobs, { pack: dump.blob, dumpOffset: 0, dumpLength: crash.size }) : dump.bytes)
    return { contentType, claims, annotations, load }
  }

  /** Appends to `letters` the rows that ClickHouse refuses. */
  async function writeCrashes(crashes: readonly Done[], letters: Letter[], givenUp: () => boolean): Promise<void> {
    if (crashes.length === 0) return
    const sources = new Map(crashes.map(({ crash, entry, batch }) => [crash.id, { entry, batch }]))
    const { refused } = await tracing.span('insert crashes', { kind: 'client', attributes: { 'db.system.name': 'clickhouse', 'db.operation.batch.size': crashes.length } },
      () => inserter.insert('crashes', crashes.map(({ row }) => row), givenUp))
    for (const { row, reason } of refused) letters.push({ slug: 'row-refused', reason, ...sources.get(row.id) as Pick<Item, 'entry' | 'batch'> })
    for (const { crash, row } of crashes) {
      spans.get(crash.id)?.set({ 'overrun.status': row.status, 'overrun.bucket': row.bucket })
      metrics.written((clock.now() - crash.receivedAt) / 1000)
      if (row.status !== 'ok' && row.status !== 'partial') {
        logger.info({ stage: 'analyse', crash: crash.id, slug: row.status, reason: row.status_reason, topic: row.topic, partition: row.partition, offset: row.offset }, 'a dump could not be read')
      }
    }
    metrics.event('written', crashes.length - refused.length)
  }

  async function writePositions(read: readonly (readonly [LogBatch, Inflight])[], givenUp: () => boolean): Promise<void> {
    const rows = read.flatMap(([{ topic, partition }, { position }]) =>
      (position === null ? [] : [{ topic, partition, next_offset: position, written_at: dateTime(clock.now()) }]))
    if (rows.length > 0) await inserter.insert('positions', rows, givenUp)
  }

  /** What the table holds from another place in the log, or what comes twice here or is under way as a slow dump. */
  function withoutDuplicates(items: readonly Item[], there: ReadonlyMap<string, readonly Written[]>): Item[] {
    const seen = new Set<string>()
    return items.filter(({ crash: { id }, entry, batch }) => {
      const places = there.get(id) ?? []
      const reread = places.some((place) => place.topic === batch.topic && place.partition === batch.partition && place.offset === entry.offset)
      const duplicate = seen.has(id) || underWay.has(id) || (places.length > 0 && !reread)
      seen.add(id)
      return !duplicate
    })
  }

  /** The later of two reports with the same counters and other bytes reused them, whatever ingest saw of them. */
  function judgeCounters(items: readonly Item[], used: ReadonlyMap<string, readonly Used[]>): Item[] {
    const here = new Map<string, string>()
    for (const [id, key] of underWay) if (key !== null) here.set(key, id)
    return items.map((item) => {
      const counter = counterOf(item.crash)
      if (counter === null) return item
      const key = counterKey(counter)
      const first = here.get(key) ?? item.crash.id
      here.set(key, first)
      const before = (used.get(key) ?? []).some(({ id, topic, partition, offset }) =>
        id !== item.crash.id && !(topic === item.batch.topic && partition === item.batch.partition && offset >= item.entry.offset))
      if (!before && first === item.crash.id) return item
      return { ...item, crash: { ...item.crash, standing: 'counter-reuse' } }
    })
  }

  return {
    async start() {
      await pool.ready()
      const { group, batchEntries: maxEntries, batchBytes: maxBytes, batchWaitMs: maxWaitMs } = settings
      consumer = await log.consume({ topic: TOPIC_ACCEPTED, group, startAt, maxEntries, maxBytes, maxWaitMs }, (batch) => track(batches, convoy(batch)))
      reprocessor.sweep()
      arrivals.start()
    },
    async stop() {
      stopping = true
      await consumer?.stop()
      await pool.stop()
      await Promise.allSettled([...batches, ...stragglers])
      await arrivals.stop()
      await reprocessor.stop()
    },
    ready: () => pool.ready(),
    reprocess: (debugIds) => reprocessor.reprocess(debugIds),
    look: () => arrivals.look(),
  }
}

const marked = (item: Item, marks: ReadonlyMap<string, readonly Mark[]>): Item => {
  const its = marks.get(item.crash.id)
  return its === undefined ? item : { ...item, crash: { ...item.crash, flags: [...new Set([...item.crash.flags, ...its])] } }
}

/** As a revision of what is there. */
function settled(row: CrashRow, there: ReadonlyMap<string, readonly Written[]>): CrashRow {
  const before = newestOf(there.get(row.id) ?? [])
  return before === undefined ? row : revised(row, before)
}

const newestOf = (places: readonly Written[]): Written | undefined => places.toSorted((a, b) => b.revision - a.revision)[0]

function decodeBatches(batches: readonly LogBatch[]): { items: Item[]; facts: Facts; letters: Letter[] } {
  const items: Item[] = []
  const facts: Facts = { heartbeats: [], refused: [] }
  const letters: Letter[] = []
  for (const batch of batches) {
    if (batch.gap !== undefined) {
      const { from, to } = batch.gap
      letters.push({ slug: 'retention-gap', reason: `log: offsets ${from} to ${to - 1} were deleted before they were read`, entry: { offset: from, key: '', value: new Uint8Array(0), headers: {} }, batch })
    }
    for (const entry of batch.entries) {
      if (entry.fault !== undefined) {
        letters.push({ slug: entry.fault, reason: `log: the ${entry.value.length} stored bytes are not the bytes that were written`, entry, batch })
        continue
      }
      const decoded = decodeMessage(entry.value)
      if ('crash' in decoded) items.push({ crash: replayed(decoded.crash, entry), entry, batch })
      else if ('heartbeat' in decoded) facts.heartbeats.push(decoded.heartbeat)
      else if ('refused' in decoded) facts.refused.push(decoded.refused)
      else letters.push({ ...decoded, entry, batch })
    }
  }
  return { items, facts, letters }
}

/** It comes late because somebody put it back: people should see why. */
const replayed = (crash: AcceptedCrash, { headers }: LogEntry): AcceptedCrash =>
  (headers[REPLAY_OF] === undefined ? crash : { ...crash, flags: [...new Set([...crash.flags, 'replayed'])] })

function counterOf({ deviceKeyId, epoch = 0, claims }: AcceptedCrash): Counter | null {
  if (deviceKeyId === undefined || claims.bootcount === undefined || claims.seq === undefined) return null
  return { deviceKey: deviceKeyId, epoch, bootcount: claims.bootcount, seq: claims.seq }
}

function counterKeyOf(crash: AcceptedCrash): string | null {
  const counter = counterOf(crash)
  return counter === null ? null : counterKey(counter)
}

/** Keeps a promise in a set for as long as it is under way. */
function track(set: Set<Promise<void>>, work: Promise<void>): Promise<void> {
  set.add(work)
  const done = () => set.delete(work)
  work.then(done, done)
  return work
}
