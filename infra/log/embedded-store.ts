import { closeSync, existsSync, fstatSync, openSync, readSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { open, type Key, type RootDatabase } from 'lmdb'
import { messageOf } from '../service/errors.ts'
import { encodeEntry, placeOf, type EntryContent } from './entry.ts'
import { logBroken } from './outcome.ts'

/**
 * What the embedded log keeps in lmdb, one key space of these rows:
 *
 *   ['entry', topic, partition, offset]     one encoded entry
 *   ['partition', topic, partition]         { first, next, bytes }: moved in the same transaction as the entries
 *   ['topic', topic]                        { partitions }: fixed when the topic is made
 *   ['group', topic, group, partition]      { offset }: for stats() and alarms; where to read from, the reader's store says
 *   ['probe']                               written by check()
 *
 * `overlappingSync: false` is lmdb's own order: data pages, sync, meta page, sync. A resolved commit is a durable one and
 * a failed sync is a failed commit; lmdb-js's default resolves earlier and leaves `flushed` pending when the sync fails.
 * `eventTurnBatching: false`: its hidden promise rejects with a failed commit, and nobody can catch it.
 */
export interface Extent {
  /** Oldest offset that is still kept. */
  first: number
  /** The offset that the next entry gets; never goes back, also when everything was removed. */
  next: number
  /** Stored bytes of the entries in [first, next). */
  bytes: number
}

export interface StoreChange {
  topic: string
  partition: number
  appended: readonly { offset: number; stored: Buffer }[]
  removed: readonly number[]
  extent: Extent
}

export type Store = ReturnType<typeof openStore>

export function openStore(directory: string) {
  const path = join(directory, 'entries')
  checkFile(join(path, 'data.mdb'))
  const db: RootDatabase<Buffer, Key> = reading(() => open({ path, encoding: 'binary', overlappingSync: false, eventTurnBatching: false }))

  async function durable(bytes: number, commit: () => Promise<boolean>): Promise<void> {
    const { bavail, bsize } = statfsSync(path)
    if (bavail * bsize < bytes + RESERVE) throw logBroken('log-disk-full', `log: ${path} has ${bavail * bsize} bytes left, and ${RESERVE} are kept free`)
    try {
      await commit()
    } catch (error) {
      const cause = await commitError(error)
      throw logBroken('log-sync-failed', `log: nothing was written: ${messageOf(cause)}`, cause)
    }
  }

  return {
    /** All or nothing; resolves when it is on the disk. */
    write(changes: readonly StoreChange[]): Promise<void> {
      return durable(sizeOf(changes), () => db.batch(() => {
        for (const { topic, partition, appended, removed, extent } of changes) {
          for (const { offset, stored } of appended) db.put(['entry', topic, partition, offset], stored).catch(told)
          for (const offset of removed) db.remove(['entry', topic, partition, offset]).catch(told)
          db.put(['partition', topic, partition], json(extent)).catch(told)
        }
      }))
    },

    /** A synced write of nothing, as large as the largest message: rejects when the disk takes no more. */
    probe: (): Promise<void> => durable(PROBE_BYTES, () => db.put(['probe'], Buffer.alloc(PROBE_BYTES))),

    stored: (topic: string, partition: number, offset: number): Buffer | undefined =>
      reading(() => db.get(['entry', topic, partition, offset])),

    /** In the order of offsets, [from, to); stops when `visit` returns false. */
    scan(topic: string, partition: number, from: number, to: number, visit: (offset: number, stored: Buffer) => boolean): void {
      reading(() => {
        const range = db.getRange({ start: ['entry', topic, partition, from], end: ['entry', topic, partition, to] })
        for (const { key, value } of range) if (!visit((key as [string, string, number, number])[3], value)) break
      })
    },

    partitionsOf: (topic: string): number | undefined => parsed<{ partitions: number }>(db.get(['topic', topic]))?.partitions,
    async makeTopic(topic: string, partitions: number): Promise<void> {
      await durable(0, () => db.put(['topic', topic], json({ partitions })))
    },
    extentOf: (topic: string, partition: number): Extent =>
      parsed<Extent>(db.get(['partition', topic, partition])) ?? { first: 0, next: 0, bytes: 0 },

    groupOffset: (topic: string, group: string, partition: number): number | undefined =>
      parsed<{ offset: number }>(db.get(['group', topic, group, partition]))?.offset,
    setGroupOffset: (topic: string, group: string, partition: number, offset: number): Promise<void> =>
      durable(0, () => db.put(['group', topic, group, partition], json({ offset }))),

    close: (): Promise<void> => db.close(),
  }
}

/**
 * Where lmdb keeps what it is, in the format of the lmdb that lmdb-js 3.5 carries: two meta pages, each a page header of
 * 24 bytes and then magic, the page size (in the first of the two databases' records), the last page and the number of
 * the transaction that wrote it; the newer one counts. Counted from the start of a page, little-endian.
 */
const META = { magic: 24, pageSize: 48, lastPage: 144, transaction: 152, bytes: 160 }
const MAGIC = 0xbeefc0de
const LARGEST_PAGE = 65_536

/** lmdb-js ends the process with a signal when the file is no lmdb file or is cut short, so we look first. */
function checkFile(file: string): void {
  if (!existsSync(file) || statSync(file).size === 0) return
  const descriptor = openSync(file, 'r')
  try {
    const first = readMeta(descriptor, 0)
    if (first === null) throw logBroken('log-file-damaged', `log: ${file} is not an lmdb file; ${WHAT_NOW}`)
    const second = readMeta(descriptor, first.pageSize)
    const { lastPage } = second !== null && second.transaction > first.transaction ? second : first
    const needed = (lastPage + 1) * first.pageSize
    const { size } = fstatSync(descriptor)
    if (size < needed) throw logBroken('log-file-damaged', `log: ${file} is cut short: it has ${size} bytes and needs ${needed}; ${WHAT_NOW}`)
  } finally {
    closeSync(descriptor)
  }
}
const WHAT_NOW = 'put the right one back, or move the folder away and lose what it held'

function readMeta(descriptor: number, at: number): { pageSize: number; lastPage: number; transaction: number } | null {
  const page = Buffer.alloc(META.bytes)
  if (readSync(descriptor, page, 0, page.length, at) < page.length || page.readUInt32LE(META.magic) !== MAGIC) return null
  const pageSize = page.readUInt32LE(META.pageSize)
  if (pageSize < META.bytes || pageSize > LARGEST_PAGE) return null
  return { pageSize, lastPage: Number(page.readBigUInt64LE(META.lastPage)), transaction: Number(page.readBigUInt64LE(META.transaction)) }
}

export const storedEntry = (topic: string, partition: number, offset: number, content: EntryContent): { offset: number; stored: Buffer } =>
  ({ offset, stored: encodeEntry(placeOf(topic, partition, offset), content) })

const sizeOf = (changes: readonly StoreChange[]): number => changes.reduce((sum, { appended }) => sum + appended.reduce((bytes, { stored }) => bytes + stored.length, 0), 0)
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
const parsed = <T>(stored: Buffer | undefined): T | undefined => (stored ? (JSON.parse(stored.toString()) as T) : undefined)

const PROBE_BYTES = 256 * 1024

/**
 * A full disk is seen before lmdb sees it: after some ENOSPC in a row lmdb-js 3.5 corrupts its heap and the process is
 * aborted (test/faults/disk.test.ts found it). So this much stays free, and any write that fails all the same is as bad as
 * a failed sync: nobody knows any more what the files hold.
 */
const RESERVE = 16 * 1024 * 1024

/** Each write inside a batch rejects with the batch; the batch's own promise is the one that tells. */
const told = (): void => undefined

/** lmdb-js rejects with 'Commit failed' and hands the reason over as a promise that rejects: unawaited it ends the process. */
async function commitError(error: unknown): Promise<unknown> {
  if (!(error instanceof Error && 'commitError' in error && error.commitError instanceof Promise)) return error
  return error.commitError.then(() => error, (reason: unknown) => reason)
}

function reading<T>(read: () => T): T {
  try {
    return read()
  } catch (cause) {
    throw logBroken('log-read-failed', `log: its files are not readable: ${messageOf(cause)}`, cause)
  }
}
