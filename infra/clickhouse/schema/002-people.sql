-- Mutable state is append-only events; the newest event of a subject is its state, and all of them are the audit log.
-- hash = SHA-256 over prev_hash and the event, so that a removed or altered line breaks the chain. It is part of the key:
-- if two dashboards ever take the same number, both lines stay, and the chain shows the fork.
CREATE TABLE IF NOT EXISTS events
(
    fleet     LowCardinality(String),
    at        DateTime64(3, 'UTC'),
    number    UInt64,
    actor     String,
    kind      LowCardinality(String),
    subject   String,
    body      String,
    prev_hash String,
    hash      String
)
ENGINE = ReplacingMergeTree
ORDER BY (fleet, number, hash);

-- One row per state of an alert; the highest version counts.
CREATE TABLE IF NOT EXISTS alerts
(
    fleet        LowCardinality(String),
    id           String,
    version      UInt32,
    pattern      LowCardinality(String),
    severity     LowCardinality(String),
    state        LowCardinality(String),
    bucket       String,
    device       String,
    title        String,
    opened_at    DateTime64(3, 'UTC'),
    updated_at   DateTime64(3, 'UTC'),
    first_event  DateTime64(3, 'UTC'),
    last_event   DateTime64(3, 'UTC'),
    devices      UInt64,
    crashes      UInt64,
    p_value      Float64,
    ln_p         Float64,
    score        Float64,
    stratum      LowCardinality(String),
    evidence     String CODEC(ZSTD(3)),
    query        String CODEC(ZSTD(3)),
    query_params String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (fleet, id);

-- One row per try to tell somebody.
CREATE TABLE IF NOT EXISTS deliveries
(
    fleet   LowCardinality(String),
    alert   String,
    version UInt32,
    channel String,
    at      DateTime64(3, 'UTC'),
    attempt UInt32,
    outcome LowCardinality(String),
    detail  String
)
ENGINE = ReplacingMergeTree
ORDER BY (fleet, alert, version, channel, attempt);
