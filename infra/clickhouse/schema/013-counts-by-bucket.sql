-- The sets of `bucket_counts` once more, in the order of buckets: an hour of all buckets stands side by side there, here the hours
-- of one. Fifty sparklines of a day, read there, are 35,000 rows for the 2,000 that they show.
CREATE TABLE IF NOT EXISTS bucket_series
(
    fleet        LowCardinality(String),
    bucket       String,
    span         UInt32,
    start        DateTime64(0, 'UTC'),
    evidence     UInt8,
    kind         LowCardinality(String),
    waiting      UInt8,
    crashes      AggregateFunction(groupBitmap, UInt64),
    verified     AggregateFunction(groupBitmap, UInt64),
    unverified   AggregateFunction(groupBitmap, UInt64),
    provisional  SimpleAggregateFunction(min, UInt8),
    first_seen   SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_seen    SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    strongest    SimpleAggregateFunction(max, Tuple(evidence UInt8, event_time DateTime64(3, 'UTC'), id String, title String, signature String, severity String)),
    oldest       SimpleAggregateFunction(min, Tuple(event_time DateTime64(3, 'UTC'), id String)),
    newest       SimpleAggregateFunction(max, Tuple(event_time DateTime64(3, 'UTC'), id String)),
    swversions   SimpleAggregateFunction(groupUniqArrayArray, Array(String)),
    compartments SimpleAggregateFunction(groupUniqArrayArray, Array(String)),
    modules      SimpleAggregateFunction(groupUniqArrayArray, Array(String))
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, bucket, span, start, evidence, kind, waiting)
SETTINGS index_granularity = 64;

-- Of what the other view has made of a block, which is some hundred rows: nothing is counted again.
CREATE MATERIALIZED VIEW IF NOT EXISTS bucket_series_of_counts TO bucket_series AS
SELECT fleet, bucket, span, start, evidence, kind, waiting, crashes, verified, unverified, provisional, first_seen, last_seen, strongest, oldest, newest, swversions, compartments, modules
FROM bucket_counts;

-- A week is there for each of its days, since its first may have no crash; a set that is filled twice is the same set.
INSERT INTO bucket_series
SELECT fleet, bucket, span, start, evidence, kind, waiting, crashes, verified, unverified, provisional, first_seen, last_seen, strongest, oldest, newest, swversions, compartments, modules
FROM bucket_counts
WHERE start < {next_day:DateTime64(3)} AND start >= if(span = 604800, {day:DateTime64(3)} - INTERVAL 6 DAY, {day:DateTime64(3)});
