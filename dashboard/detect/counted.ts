/**
 * Which crashes count, said once for all detectors, as fragments of SQL over `crashes FINAL` (repeats and reprocessed
 * crashes count once before any merge). Reports with a project key never count, or anybody could poison the baseline.
 * Buckets that people merged count as one: the newest event of a bucket decides, and chains are followed up to eight hops.
 */
export const COUNTED_SQL = `fleet = {fleet:String} AND standing IN ('counted', 'claimed')
      AND auth_level IN ('payload-signed', 'transport-authenticated')`

/**
 * Goes in a WITH; defines merged_into(bucket). An event with an empty `into` takes the merge back. The chains are followed
 * once, in a scalar subquery, so that each row costs one look-up.
 */
export const MERGED_SQL = `
  (
    SELECT (froms, arrayMap(first -> arrayFold((at, hop) -> if(has(froms, at), intos[indexOf(froms, at)], at), range(8), first), intos))
    FROM
    (
      SELECT groupArray(subject) AS froms, groupArray(target) AS intos FROM
      (
        SELECT subject, argMax(JSONExtractString(body, 'into'), number) AS target FROM events FINAL
        WHERE fleet = {fleet:String} AND kind IN ('bucket.merged', 'bucket.unmerged') AND at <= {now:DateTime64(3, 'UTC')}
        GROUP BY subject HAVING target NOT IN ('', subject) ORDER BY subject
      )
    )
  ) AS merges,
  b -> transform(b, merges.1, merges.2, b) AS merged_into`

/** Goes in a WITH; defines faces_network(compartment, process). A device that names no compartment is judged by its process. */
export const FACES_NETWORK_SQL = `
  (compartment, process) -> has({net_facing:Array(String)}, if(compartment = '', process, compartment)) AS faces_network`

/**
 * One partition holds all revisions of a crash (the time is in its key), so FINAL may look at each partition alone.
 * Compiling is off: the expressions hold the fleet's constants, and the compiler's 200 ms come back with each change of them.
 */
export const ENGINE_SETTINGS_SQL = 'do_not_merge_across_partitions_select_final = 1, compile_expressions = 0, compile_aggregate_expressions = 0'
