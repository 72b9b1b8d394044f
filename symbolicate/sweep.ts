import { setTimeout as delay } from 'node:timers/promises'
import { hostname } from 'node:os'
import { Counter } from 'prom-client'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import { TOPIC_ACCEPTED, type Log } from '../infra/log/log.ts'
import { messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { Metrics } from '../infra/service/metrics.ts'
import { manifestBytesOf } from './archive.ts'
import type { ArchiveSettings } from './config.ts'
import { lastSweep, namedObjects } from './queries/named.ts'
import { writtenPositions } from './queries/position.ts'
import { dateTime } from './write.ts'

/**
 * Keeps the archive to what a crash names and to its age. Symbols are not its business.
 *
 * orphan   No row names the object: ingest was killed between the blob and the log, or a worker between the pack and its
 *          rows. It goes when it is older than a day and everything that was in the log when it was uploaded, and for an hour
 *          after, is written. So an outage of ClickHouse, however long, costs no dump: the position stands still meanwhile.
 * aged     Dumps go after `dumpDays`: a large one is removed, a pack is cut to its manifests. Those, the evidence of who said
 *          what, go `manifestDays` later. Again never before the log has been written that far.
 *
 * All times are those of this machine, the log and the store, never the story's clock; an hour is more than they differ.
 * Several may sweep at once: each looks at an object once more right before it removes it, and removing twice is removing.
 */
const DAY = 86_400_000
const ORPHAN_AFTER_MS = DAY
const SKEW_MS = 3_600_000
const PREFIXES = ['dumps/', 'packs/'] as const
/** Keys of one question; each is up to 200 bytes. */
const ASKED_AT_ONCE = 2_000
/** Objects that a report names; the others are counted. */
const NAMED_AT_MOST = 100

interface Tally { objects: number; bytes: number; keys: string[] }
export interface Swept {
  /** Milliseconds since the epoch. */
  at: number
  dryRun: boolean
  objects: number
  orphans: Tally
  aged: Tally
  /** Objects that nobody names, or that have reached their age, and that stay until the log is written further. */
  waiting: number
  /** Everything that the log took before is written. */
  writtenUntil: number
}

export interface SweepDeps {
  log: Pick<Log, 'stats'>
  blobs: Blobs
  clickhouse: ClickHouse
  settings: ArchiveSettings
  /** Of this machine. */
  now?: () => number
}

interface Found { key: string; size: number; modifiedAt: number }

export async function sweep({ log, blobs, clickhouse, settings, now = Date.now }: SweepDeps, { dryRun }: { dryRun: boolean }): Promise<Swept> {
  const at = now()
  const { lag, oldestAgeMs } = await log.stats(TOPIC_ACCEPTED, await writtenPositions(clickhouse, TOPIC_ACCEPTED))
  const writtenUntil = lag === 0 ? at : at - oldestAgeMs
  const swept: Swept = { at, dryRun, objects: 0, orphans: emptyTally(), aged: emptyTally(), waiting: 0, writtenUntil }
  const isWritten = ({ modifiedAt }: Found) => modifiedAt < writtenUntil - SKEW_MS
  const ageOf = ({ modifiedAt }: Found) => at - modifiedAt

  for (const prefix of PREFIXES) {
    let asked: Found[] = []
    for await (const object of blobs.list(prefix)) {
      swept.objects++
      const excess = excessOf(object, ageOf(object), settings)
      if (excess !== null) {
        if (!isWritten(object)) swept.waiting++
        else if (dryRun || await cut(object, excess.keep)) add(swept.aged, object.key, object.size - excess.keep)
      } else if (ageOf(object) > ORPHAN_AFTER_MS) {
        asked.push(object)
        if (asked.length === ASKED_AT_ONCE) asked = await sweepOrphans(asked)
      }
    }
    await sweepOrphans(asked)
  }
  return swept

  async function sweepOrphans(objects: readonly Found[]): Promise<Found[]> {
    if (objects.length === 0) return []
    const named = await namedObjects(clickhouse, objects.map(({ key }) => key))
    for (const object of objects) {
      if (named.has(object.key)) continue
      if (!isWritten(object)) swept.waiting++
      else if (dryRun || await cut(object, 0)) add(swept.orphans, object.key, object.size)
    }
    return []
  }

  /** Removes the object but for its beginning. False when somebody wrote it anew meanwhile. */
  async function cut({ key, modifiedAt, size }: Found, keep: number): Promise<boolean> {
    const there = await blobs.head(key)
    // S3 lists times to the millisecond and tells a single object's to the second.
    const same = there !== null && there.size === size && Math.abs(there.modifiedAt - modifiedAt) < 1000
    if (!same) return false
    if (keep === 0) {
      await blobs.delete(key)
      return true
    }
    const beginning = await blobs.get(key, { start: 0, end: keep })
    if (beginning === null || beginning.length !== keep) return false
    await blobs.put(key, beginning, { contentType: 'application/octet-stream' })
    return true
  }
}

/** What is to be left of an object by its age; null when it may stay as it is. */
function excessOf({ key, size }: Found, ageMs: number, { dumpDays, manifestDays }: ArchiveSettings): { keep: number } | null {
  if (key.startsWith('dumps/')) return ageMs > dumpDays * DAY ? { keep: 0 } : null
  const manifestBytes = manifestBytesOf(key)
  // A pack that mixes both can only go whole.
  if (manifestBytes === null) return ageMs > (dumpDays + manifestDays) * DAY ? { keep: 0 } : null
  // A cut pack was written anew when it was cut, and its age counts from there.
  if (size <= manifestBytes) return ageMs > manifestDays * DAY ? { keep: 0 } : null
  return ageMs > dumpDays * DAY ? { keep: manifestBytes } : null
}

const emptyTally = (): Tally => ({ objects: 0, bytes: 0, keys: [] })

function add(tally: Tally, key: string, bytes: number): void {
  tally.objects++
  tally.bytes += bytes
  if (tally.keys.length < NAMED_AT_MOST) tally.keys.push(key)
}

/** One row a pass: what the workers agree by on who sweeps, and what people see of it. */
export async function recordSweep(clickhouse: ClickHouse, { at, objects, orphans, aged }: Swept): Promise<void> {
  await clickhouse.insert({
    table: 'sweeps', format: 'JSONEachRow',
    values: [{ at: dateTime(at), swept_by: `${hostname()}/${process.pid}`, objects, orphans: orphans.objects, orphan_bytes: orphans.bytes, aged: aged.objects, aged_bytes: aged.bytes }],
  })
}

/** Sweeps every `sweepHours`, whichever worker comes first. What fails is tried at the next look. */
export function startSweeper({ logger, metrics, ...deps }: SweepDeps & { logger: Logger; metrics: Metrics }): { stop(): Promise<void> } {
  const removed = new Counter({
    registers: [metrics], name: 'overrun_archive_removed_objects_total', labelNames: ['why'],
    help: 'Objects that the sweep removed or cut. "orphan" rising: ingest or workers die between a blob and what names it. "age" is retention.',
  })
  const { clickhouse, settings, now = Date.now } = deps
  const everyMs = settings.sweepHours * 3_600_000
  const stopping = new AbortController()
  const running = run()

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      // Not all workers at the same moment.
      await delay(Math.min(everyMs / 4, 2 ** 31 - 1) * (0.5 + Math.random()), undefined, { ref: false, signal: stopping.signal }).catch(() => undefined)
      if (stopping.signal.aborted) return
      try {
        if (now() - await lastSweep(clickhouse) < everyMs) continue
        const swept = await sweep(deps, { dryRun: false })
        await recordSweep(clickhouse, swept)
        removed.inc({ why: 'orphan' }, swept.orphans.objects)
        removed.inc({ why: 'age' }, swept.aged.objects)
        logger.info({ stage: 'sweep', objects: swept.objects, orphans: swept.orphans.objects, aged: swept.aged.objects, waiting: swept.waiting }, 'the archive was swept')
      } catch (error) {
        logger.warn({ stage: 'sweep', reason: messageOf(error) }, 'the archive was not swept')
      }
    }
  }

  return {
    async stop() {
      stopping.abort()
      // A pass that is under way ends between two objects or with its process: nothing depends on its end.
      await Promise.race([running, delay(1000, undefined, { ref: false })])
    },
  }
}
