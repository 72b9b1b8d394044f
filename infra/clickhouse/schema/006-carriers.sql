-- A crash that was told without its dump: the crash whose dump stands for it.
ALTER TABLE crashes ADD COLUMN IF NOT EXISTS claimed_of String AFTER fingerprint;

-- Devices that said they are alive: one row a day and device key, however often they say it.
CREATE TABLE IF NOT EXISTS heartbeats
(
    fleet       LowCardinality(String),
    day         Date,
    device      String,
    device_key  String,
    standing    LowCardinality(String),
    received_at DateTime64(3, 'UTC'),
    auth_level  LowCardinality(String),
    bootcount   UInt64,
    seq         UInt64,
    hwmodel     LowCardinality(String),
    swname      LowCardinality(String),
    swversion   LowCardinality(String),
    svn         Nullable(UInt64)
)
ENGINE = ReplacingMergeTree(received_at)
PARTITION BY toYYYYMM(day)
ORDER BY (fleet, day, device, device_key, standing);

CREATE MATERIALIZED VIEW IF NOT EXISTS devices_of_heartbeats TO devices AS
SELECT fleet, device, device_key, min(received_at) AS first_seen, max(received_at) AS last_seen,
       argMaxState(toString(swversion), received_at) AS swversion, argMaxState(toString(hwmodel), received_at) AS hwmodel,
       argMaxState(toString(auth_level), received_at) AS auth_level
FROM heartbeats
WHERE standing = 'counted'
GROUP BY fleet, device, device_key;

-- What quotas kept out: reports of one device between two times, with the digests of their dumps.
CREATE TABLE IF NOT EXISTS refusals
(
    fleet    LowCardinality(String),
    id       String,
    device   String,
    slug     LowCardinality(String),
    first_at DateTime64(3, 'UTC'),
    last_at  DateTime64(3, 'UTC'),
    reports  UInt64,
    digests  Array(Tuple(digest String, reports UInt64))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(last_at)
ORDER BY (fleet, last_at, id);
