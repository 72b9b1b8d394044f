import { join } from 'node:path'
import { lockFile, type FileLock } from '../service/lock-file.ts'
import { logBroken } from './outcome.ts'

/** One process at a time. lmdb itself would let a second process in, and two writers would hand out the same offsets. */
export function lockDirectory(directory: string): FileLock {
  const file = join(directory, 'lock')
  try {
    return lockFile(file)
  } catch (cause) {
    throw logBroken('log-in-use', `log: ${file} is held by another process; the embedded log is for one process, Kafka for several`, cause)
  }
}
