import { pino, type Logger } from 'pino'

/**
 * One line of JSON per event on standard error: crash id, stage, slug, topic/partition/offset; never dump contents.
 * Standard output belongs to a command's data.
 */
export type { Logger }

export function createLogger(options: { part: string; level?: string | undefined }): Logger {
  return pino({ name: options.part, level: options.level ?? 'info', base: { part: options.part } }, pino.destination({ fd: 2, sync: false }))
}
