import { closeSync, existsSync, openSync, readSync, statfsSync } from 'node:fs'
import { constants } from 'node:os'
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
  checkMagic(join(path, 'data.mdb'))
  const db: RootDatabase<Buffer, Key> = reading(() => open({ path, encoding: 'binary', overlappingSync: false, eventTurnBatching: false }))

  async function durable(commit: () => Promise<boolean>): Promise<void> {
    const failure = await failureOf(commit)
    if (failure === null) return
    const full = isFull(failure) || (codeOf(failure) === constants.errno.EIO && freeBytes(path) < ROOM)
    throw logBroken(full ? 'log-disk-full' : 'log-sync-failed', `log: nothing was written: ${messageOf(failure)}`, failure)
  }

  return {
    /** All or nothing; resolves when it is on the disk. */
    write(changes: readonly StoreChange[]): Promise<void> {
      return durable(() => db.batch(() => {
        for (const { topic, partition, appended, removed, extent } of changes) {
          for (const { offset, stored } of appended) db.put(['entry', topic, partition, offset], stored).catch(told)
          for (const offset of removed) db.remove(['entry', topic, partition, offset]).catch(told)
          db.put(['partition', topic, partition], json(extent)).catch(told)
        }
      }))
    },

    /** A synced write of nothing, as large as the largest message: rejects when the disk takes no more. */
    probe: (): Promise<void> => durable(() => db.put(['probe'], Buffer.alloc(PROBE_BYTES))),

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
      await durable(() => db.put(['topic', topic], json({ partitions })))
    },
    extentOf: (topic: string, partition: number): Extent =>
      parsed<Extent>(db.get(['partition', topic, partition])) ?? { first: 0, next: 0, bytes: 0 },

    groupOffset: (topic: string, group: string, partition: number): number | undefined =>
      parsed<{ offset: number }>(db.get(['group', topic, group, partition]))?.offset,
    setGroupOffset: (topic: string, group: string, partition: number, offset: number): Promise<void> =>
      durable(() => db.put(['group', topic, group, partition], json({ offset }))),

    close: (): Promise<void> => db.close(),
  }
}

/** After the page header, which is 24 bytes in the lmdb that lmdb-js 3.5 carries. */
const MAGIC_AT = 24

/** lmdb-js ends the process with a segmentation fault when the file is no lmdb file, so we look first. */
function checkMagic(file: string): void {
  const head = Buffer.alloc(MAGIC_AT + 4)
  const bytes = existsSync(file) ? readHead(file, head) : 0
  if (bytes === 0 || (bytes === head.length && head.readUInt32LE(MAGIC_AT) === 0xbeefc0de)) return
  throw logBroken('log-read-failed', `log: ${file} is not an lmdb file; put the right one back, or move the folder away and lose what it held`)
}

function readHead(file: string, head: Buffer): number {
  const descriptor = openSync(file, 'r')
  try {
    return readSync(descriptor, head, 0, head.length, 0)
  } finally {
    closeSync(descriptor)
  }
}

export const storedEntry = (topic: string, partition: number, offset: number, content: EntryContent): { offset: number; stored: Buffer } =>
  ({ offset, stored: encodeEntry(placeOf(topic, partition, offset), content) })

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
const parsed = <T>(stored: Buffer | undefined): T | undefined => (stored ? (JSON.parse(stored.toString()) as T) : undefined)

const PROBE_BYTES = 256 * 1024

/** The disk is full, the quota is used up, the file is as large as it may be. */
const FULL: readonly unknown[] = [constants.errno.ENOSPC, constants.errno.EDQUOT, constants.errno.EFBIG]
const codeOf = (error: unknown): unknown => (error as { code?: unknown } | null)?.code
const isFull = (error: unknown): boolean => FULL.includes(codeOf(error))

/** To lmdb a write that was cut short is EIO too, as a failed sync is: a disk with less than this left cut it short. */
const ROOM = 32 * 1024 * 1024

function freeBytes(path: string): number {
  const { bavail, bfree, bsize } = statfsSync(path)
  return Math.min(bavail, bfree) * bsize
}

/** Each write inside a batch rejects with the batch; the batch's own promise is the one that tells. */
const told = (): void => undefined

/** Why the commit failed, or null. */
async function failureOf(commit: () => Promise<boolean>): Promise<unknown> {
  try {
    await commit()
    return null
  } catch (error) {
    return commitError(error)
  }
}

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
