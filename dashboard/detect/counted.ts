import { currentIn } from '../queries/scope.ts'
import type { DetectorInput } from './finding.ts'
import { sqlTime } from './time.ts'

/**
 * Which crashes count, said once for all detectors, as fragments of SQL over `crashes FINAL` (repeats and reprocessed
 * crashes count once before any merge). Reports with a project key never count, or anybody could poison the baseline.
 * Buckets that people merged count as one (queries/merges.ts).
 */
export const COUNTED_SQL = `fleet = {fleet:String} AND standing IN ('counted', 'claimed')
      AND auth_level IN ('payload-signed', 'transport-authenticated')`

/** Rows of `bucket_crashes FINAL` that say what a crash of the last 30 days is now. */
export const CURRENT_SQL = currentIn(`event_time > {now:DateTime64(3, 'UTC')} - INTERVAL 30 DAY`)

/** Those buckets and all that people merged into them: by these a bucket's own rows are found. */
export const membersOf = ({ from, into }: DetectorInput['merges'], buckets: readonly string[]): string[] => [...buckets, ...from.filter((_, index) => buckets.includes(into[index]!))]

/** Goes in a WITH; defines merged_into(bucket). */
export const MERGED_SQL = `
  b -> transform(b, {merge_from:Array(String)}, {merge_into:Array(String)}, b) AS merged_into`

/** Goes in a WITH; defines faces_network(compartment, process). A device that names no compartment is judged by its process. */
export const FACES_NETWORK_SQL = `
  (compartment, process) -> has({net_facing:Array(String)}, if(compartment = '', process, compartment)) AS faces_network`

/**
 * One partition holds all revisions of a crash (the time is in its key), so FINAL may look at each partition alone.
 * Compiling is off: the expressions hold the fleet's constants, and the compiler's 200 ms come back with each change of them.
 */
export const ENGINE_SETTINGS_SQL = 'do_not_merge_across_partitions_select_final = 1, compile_expressions = 0, compile_aggregate_expressions = 0'

/** What every query is asked with. */
export const commonParams = ({ fleet, now, merges }: Pick<DetectorInput, 'fleet' | 'now' | 'merges'>): Record<string, unknown> =>
  ({ fleet, now: sqlTime(now), merge_from: merges.from, merge_into: merges.into })

/** A peer as claimed is an address or `h:` and a hash: addresses by /24 and /48, hashes as they are. */
export const PEER_NETWORK_SQL = `(peer) -> multiIf(
    isIPv4String(peer), concat(IPv4NumToString(bitAnd(IPv4StringToNumOrDefault(peer), 0xffffff00)), '/24'),
    isIPv6String(peer), concat(cutIPv6(IPv6StringToNumOrDefault(peer), 10, 0), '/48'),
    peer) AS peer_network`
