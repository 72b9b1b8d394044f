import { open, type Database } from 'lmdb'
import { BrokenWorld, messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'

/**
 * Freshness without a clock: every report of a device key carries (bootcount, seq), and each pair is good for one dump.
 * Kept per (fleet, device key): the last 64 boots, at most 1,024 reports. What is older than that window can't be told
 * from a replay any more; it is taken as `stale` and stays out of every baseline.
 *
 * Promise: a report is answered 'duplicate' only if it is durable in the log. So the order is: the log FIRST, this
 * record after it. The other way round, a kill between the two would leave a record of something that was never stored,
 * and the device, told 'duplicate', would delete the only copy. In the order kept here a kill in between costs one
 * message that stands in the log twice under one crash id, and whoever reads the log expects that anyway. For the same
 * reason nothing waits for this database to sync: losing its last records loses no crash.
 *
 * Reports with equal counters that are in flight at the same time wait for each other's outcome: of two different
 * dumps under one (boot, seq) exactly one is fresh, whichever becomes durable first.
 *
 * Memory holds only what is not yet committed; the rest is lmdb's map of the file. Windows belong to one ingest
 * process; where several share a fleet, crash ids make the worker count a report once wherever it came in.
 *
 * A device that was rebased (contract.ts: epoch) has a window of its own for each life of its counters.
 *
 * Layout: key = length of name (u8), name (fleet, or fleet NUL epoch), device key (32 bytes) -> window;
 *         the same with boot (u64) and seq (u64) behind it -> digest (32 bytes). Numbers are big-endian, so keys sort by age.
 */
export interface Report { fleet: string; deviceKeyId: string; epoch: number; bootcount: number; seq: number; digest: string }

export type Freshness =
  | { kind: 'fresh'; previousEvent: number }
  | { kind: 'duplicate' }
  | { kind: 'reuse'; previousEvent: number }
  | { kind: 'stale'; previousEvent: number }

/** A fresh report holds its counters until it is kept (it is in the log) or released (it is not). */
export type Claim = Exclude<Freshness, { kind: 'fresh' }> | {
  kind: 'fresh'
  /** Event time of the newest report that was kept for this device key; 0 when there is none. */
  previousEvent: number
  keep(eventTime: number): void
  release(): void
}

export interface Replay {
  /** What the report would be now, without waiting and without holding anything. */
  look(report: Report): Freshness
  /** Waits while a report with the same counters is in flight, then decides. */
  claim(report: Report): Promise<Claim>
  close(): Promise<void>
}

const BOOTS = 64
const REPORTS = 1024

/** Reports below (firstBoot, firstSeq) are older than the window. */
interface Window { highestBoot: number; firstBoot: number; firstSeq: number; reports: number; lastEvent: number }
interface Kept extends Report { eventTime: number }

export function createReplay({ directory, logger }: { directory: string; logger: Logger }): Replay {
  const db = openDatabase(directory)
  const inFlight = new Map<string, Promise<void>>()
  const uncommitted = new Map<string, string>()
  const newestUncommitted = new Map<string, Kept>()
  let queue: Kept[] = []
  let writing: Promise<void> | null = null

  function look(report: Report): Freshness {
    const counters = countersOf(report)
    const digest = uncommitted.get(counters) ?? db.get(entryKey(report))?.toString('hex')
    if (digest === report.digest) return { kind: 'duplicate' }
    const window = windowOf(report)
    const previousEvent = window.lastEvent
    if (digest !== undefined) return { kind: 'reuse', previousEvent }
    return { kind: isOlder(report, window) ? 'stale' : 'fresh', previousEvent }
  }

  /** The committed window, widened by what waits to be committed. */
  function windowOf(report: Report): Window {
    const window = readWindow(db.get(domainKey(report)))
    const newest = newestUncommitted.get(domainOf(report))
    return newest ? advance(window, newest) : window
  }

  async function claim(report: Report): Promise<Claim> {
    const counters = countersOf(report)
    for (let other = inFlight.get(counters); other; other = inFlight.get(counters)) await other
    const freshness = look(report)
    if (freshness.kind !== 'fresh') return freshness

    const { promise, resolve } = Promise.withResolvers<void>()
    inFlight.set(counters, promise)
    const release = () => {
      inFlight.delete(counters)
      resolve()
    }
    return {
      ...freshness,
      release,
      keep(eventTime) {
        enqueue({ ...report, eventTime })
        release()
      },
    }
  }

  function enqueue(kept: Kept): void {
    uncommitted.set(countersOf(kept), kept.digest)
    const domain = domainOf(kept)
    const newest = newestUncommitted.get(domain)
    newestUncommitted.set(domain, newest === undefined ? kept : {
      ...kept, bootcount: Math.max(kept.bootcount, newest.bootcount), eventTime: Math.max(kept.eventTime, newest.eventTime),
    })
    queue.push(kept)
    writing ??= writeQueue().finally(() => { writing = null })
  }

  /** Group commit: everything that came while the last transaction ran goes into the next one. */
  async function writeQueue(): Promise<void> {
    while (queue.length > 0) {
      const batch = queue
      const newest = new Map(batch.map((kept) => [domainOf(kept), newestUncommitted.get(domainOf(kept))]))
      queue = []
      try {
        await db.transaction(() => { for (const kept of batch) write(db, kept) })
      } catch (error) {
        const facts = { slug: 'replay-write-failed', reports: batch.length, reason: messageOf(error) }
        logger.error(facts, 'replay records lost; a retry of these reports will stand in the log twice')
      }
      db.resetReadTxn()
      for (const kept of batch) uncommitted.delete(countersOf(kept))
      for (const [domain, kept] of newest) if (newestUncommitted.get(domain) === kept) newestUncommitted.delete(domain)
    }
  }

  return {
    look,
    claim,
    async close() {
      await writing
      await db.close()
    },
  }
}

/** Inside a transaction: the record, the window over it, and out with what has become older than the window. */
function write(db: Database<Buffer, Buffer>, kept: Kept): void {
  const before = readWindow(db.get(domainKey(kept)))
  const known = db.doesExist(entryKey(kept))
  const window = advance(before, kept)
  db.put(entryKey(kept), Buffer.from(kept.digest, 'hex'))
  if (!known) window.reports += 1

  if (window.firstBoot > before.firstBoot || window.reports > REPORTS) {
    const older: Buffer[] = []
    for (const key of db.getKeys({ start: entryKey({ ...kept, bootcount: 0, seq: 0 }), end: endKey(kept) })) {
      const counters = readCounters(key)
      if (!isOlder(counters, window)) {
        if (window.reports - older.length <= REPORTS) break
        Object.assign(window, { firstBoot: counters.bootcount, firstSeq: counters.seq + 1 })
      }
      older.push(key)
    }
    for (const key of older) db.remove(key)
    window.reports -= older.length
  }
  db.put(domainKey(kept), windowBytes(window))
}

function advance(window: Window, kept: { bootcount: number; eventTime: number }): Window {
  const highestBoot = Math.max(window.highestBoot, kept.bootcount)
  const firstBoot = highestBoot - BOOTS + 1
  const moved = firstBoot > window.firstBoot ? { firstBoot, firstSeq: 0 } : {}
  return { ...window, highestBoot, ...moved, lastEvent: Math.max(window.lastEvent, kept.eventTime) }
}

const isOlder = ({ bootcount, seq }: { bootcount: number; seq: number }, window: Window): boolean =>
  bootcount < window.firstBoot || (bootcount === window.firstBoot && seq < window.firstSeq)

const nameOf = ({ fleet, epoch }: Report) => (epoch === 0 ? fleet : `${fleet}\0${epoch}`)
const domainOf = (report: Report) => `${nameOf(report)}\0${report.deviceKeyId}`
const countersOf = (report: Report) => `${domainOf(report)}\0${report.bootcount}\0${report.seq}`

function domainKey(report: Report): Buffer {
  const name = Buffer.from(nameOf(report))
  return Buffer.concat([Buffer.of(name.length), name, Buffer.from(report.deviceKeyId, 'hex')])
}

function entryKey(report: Report): Buffer {
  const counters = Buffer.alloc(16)
  counters.writeBigUInt64BE(BigInt(report.bootcount), 0)
  counters.writeBigUInt64BE(BigInt(report.seq), 8)
  return Buffer.concat([domainKey(report), counters])
}

/** Behind every entry of this device key. */
const endKey = (report: Report): Buffer => Buffer.concat([domainKey(report), Buffer.alloc(17, 0xff)])

const readCounters = (key: Buffer) => ({
  bootcount: Number(key.readBigUInt64BE(key.length - 16)),
  seq: Number(key.readBigUInt64BE(key.length - 8)),
})

function windowBytes(window: Window): Buffer {
  const bytes = Buffer.alloc(40)
  const numbers = [window.highestBoot, window.firstBoot, window.firstSeq, window.reports, window.lastEvent]
  numbers.forEach((number, i) => bytes.writeDoubleBE(number, i * 8))
  return bytes
}

function readWindow(bytes: Buffer | undefined): Window {
  const number = (i: number) => bytes?.readDoubleBE(i * 8) ?? 0
  return { highestBoot: number(0), firstBoot: number(1), firstSeq: number(2), reports: number(3), lastEvent: number(4) }
}

function openDatabase(directory: string): Database<Buffer, Buffer> {
  try {
    return open<Buffer, Buffer>({ path: directory, encoding: 'binary', keyEncoding: 'binary', noSubdir: false })
  } catch (error) {
    throw new BrokenWorld('replay-open-failed', `replay: cannot open ${directory}: ${messageOf(error)}`, { retryable: false, cause: error })
  }
}
