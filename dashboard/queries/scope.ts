import { sqlTime } from './ask.ts'
import type { Merges } from './merges.ts'

/** What most questions are asked about: a fleet and a half-open time range, both bound. */
export interface Scope { fleet: string; from: number; to: number }

export const scopeParams = ({ fleet, from, to }: Scope) => ({ fleet, from: sqlTime(from), to: sqlTime(to) })
export const mergeParams = (merges: Merges) => ({ merge_from: merges.from, merge_into: merges.into })

/** Crashes of the scope that feed buckets. */
export const COUNTED = `fleet = {fleet:String} AND event_time >= {from:DateTime64(3)} AND event_time < {to:DateTime64(3)} AND standing IN ('counted', 'claimed')`
/** Reports whose sender proved who it is. */
export const VERIFIED = `auth_level IN ('payload-signed', 'transport-authenticated')`
/** The bucket after people's merges. */
export const MERGED = `transform(bucket, {merge_from:Array(String)}, {merge_into:Array(String)}, bucket)`
