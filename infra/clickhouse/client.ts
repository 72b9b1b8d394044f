import { ClickHouseLogLevel, createClient, type ClickHouseClient } from '@clickhouse/client'

/**
 * One code path for the embedded engine and the server: the official client over HTTP. Which of the two answers is
 * only a matter of the address (embedded.ts starts the child process that speaks ClickHouse's protocol on loopback).
 */
export interface ClickHouseAddress { url: string; username: string; password: string; database: string }

export type ClickHouse = ClickHouseClient

export function connectClickHouse(address: ClickHouseAddress, application: string, { timeoutMs = 60_000 }: { timeoutMs?: number } = {}): ClickHouse {
  return createClient({
    ...address,
    application,
    request_timeout: timeoutMs,
    max_open_connections: 8,
    // Every error is thrown to whoever asked; logged here as well it would be logged twice.
    log: { level: ClickHouseLogLevel.OFF },
    compression: { request: true, response: false },
    clickhouse_settings: {
      output_format_json_quote_64bit_integers: 1,
      date_time_input_format: 'best_effort',
      // Parsed in parallel, an insert over 10 MB is cut into several blocks, and a kill may leave some of them.
      input_format_parallel_parsing: 0,
      // Half a surrogate pair in a device's string is kept as its escape; else it would refuse the whole batch.
      input_format_json_throw_on_bad_escape_sequence: 0,
    },
  })
}
