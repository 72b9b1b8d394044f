import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { BrokenWorld } from './errors.ts'

/**
 * A file that one process at a time holds; throws when another does. The lock is SQLite's: a lock of the kernel, gone with
 * the process however it ends, so kill -9 leaves nothing to clean up (a file with a process id does: in a container the
 * next process has the same id).
 */
export interface FileLock { release(): void }

export function lockFile(file: string): FileLock {
  const lock = new DatabaseSync(file, { timeout: 0 })
  try {
    lock.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (error) {
    lock.close()
    throw error
  }
  return { release: () => lock.close() }
}

/** Two processes of one part in one folder would spoil each other's files. */
export function lockData(data: string, part: string): FileLock {
  mkdirSync(data, { recursive: true })
  try {
    return lockFile(join(data, `${part}.lock`))
  } catch (cause) {
    throw new BrokenWorld('data-in-use', `${data} is used by another ${part} process; give each a folder of its own with --data`, { retryable: false, cause })
  }
}
