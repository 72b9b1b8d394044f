import { ClickHouseError } from '@clickhouse/client'
import { z } from 'zod'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { BrokenWorld, messageOf } from '../../infra/service/errors.ts'

/**
 * Asks ClickHouse one question: fixed SQL, bound parameters, rows checked against their type. Read-only and bounded in
 * time on ClickHouse's side, so that no page can hold a lane.
 */
export interface Question<Row extends z.ZodType> { sql: string; row: Row }

/**
 * One partition holds all revisions of a crash, so FINAL may look at each alone. Compiling is off: bound values are constants
 * to the compiler, whose 0.2 s would come back with each page.
 */
const SETTINGS = { max_execution_time: 20, do_not_merge_across_partitions_select_final: 1, compile_expressions: 0, compile_aggregate_expressions: 0, readonly: '1' } as const

export async function ask<Row extends z.ZodType>(clickhouse: ClickHouse, { sql, row }: Question<Row>, params: Record<string, unknown>): Promise<z.output<Row>[]> {
  try {
    const result = await clickhouse.query({ query: sql, query_params: params, format: 'JSONEachRow', clickhouse_settings: SETTINGS })
    return z.array(row).parse(await result.json())
  } catch (error) {
    throw asBrokenWorld(error)
  }
}

/** A question that has exactly one row, such as an aggregate over everything. */
export async function askOne<Row extends z.ZodType>(clickhouse: ClickHouse, question: Question<Row>, params: Record<string, unknown>): Promise<z.output<Row>> {
  const [only] = await ask(clickhouse, question, params)
  if (only === undefined) throw new BrokenWorld('clickhouse-answer', 'ClickHouse: an aggregate has no row', { retryable: false })
  return only
}

/** 159: the query took too long; 241: the memory of the moment was not enough. Both may pass. */
const PASSING = new Set(['159', '241'])

export function asBrokenWorld(error: unknown): BrokenWorld {
  if (error instanceof BrokenWorld) return error
  if (error instanceof ClickHouseError) return new BrokenWorld('clickhouse-refused', `ClickHouse: ${error.message} (code ${error.code})`, { retryable: PASSING.has(error.code), cause: error })
  if (error instanceof z.ZodError) return new BrokenWorld('clickhouse-answer', `ClickHouse: unexpected row: ${z.prettifyError(error)}`, { retryable: false, cause: error })
  return new BrokenWorld('clickhouse-away', `ClickHouse does not answer: ${messageOf(error)}`, { retryable: true, cause: error })
}

// ---- how ClickHouse writes values in JSON, and what we make of them ----

/** UInt64 travels as a string; ours are counts, far below 2^53. */
export const number = z.union([z.string().regex(/^\d+$/), z.number()]).transform(Number).pipe(z.number())
export const optionalNumber = number.nullable()
/** Float64; NaN and the infinities arrive as null. */
export const real = z.number().nullable()
export const flag = z.union([z.boolean(), z.number()]).transform(Boolean)
/** `2026-03-01 12:00:00.123` in UTC -> ISO 8601. */
export const time = z.string().transform((text) => `${text.replace(' ', 'T')}Z`).pipe(z.iso.datetime())
/** A 64-bit address -> 0x-hex. */
export const address = z.string().regex(/^\d{1,20}$/).transform((decimal) => `0x${BigInt(decimal).toString(16)}`).nullable()
export const strings = z.array(z.string())

/** A bound DateTime64(3). */
export const sqlTime = (ms: number): string => new Date(ms).toISOString().slice(0, -1).replace('T', ' ')
export const iso = (ms: number): string => new Date(ms).toISOString()

/** JSON that somebody else wrote; null when it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
