import { z } from 'zod'
import type { Scope } from '../queries/scope.ts'
import { Refused } from './problems.ts'

/**
 * A cursor is where the page before ended, as base64url of JSON: the key of its last row, and the range that was asked at
 * first, so that later pages are about the same moment. Nobody needs to look inside, and nobody can break anything with it:
 * what is inside is checked and bound like everything else.
 */
const envelope = z.object({ from: z.int().nonnegative(), to: z.int().nonnegative(), key: z.unknown() })

export function readCursor<Key extends z.ZodType>(cursor: string | undefined, key: Key, scope: Scope): { scope: Scope; after: z.output<Key> | undefined } {
  if (cursor === undefined) return { scope, after: undefined }
  const outer = envelope.safeParse(decoded(cursor))
  const inner = key.safeParse(outer.data?.key)
  if (!outer.success || !inner.success) throw new Refused('cursor-invalid', 'ask for the first page again')
  return { scope: { ...scope, from: outer.data.from, to: outer.data.to }, after: inner.data }
}

/** A page is asked with one row too many; that row says whether there is a next page. */
export function pageOf<Row>(rows: readonly Row[], limit: number, scope: Pick<Scope, 'from' | 'to'>, keyOf: (row: Row) => readonly unknown[]): { items: Row[]; next: string | null } {
  const items = rows.slice(0, limit)
  const last = items.at(-1)
  if (rows.length <= limit || last === undefined) return { items, next: null }
  return { items, next: Buffer.from(JSON.stringify({ from: scope.from, to: scope.to, key: keyOf(last) })).toString('base64url') }
}

function decoded(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'))
  } catch {
    return null
  }
}
