-- Counts that a page may ask over weeks: sets by hour and by day, so that they are as idempotent as everything here.
--
-- A crash is the number of its place in the log, a device that of the first crash that it was known by (`device_numbers`),
-- and a bitmap of such numbers is two bytes for each or less. Said twice, a set is the same set; of late reports a set of last
-- week grows. So no count waits for a merge, and none needs a job.
--
-- A set can't forget, and a crash that is analysed again (revision > 0) may leave its bucket. So these crashes stand, one by
-- one, in `revised_crashes`, whose numbers are taken out of the sets by whoever reads them (dashboard/queries/counts.ts).
-- 0 in rows that no worker wrote: such a device is told by a hash of its name, which costs a bitmap fifty times as much.
ALTER TABLE crashes ADD COLUMN IF NOT EXISTS device_number UInt64 AFTER offset;

CREATE TABLE IF NOT EXISTS device_numbers
(
    fleet  LowCardinality(String),
    device String,
    number SimpleAggregateFunction(min, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, device);

CREATE MATERIALIZED VIEW IF NOT EXISTS device_numbers_of_crashes TO device_numbers AS
SELECT fleet, device, min(device_number) AS number
FROM crashes
WHERE device_number > 0
GROUP BY fleet, device;

CREATE TABLE IF NOT EXISTS bucket_counts
(
    fleet        LowCardinality(String),
    -- Seconds that a row is about, 3600 or 86400, from `start`.
    span         UInt32,
    start        DateTime64(0, 'UTC'),
    bucket       String,
    evidence     UInt8,
    kind         LowCardinality(String),
    -- Whether its crashes wait for symbols.
    waiting      UInt8,
    crashes      AggregateFunction(groupBitmap, UInt64),
    -- Devices that proved who they are, and those that didn't.
    verified     AggregateFunction(groupBitmap, UInt64),
    unverified   AggregateFunction(groupBitmap, UInt64),
    provisional  SimpleAggregateFunction(min, UInt8),
    first_seen   SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_seen    SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    -- The crash that says most: highest evidence, then newest.
    strongest    SimpleAggregateFunction(max, Tuple(evidence UInt8, event_time DateTime64(3, 'UTC'), id String, title String, signature String, severity String)),
    oldest       SimpleAggregateFunction(min, Tuple(event_time DateTime64(3, 'UTC'), id String)),
    newest       SimpleAggregateFunction(max, Tuple(event_time DateTime64(3, 'UTC'), id String)),
    swversions   SimpleAggregateFunction(groupUniqArrayArray, Array(String)),
    compartments SimpleAggregateFunction(groupUniqArrayArray, Array(String)),
    modules      SimpleAggregateFunction(groupUniqArrayArray, Array(String))
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, span, start, bucket, evidence, kind, waiting)
-- A set is read whole or not at all, and most cost 20 us: whoever wants one bucket should meet few others.
SETTINGS index_granularity = 64;

CREATE MATERIALIZED VIEW IF NOT EXISTS bucket_counts_of_crashes TO bucket_counts AS
SELECT fleet, span, toDateTime64(intDiv(toUnixTimestamp64Milli(crashes.event_time), span * 1000) * span, 0, 'UTC') AS start, bucket, evidence, kind, notEmpty(missing_symbols) AS waiting,
       groupBitmapState(bitShiftLeft(toUInt64(partition), 40) + offset) AS crashes,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level IN ('payload-signed', 'transport-authenticated')) AS verified,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level NOT IN ('payload-signed', 'transport-authenticated')) AS unverified,
       min(crashes.provisional) AS provisional, min(event_time) AS first_seen, max(event_time) AS last_seen,
       max((crashes.evidence, event_time, id, title, signature, toString(severity))) AS strongest, min((event_time, id)) AS oldest, max((event_time, id)) AS newest,
       groupUniqArrayIf(toString(swversion), swversion != '') AS swversions, groupUniqArrayIf(toString(compartment), compartment != '') AS compartments,
       groupUniqArrayArray(arrayMap(module -> module.debug_id, missing_symbols)) AS modules
FROM crashes
ARRAY JOIN [3600, 86400] AS span
WHERE standing IN ('counted', 'claimed') AND revision = 0
GROUP BY fleet, span, start, bucket, evidence, kind, waiting;

-- What was there before the view; a set that is filled twice is the same set.
INSERT INTO bucket_counts
SELECT fleet, span, toDateTime64(intDiv(toUnixTimestamp64Milli(crashes.event_time), span * 1000) * span, 0, 'UTC') AS start, bucket, evidence, kind, notEmpty(missing_symbols) AS waiting,
       groupBitmapState(bitShiftLeft(toUInt64(partition), 40) + offset) AS crashes,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level IN ('payload-signed', 'transport-authenticated')) AS verified,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level NOT IN ('payload-signed', 'transport-authenticated')) AS unverified,
       min(crashes.provisional) AS provisional, min(event_time) AS first_seen, max(event_time) AS last_seen,
       max((crashes.evidence, event_time, id, title, signature, toString(severity))) AS strongest, min((event_time, id)) AS oldest, max((event_time, id)) AS newest,
       groupUniqArrayIf(toString(swversion), swversion != '') AS swversions, groupUniqArrayIf(toString(compartment), compartment != '') AS compartments,
       groupUniqArrayArray(arrayMap(module -> module.debug_id, missing_symbols)) AS modules
FROM crashes FINAL
ARRAY JOIN [3600, 86400] AS span
WHERE standing IN ('counted', 'claimed') AND revision = 0 AND event_time >= {day:DateTime64(3)} AND event_time < {next_day:DateTime64(3)}
GROUP BY fleet, span, start, bucket, evidence, kind, waiting;

-- Crashes that were analysed again, and, with standing `forgotten`, those that were taken away. What is said of one is here as it is in `crashes`.
CREATE TABLE IF NOT EXISTS revised_crashes
(
    fleet       LowCardinality(String),
    event_time  DateTime64(3, 'UTC'),
    id          String,
    revision    UInt32,
    partition   UInt32,
    offset      UInt64,
    device      String,
    device_number UInt64,
    auth_level  LowCardinality(String),
    standing    LowCardinality(String),
    bucket      String,
    evidence    UInt8,
    kind        LowCardinality(String),
    severity    LowCardinality(String),
    title       String,
    signature   String,
    provisional UInt8,
    swversion   LowCardinality(String),
    compartment LowCardinality(String),
    modules     Array(String)
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (fleet, event_time, id);

CREATE MATERIALIZED VIEW IF NOT EXISTS revised_of_crashes TO revised_crashes AS
SELECT fleet, event_time, id, revision, partition, offset, device, device_number, auth_level, standing, bucket, evidence, kind, severity, title, signature, provisional, swversion, compartment,
       arrayMap(module -> module.debug_id, missing_symbols) AS modules
FROM crashes
WHERE revision > 0;

INSERT INTO revised_crashes
SELECT fleet, event_time, id, revision, partition, offset, device, device_number, auth_level, standing, bucket, evidence, kind, severity, title, signature, provisional, swversion, compartment,
       arrayMap(module -> module.debug_id, missing_symbols) AS modules
FROM crashes
WHERE revision > 0 AND event_time >= {day:DateTime64(3)} AND event_time < {next_day:DateTime64(3)};

-- What lists show of a crash, in the order of devices: the timeline of one is a range of the key. Like the tables above it
-- has no partitions: a block whose crashes claim a hundred months is one part here.
CREATE TABLE IF NOT EXISTS device_crashes
(
    fleet          LowCardinality(String),
    device         String,
    event_time     DateTime64(3, 'UTC'),
    id             String,
    revision       UInt32,
    received_at    DateTime64(3, 'UTC'),
    device_key     String,
    issuer         LowCardinality(String),
    anchor         LowCardinality(String),
    key_protection LowCardinality(String),
    auth_level     LowCardinality(String),
    standing       LowCardinality(String),
    flags          Array(LowCardinality(String)),
    source         String,
    bootcount      Nullable(UInt64),
    seq            Nullable(UInt64),
    uptime_s       Nullable(UInt64),
    hwmodel        LowCardinality(String),
    swname         LowCardinality(String),
    swversion      LowCardinality(String),
    compartment    LowCardinality(String),
    layer          LowCardinality(String),
    process        LowCardinality(String),
    reset_reason   LowCardinality(String),
    status         LowCardinality(String),
    kind           LowCardinality(String),
    access         LowCardinality(String),
    evidence       UInt8,
    severity       LowCardinality(String),
    address_class  LowCardinality(String),
    fault_address  Nullable(UInt64),
    pc             Nullable(UInt64),
    bucket         String,
    title          String,
    provisional    UInt8
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (fleet, device, event_time, id)
SETTINGS index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS device_crashes_of_crashes TO device_crashes AS
SELECT fleet, device, event_time, id, revision, received_at, device_key, issuer, anchor, key_protection, auth_level, standing, flags, source, bootcount, seq, uptime_s,
       hwmodel, swname, swversion, compartment, layer, process, reset_reason, status, kind, access, evidence, severity, address_class, fault_address, pc, bucket, title, provisional
FROM crashes;

INSERT INTO device_crashes
SELECT fleet, device, event_time, id, revision, received_at, device_key, issuer, anchor, key_protection, auth_level, standing, flags, source, bootcount, seq, uptime_s,
       hwmodel, swname, swversion, compartment, layer, process, reset_reason, status, kind, access, evidence, severity, address_class, fault_address, pc, bucket, title, provisional
FROM crashes
WHERE event_time >= {day:DateTime64(3)} AND event_time < {next_day:DateTime64(3)}
SETTINGS max_insert_block_size = 16384, min_insert_block_size_bytes = 16777216, max_threads = 1;
