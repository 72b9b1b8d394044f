-- What pages and detectors ask again and again, at ten million crashes and more: read in the order in which it is asked, or
-- from sets that are there already. As everything here, said twice it says the same.

-- In which bucket the sets of 009 have a crash that was analysed again: the one of its revision 0. Sets of all other buckets
-- need not be asked whether they hold it. Empty where nobody kept it: then every set is asked.
ALTER TABLE crashes ADD COLUMN IF NOT EXISTS first_bucket String AFTER revision;
ALTER TABLE revised_crashes ADD COLUMN IF NOT EXISTS first_bucket String AFTER revision;
CREATE MATERIALIZED VIEW IF NOT EXISTS revised_by_crashes TO revised_crashes AS
SELECT fleet, event_time, id, revision, first_bucket, partition, offset, device, device_number, auth_level, standing, bucket, evidence, kind, severity, title, signature, provisional, swversion, compartment,
       arrayMap(module -> module.debug_id, missing_symbols) AS modules
FROM crashes
WHERE revision > 0;
DROP VIEW IF EXISTS revised_of_crashes;

-- Sets of six hours between those of hours and of days, and of weeks (Thursday to Wednesday, as days since 1970 go): a day that
-- begins at any hour is eight rows a bucket rather than 23, and four weeks are ten rows and those at the ends rather than 28.
CREATE MATERIALIZED VIEW IF NOT EXISTS bucket_counts_by_crashes TO bucket_counts AS
SELECT fleet, span, toDateTime64(intDiv(toUnixTimestamp64Milli(crashes.event_time), span * 1000) * span, 0, 'UTC') AS start, bucket, evidence, kind, notEmpty(missing_symbols) AS waiting,
       groupBitmapState(bitShiftLeft(toUInt64(partition), 40) + offset) AS crashes,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level IN ('payload-signed', 'transport-authenticated')) AS verified,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level NOT IN ('payload-signed', 'transport-authenticated')) AS unverified,
       min(crashes.provisional) AS provisional, min(event_time) AS first_seen, max(event_time) AS last_seen,
       max((crashes.evidence, event_time, id, title, signature, toString(severity))) AS strongest, min((event_time, id)) AS oldest, max((event_time, id)) AS newest,
       groupUniqArrayIf(toString(swversion), swversion != '') AS swversions, groupUniqArrayIf(toString(compartment), compartment != '') AS compartments,
       groupUniqArrayArray(arrayMap(module -> module.debug_id, missing_symbols)) AS modules
FROM crashes
ARRAY JOIN [3600, 21600, 86400, 604800] AS span
WHERE standing IN ('counted', 'claimed') AND revision = 0
GROUP BY fleet, span, start, bucket, evidence, kind, waiting;
DROP VIEW IF EXISTS bucket_counts_of_crashes;

-- Those that are there: six hours are their hours, a week its days. A set that is filled twice is the same set.
INSERT INTO bucket_counts
SELECT fleet, 21600 AS span, toDateTime64(intDiv(toUnixTimestamp(hours.start), 21600) * 21600, 0, 'UTC') AS start, bucket, evidence, kind, waiting,
       groupBitmapMergeState(hours.crashes) AS crashes, groupBitmapMergeState(hours.verified) AS verified, groupBitmapMergeState(hours.unverified) AS unverified,
       min(hours.provisional) AS provisional, min(hours.first_seen) AS first_seen, max(hours.last_seen) AS last_seen,
       max(hours.strongest) AS strongest, min(hours.oldest) AS oldest, max(hours.newest) AS newest,
       groupUniqArrayArray(hours.swversions) AS swversions, groupUniqArrayArray(hours.compartments) AS compartments, groupUniqArrayArray(hours.modules) AS modules
FROM bucket_counts AS hours
WHERE hours.span = 3600 AND hours.start >= {day:DateTime64(3)} AND hours.start < {next_day:DateTime64(3)}
GROUP BY fleet, start, bucket, evidence, kind, waiting;

INSERT INTO bucket_counts
SELECT fleet, 604800 AS span, toDateTime64(intDiv(toUnixTimestamp(days.start), 604800) * 604800, 0, 'UTC') AS start, bucket, evidence, kind, waiting,
       groupBitmapMergeState(days.crashes) AS crashes, groupBitmapMergeState(days.verified) AS verified, groupBitmapMergeState(days.unverified) AS unverified,
       min(days.provisional) AS provisional, min(days.first_seen) AS first_seen, max(days.last_seen) AS last_seen,
       max(days.strongest) AS strongest, min(days.oldest) AS oldest, max(days.newest) AS newest,
       groupUniqArrayArray(days.swversions) AS swversions, groupUniqArrayArray(days.compartments) AS compartments, groupUniqArrayArray(days.modules) AS modules
FROM bucket_counts AS days
WHERE days.span = 86400 AND days.start >= {day:DateTime64(3)} AND days.start < {next_day:DateTime64(3)}
GROUP BY fleet, start, bucket, evidence, kind, waiting;

-- A crash as lists show it, in the order of buckets: one bucket is a range of the key, and what its crashes have in common
-- hardly takes room. A crash that moved stands in both buckets, and whoever reads takes its highest revision only
-- (dashboard/queries/scope.ts).
CREATE TABLE IF NOT EXISTS bucket_crashes
(
    fleet          LowCardinality(String),
    bucket         String,
    event_time     DateTime64(3, 'UTC'),
    id             String,
    revision       UInt32,
    received_at    DateTime64(3, 'UTC'),
    partition      UInt32,
    offset         UInt64,
    device_number  UInt64,
    device         String,
    device_key     String,
    issuer         LowCardinality(String),
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
    title          String,
    signature      String,
    provisional    UInt8,
    modules        Array(String)
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (fleet, bucket, event_time, id)
SETTINGS index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS bucket_crashes_of_crashes TO bucket_crashes AS
SELECT fleet, bucket, event_time, id, revision, received_at, partition, offset, device_number, device, device_key, issuer, key_protection, auth_level, standing, flags, source, bootcount, seq, uptime_s,
       hwmodel, swname, swversion, compartment, layer, process, reset_reason, status, kind, access, evidence, severity, address_class, fault_address, pc, title, signature, provisional,
       arrayMap(module -> module.debug_id, missing_symbols) AS modules
FROM crashes;

INSERT INTO bucket_crashes
SELECT fleet, bucket, event_time, id, revision, received_at, partition, offset, device_number, device, device_key, issuer, key_protection, auth_level, standing, flags, source, bootcount, seq, uptime_s,
       hwmodel, swname, swversion, compartment, layer, process, reset_reason, status, kind, access, evidence, severity, address_class, fault_address, pc, title, signature, provisional,
       arrayMap(module -> module.debug_id, missing_symbols) AS modules
FROM crashes
WHERE event_time >= {day:DateTime64(3)} AND event_time < {next_day:DateTime64(3)}
SETTINGS max_insert_block_size = 16384, min_insert_block_size_bytes = 16777216, max_threads = 1;

-- The same sets over all buckets, by hour and by the evidence that a crash had at first: what the overview counts.
CREATE TABLE IF NOT EXISTS fleet_counts
(
    fleet      LowCardinality(String),
    start      DateTime64(0, 'UTC'),
    evidence   UInt8,
    crashes    AggregateFunction(groupBitmap, UInt64),
    verified   AggregateFunction(groupBitmap, UInt64),
    unverified AggregateFunction(groupBitmap, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, start, evidence)
SETTINGS index_granularity = 64;

CREATE MATERIALIZED VIEW IF NOT EXISTS fleet_counts_of_crashes TO fleet_counts AS
SELECT fleet, toDateTime64(intDiv(toUnixTimestamp64Milli(event_time), 3600000) * 3600, 0, 'UTC') AS start, evidence,
       groupBitmapState(bitShiftLeft(toUInt64(partition), 40) + offset) AS crashes,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level IN ('payload-signed', 'transport-authenticated')) AS verified,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), auth_level NOT IN ('payload-signed', 'transport-authenticated')) AS unverified
FROM crashes
WHERE standing IN ('counted', 'claimed') AND revision = 0
GROUP BY fleet, start, evidence;

INSERT INTO fleet_counts
SELECT fleet, start, evidence, groupBitmapMergeState(hours.crashes) AS crashes, groupBitmapMergeState(hours.verified) AS verified, groupBitmapMergeState(hours.unverified) AS unverified
FROM bucket_counts AS hours
WHERE span = 3600 AND start >= {day:DateTime64(3)} AND start < {next_day:DateTime64(3)}
GROUP BY fleet, start, evidence;

-- On which day which proven devices crashed on which firmware: what is new (dashboard/detect/releases.ts).
CREATE TABLE IF NOT EXISTS firmware_days
(
    fleet     LowCardinality(String),
    day       Date,
    swname    LowCardinality(String),
    swversion LowCardinality(String),
    first     SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    devices   AggregateFunction(groupBitmap, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, day, swname, swversion);

CREATE MATERIALIZED VIEW IF NOT EXISTS firmware_days_of_crashes TO firmware_days AS
SELECT fleet, toDate(event_time) AS day, swname, swversion, min(event_time) AS first,
       groupBitmapState(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number)) AS devices
FROM crashes
WHERE standing IN ('counted', 'claimed') AND auth_level IN ('payload-signed', 'transport-authenticated') AND swversion != ''
GROUP BY fleet, day, swname, swversion;

INSERT INTO firmware_days
SELECT fleet, toDate(event_time) AS day, swname, swversion, min(event_time) AS first,
       groupBitmapState(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number)) AS devices
FROM crashes
WHERE standing IN ('counted', 'claimed') AND auth_level IN ('payload-signed', 'transport-authenticated') AND swversion != ''
  AND event_time >= {day:DateTime64(3)} AND event_time < {next_day:DateTime64(3)}
GROUP BY fleet, day, swname, swversion;

-- From which networks proven devices reported, and whom they had heard before they crashed, by /24 and /48: what is usual
-- (dashboard/detect/surroundings.ts).
CREATE TABLE IF NOT EXISTS network_days
(
    fleet   LowCardinality(String),
    day     Date,
    origin  LowCardinality(String),
    network String,
    devices AggregateFunction(groupBitmap, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, day, origin, network);

CREATE MATERIALIZED VIEW IF NOT EXISTS network_days_of_crashes TO network_days AS
SELECT fleet, toDate(event_time) AS day, pair.1 AS origin, pair.2 AS network,
       groupBitmapState(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number)) AS devices
FROM crashes
ARRAY JOIN [('source', source), ('peer', multiIf(
    isIPv4String(peer), concat(IPv4NumToString(bitAnd(IPv4StringToNumOrDefault(peer), 0xffffff00)), '/24'),
    isIPv6String(peer), concat(cutIPv6(IPv6StringToNumOrDefault(peer), 10, 0), '/48'),
    peer))] AS pair
WHERE standing IN ('counted', 'claimed') AND auth_level IN ('payload-signed', 'transport-authenticated') AND pair.2 != ''
GROUP BY fleet, day, origin, network;

INSERT INTO network_days
SELECT fleet, toDate(event_time) AS day, pair.1 AS origin, pair.2 AS network,
       groupBitmapState(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number)) AS devices
FROM crashes
ARRAY JOIN [('source', source), ('peer', multiIf(
    isIPv4String(peer), concat(IPv4NumToString(bitAnd(IPv4StringToNumOrDefault(peer), 0xffffff00)), '/24'),
    isIPv6String(peer), concat(cutIPv6(IPv6StringToNumOrDefault(peer), 10, 0), '/48'),
    peer))] AS pair
WHERE standing IN ('counted', 'claimed') AND auth_level IN ('payload-signed', 'transport-authenticated') AND pair.2 != ''
  AND event_time >= {day:DateTime64(3)} AND event_time < {next_day:DateTime64(3)}
GROUP BY fleet, day, origin, network;

-- Who else has this key: asked for each device that somebody looks at.
ALTER TABLE devices ADD INDEX IF NOT EXISTS by_key device_key TYPE bloom_filter(0.01) GRANULARITY 1;
