/**
 * Bad input is a value; a broken world is an exception.
 * A truncated dump, a wrong signature or a missing symbol file is a result with a slug (each part's outcome.ts).
 * ClickHouse refused, disk full, Kafka gone: this exception, and nothing is committed.
 */
export class BrokenWorld extends Error {
  readonly code: string
  readonly retryable: boolean
  constructor(code: string, message: string, options: { retryable: boolean; cause?: unknown }) {
    super(message, { cause: options.cause })
    this.name = 'BrokenWorld'
    this.code = code
    this.retryable = options.retryable
  }
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
