import { z } from 'zod'
import { CORRELATION_KEYS, type BucketCorrelations } from '../api/contract.ts'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'
import { ask, number, real } from './ask.ts'
import { COUNTED, scopeParams, type Scope } from './scope.ts'

/**
 * What do the bucket's crashes have in common that the others have not? The share of each value of four properties inside
 * the bucket against its share among all crashes of the range, by how much it is over-represented there.
 * Reads five columns of the range: a second for 24 h at 100 M rows over 28 days; ask for short ranges.
 */
const QUESTION = {
  sql: `
SELECT tag.1 AS key, tag.2 AS value, sum(inside) AS in_bucket, any(bucket_total) AS bucket_total, sum(crashes) AS overall, any(overall_total) AS overall_total,
       in_bucket / bucket_total AS share, overall / overall_total AS overall_share, share / overall_share AS lift
FROM
(
    SELECT inside, crashes, sum(inside) OVER () AS bucket_total, sum(crashes) OVER () AS overall_total,
           arrayJoin([('swversion', swversion), ('hwmodel', hwmodel), ('compartment', compartment), ('source', source)]) AS tag
    FROM
    (
        SELECT toString(swversion) AS swversion, toString(hwmodel) AS hwmodel, toString(compartment) AS compartment, source, countIf(bucket IN {members:Array(String)}) AS inside, count() AS crashes
        FROM crashes FINAL
        WHERE ${COUNTED}
        GROUP BY swversion, hwmodel, compartment, source
    )
)
WHERE value != ''
GROUP BY key, value
HAVING in_bucket > 0
ORDER BY share >= 0.1 DESC, lift DESC, in_bucket DESC
LIMIT 60`,
  row: z.object({
    key: z.enum(CORRELATION_KEYS), value: z.string(), in_bucket: number, bucket_total: number, overall: number, overall_total: number,
    share: real.pipe(z.number()), overall_share: real.pipe(z.number()), lift: real.pipe(z.number()),
  }),
}

export async function readBucketCorrelations(clickhouse: ClickHouse, scope: Scope, members: readonly string[]): Promise<BucketCorrelations['items']> {
  return ask(clickhouse, QUESTION, { ...scopeParams(scope), members })
}
