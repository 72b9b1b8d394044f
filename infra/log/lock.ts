import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { logBroken } from './outcome.ts'

/**
 * One process at a time. lmdb itself would let a second process in, and two writers would hand out the same offsets.
 * The lock is SQLite's: a lock of the kernel on a file, gone with the process however it ends, so kill -9 leaves
 * nothing to clean up (a file with a process id does: in a container the next process has the same id).
 */
export function lockDirectory(directory: string): { release(): void } {
  const file = join(directory, 'lock')
  const lock = new DatabaseSync(file, { timeout: 0 })
  try {
    lock.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (cause) {
    lock.close()
    throw logBroken('log-in-use', `log: ${file} is held by another process; the embedded log is for one process, Kafka for several`, cause)
  }
  return { release: () => lock.close() }
}
