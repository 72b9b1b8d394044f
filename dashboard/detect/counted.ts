/**
 * Which crashes count, said once for all detectors, as fragments of SQL over `crashes FINAL` (repeats and reprocessed
 * crashes count once before any merge). Reports with a project key never count, or anybody could poison the baseline.
 * Buckets that people merged count as one: the newest event of a bucket decides, and chains are followed up to eight hops.
 */
export const COUNTED_SQL = `fleet = {fleet:String} AND standing IN ('counted', 'claimed')
      AND auth_level IN ('payload-signed', 'transport-authenticated')`

/** Goes in a WITH; defines merged_into(bucket). An event with an empty \`into\` takes the merge back. */
export const MERGED_SQL = `
  (SELECT groupArray(subject) FROM (${newestMerges()})) AS merge_from,
  (SELECT groupArray(target) FROM (${newestMerges()})) AS merge_into,
  b -> arrayFold((at, hop) -> transform(at, merge_from, merge_into, at), range(8), b) AS merged_into`

/** Goes in a WITH; defines faces_network(compartment, process). A device that names no compartment is judged by its process. */
export const FACES_NETWORK_SQL = `
  (compartment, process) -> has({net_facing:Array(String)}, if(compartment = '', process, compartment)) AS faces_network`

function newestMerges(): string {
  return `SELECT subject, argMax(JSONExtractString(body, 'into'), number) AS target FROM events FINAL
    WHERE fleet = {fleet:String} AND kind IN ('bucket.merged', 'bucket.unmerged') AND at <= {now:DateTime64(3, 'UTC')}
    GROUP BY subject HAVING target NOT IN ('', subject) ORDER BY subject`
}
