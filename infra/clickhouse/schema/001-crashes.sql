-- Everything here is a set keyed by identity, so that saying a thing twice changes nothing:
-- a batch that is read again after a kill writes the same keys, FINAL counts each key once before any merge,
-- and the materialised views keep only minima, maxima and sets, which repetition cannot move.
-- A reprocessed crash is the same key with a higher revision; the highest counts.
CREATE TABLE IF NOT EXISTS crashes
(
    fleet             LowCardinality(String),
    event_time        DateTime64(3, 'UTC'),
    id                String,
    revision          UInt32,
    received_at       DateTime64(3, 'UTC'),
    written_at        DateTime64(3, 'UTC'),
    topic             LowCardinality(String),
    partition         UInt32,
    offset            UInt64,

    device            String,
    device_key        String,
    issuer            LowCardinality(String),
    anchor            LowCardinality(String),
    key_protection    LowCardinality(String),
    auth_level        LowCardinality(String),
    standing          LowCardinality(String),
    flags             Array(LowCardinality(String)),
    source            String,

    bootcount         Nullable(UInt64),
    seq               Nullable(UInt64),
    uptime_s          Nullable(UInt64),
    hwmodel           LowCardinality(String),
    swname            LowCardinality(String),
    swversion         LowCardinality(String),
    build_id          String,
    svn               Nullable(UInt64),
    reset_reason      LowCardinality(String),
    compartment       LowCardinality(String),
    layer             LowCardinality(String),
    process           LowCardinality(String),
    last_input_age_ms Nullable(UInt64),
    peer              String,
    listener_port     Nullable(UInt32),
    fingerprint       String,
    annotations       Map(String, String) CODEC(ZSTD(3)),

    content_type      LowCardinality(String),
    encoding          LowCardinality(String),
    digest            String,
    size              UInt64,
    pack              String,
    dump_offset       UInt64,
    dump_length       UInt64,
    manifest_offset   UInt64,
    manifest_length   UInt64,

    status            LowCardinality(String),
    status_reason     String,
    format            LowCardinality(String),
    os                LowCardinality(String),
    cpu               LowCardinality(String),
    kind              LowCardinality(String),
    access            LowCardinality(String),
    evidence          UInt8,
    severity          LowCardinality(String),
    cwe               Array(UInt16),
    evidence_for      Array(Tuple(slug String, text String)),
    evidence_against  Array(Tuple(slug String, text String)),
    address_class     LowCardinality(String),
    fault_address     Nullable(UInt64),
    pc                Nullable(UInt64),
    sp                Nullable(UInt64),
    pattern           LowCardinality(String),
    pc_outside_modules UInt8,

    ruleset           UInt16,
    bucket            String,
    signature         String,
    title             String,
    signature_frames  Array(String),
    signature_notes   Array(Tuple(rule String, from String, to String, why String)),
    provisional       UInt8,
    missing_symbols   Array(Tuple(debug_file String, debug_id String, code_id String)),
    report            String CODEC(ZSTD(3)),

    INDEX by_bucket bucket TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_device device TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(event_time)
ORDER BY (fleet, event_time, id)
SETTINGS index_granularity = 1024;

-- One crash by its id, and the worker's question "have I written this one already?".
CREATE TABLE IF NOT EXISTS crash_ids
(
    id         String,
    fleet      LowCardinality(String),
    event_time DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (id, fleet, event_time);

CREATE MATERIALIZED VIEW IF NOT EXISTS crash_ids_of_crashes TO crash_ids AS
SELECT id, fleet, event_time FROM crashes;

-- The life of a bucket: never rewritten, only widened.
CREATE TABLE IF NOT EXISTS buckets
(
    fleet      LowCardinality(String),
    bucket     String,
    first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_seen  SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    evidence   SimpleAggregateFunction(max, UInt8),
    title      SimpleAggregateFunction(max, String),
    signature  SimpleAggregateFunction(max, String),
    kind       SimpleAggregateFunction(max, String)
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, bucket);

CREATE MATERIALIZED VIEW IF NOT EXISTS buckets_of_crashes TO buckets AS
SELECT fleet, bucket, min(event_time) AS first_seen, max(event_time) AS last_seen, max(evidence) AS evidence,
       max(title) AS title, max(signature) AS signature, max(toString(kind)) AS kind
FROM crashes
WHERE standing IN ('counted', 'claimed')
GROUP BY fleet, bucket;

-- Who is alive on which version; heartbeats and inventories will feed it too.
CREATE TABLE IF NOT EXISTS devices
(
    fleet      LowCardinality(String),
    device     String,
    device_key String,
    first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_seen  SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    swversion  AggregateFunction(argMax, String, DateTime64(3, 'UTC')),
    hwmodel    AggregateFunction(argMax, String, DateTime64(3, 'UTC')),
    auth_level AggregateFunction(argMax, String, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, device, device_key);

CREATE MATERIALIZED VIEW IF NOT EXISTS devices_of_crashes TO devices AS
SELECT fleet, device, device_key, min(event_time) AS first_seen, max(event_time) AS last_seen,
       argMaxState(toString(swversion), event_time) AS swversion, argMaxState(toString(hwmodel), event_time) AS hwmodel,
       argMaxState(toString(auth_level), event_time) AS auth_level
FROM crashes
GROUP BY fleet, device, device_key;

-- How far a worker has written; the highest counts. Its row follows the block, never the other way round.
CREATE TABLE IF NOT EXISTS positions
(
    topic       String,
    partition   UInt32,
    next_offset UInt64,
    written_at  DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (topic, partition);

-- What could not become a crash, with its reason and, up to 64 KiB, its bytes; the rest is in the dead-letter topic.
CREATE TABLE IF NOT EXISTS dead_letters
(
    topic       LowCardinality(String),
    partition   UInt32,
    offset      UInt64,
    at          DateTime64(3, 'UTC'),
    stage       LowCardinality(String),
    slug        LowCardinality(String),
    reason      String,
    key         String,
    message     String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, offset);
