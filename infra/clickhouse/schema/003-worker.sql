-- A large dump is a blob of its own; its manifest lies in the batch's pack all the same.
ALTER TABLE crashes ADD COLUMN IF NOT EXISTS manifest_pack String DEFAULT pack AFTER dump_length;

-- What reprocessing must see again: the state of the debug port speaks against an attack.
ALTER TABLE crashes ADD COLUMN IF NOT EXISTS dbgstat Nullable(UInt8) AFTER fingerprint;

-- Which reports a device's key has counted with: the same counters with two ids is a cloned key or a rolled-back flash.
-- The worker asks by primary key; the lowest offset of the log is the first, whoever was written first.
CREATE TABLE IF NOT EXISTS counters
(
    device_key String,
    bootcount  UInt64,
    seq        UInt64,
    id         String,
    topic      LowCardinality(String),
    partition  UInt32,
    offset     UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (device_key, bootcount, seq, id, topic, partition, offset);

CREATE MATERIALIZED VIEW IF NOT EXISTS counters_of_crashes TO counters AS
SELECT device_key, assumeNotNull(bootcount) AS bootcount, assumeNotNull(seq) AS seq, id, topic, partition, offset
FROM crashes
WHERE device_key != '' AND bootcount IS NOT NULL AND seq IS NOT NULL;
