import { sqlTime } from './ask.ts'
import type { Merges } from './merges.ts'

/** What most questions are asked about: a fleet and a half-open time range, both bound. */
export interface Scope { fleet: string; from: number; to: number }

/** The whole of a fleet's history. */
export const ALWAYS = { from: 0, to: Date.UTC(2299, 11, 31) }

export const scopeParams = ({ fleet, from, to }: Scope) => ({ fleet, from: sqlTime(from), to: sqlTime(to) })
export const mergeParams = (merges: Merges) => ({ merge_from: merges.from, merge_into: merges.into })

export const IN_RANGE = 'event_time >= {from:DateTime64(3)} AND event_time < {to:DateTime64(3)}'
/** Crashes of the scope that feed buckets. */
export const COUNTED = `fleet = {fleet:String} AND ${IN_RANGE} AND standing IN ('counted', 'claimed')`
/**
 * Rows of `bucket_crashes FINAL` that say what a crash is now: one that was analysed again may have left a bucket, where its
 * earlier revision still stands. Reads the range of a table that has only what was analysed again.
 */
export const currentIn = (RANGE: string): string => `((revision = 0 AND id NOT IN (SELECT id FROM revised_crashes WHERE fleet = {fleet:String} AND ${RANGE}))
  OR (revision > 0 AND (id, revision) IN (SELECT id, max(revision) FROM revised_crashes WHERE fleet = {fleet:String} AND ${RANGE} GROUP BY id)))`
export const CURRENT = currentIn(IN_RANGE)
/** What stands for a crash in sets: its place in the log; and for a device: its number, or where it has none a hash (schema 009). */
export const PLACE = 'bitShiftLeft(toUInt64(partition), 40) + offset'
export const DEVICE = 'if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number)'
/** The crashes of the scope that were analysed again, as a set. */
export const MOVED = `(SELECT groupBitmapState(${PLACE}) FROM revised_crashes WHERE fleet = {fleet:String} AND ${IN_RANGE})`
/** Reports whose sender proved who it is. */
export const VERIFIED = `auth_level IN ('payload-signed', 'transport-authenticated')`
/** The bucket after people's merges. */
export const MERGED = `transform(bucket, {merge_from:Array(String)}, {merge_into:Array(String)}, bucket)`
