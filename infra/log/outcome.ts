import { BrokenWorld } from '../service/errors.ts'

/**
 * The closed table of what can be wrong with a log: the slug is the error's code, the log field and the test's name.
 * `retryable` means that the same call may succeed later without anybody doing anything.
 */
export const LOG_TROUBLE = {
  'log-overloaded': { retryable: true },
  'log-timeout': { retryable: true },
  'log-unreachable': { retryable: true },
  'log-write-failed': { retryable: true },
  'log-sync-failed': { retryable: false },
  'log-disk-full': { retryable: true },
  'log-read-failed': { retryable: true },
  'log-file-damaged': { retryable: false },
  'log-closed': { retryable: false },
  'log-in-use': { retryable: false },
  'log-message-too-large': { retryable: false },
  'log-position-past-end': { retryable: false },
  'log-group-in-use': { retryable: false },
  'log-topic-unsafe': { retryable: false },
} as const satisfies Record<string, { retryable: boolean }>

export type LogTrouble = keyof typeof LOG_TROUBLE

export const logBroken = (code: LogTrouble, message: string, cause?: unknown): BrokenWorld =>
  new BrokenWorld(code, message, { retryable: LOG_TROUBLE[code].retryable, cause })
