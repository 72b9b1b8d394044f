-- What came in lately, whatever time its device claims: the times of receipt of neighbours are close, so most granules are skipped.
ALTER TABLE crashes ADD INDEX IF NOT EXISTS by_received received_at TYPE minmax GRANULARITY 4;

-- Which security versions a device has run, and since which boot: a lower one in a later boot is a rollback.
CREATE TABLE IF NOT EXISTS svns
(
    fleet      LowCardinality(String),
    device     String,
    svn        UInt64,
    first_boot SimpleAggregateFunction(min, UInt64),
    first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, device, svn);

CREATE MATERIALIZED VIEW IF NOT EXISTS svns_of_crashes TO svns AS
SELECT fleet, device, assumeNotNull(crashes.svn) AS svn, min(assumeNotNull(bootcount)) AS first_boot, min(received_at) AS first_seen
FROM crashes
WHERE crashes.svn IS NOT NULL AND bootcount IS NOT NULL AND standing IN ('counted', 'claimed') AND auth_level IN ('payload-signed', 'transport-authenticated')
GROUP BY fleet, device, svn;
