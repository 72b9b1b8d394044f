-- A dead letter keeps all that the log had of it, so that it can be put back. Rows from before have no headers and at most
-- 64 KiB of their message; `message_bytes` is 0 there.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS headers Map(String, String) AFTER key;
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS message_bytes UInt64 AFTER headers;
-- The letter that was put back and came to nothing once more: topic/partition/offset.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS replay_of String AFTER message_bytes;

-- Which letters were put back into the log. A letter is no longer waiting once it stands here.
CREATE TABLE IF NOT EXISTS dead_letter_replays
(
    topic     LowCardinality(String),
    partition UInt32,
    offset    UInt64,
    at        DateTime64(3, 'UTC'),
    actor     String
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (topic, partition, offset);

-- What the log's retention removed before it was read: offsets [first_offset, end_offset), which were appended after what
-- was written last and before what was found next. Seen again with another end, the newest counts.
CREATE TABLE IF NOT EXISTS log_gaps
(
    topic        LowCardinality(String),
    partition    UInt32,
    first_offset UInt64,
    end_offset   UInt64,
    lost_after   Nullable(DateTime64(3, 'UTC')),
    lost_before  DateTime64(3, 'UTC'),
    seen_at      DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(seen_at)
ORDER BY (topic, partition, first_offset);

-- Each pass over the archive: objects that no row names, and those past their age.
CREATE TABLE IF NOT EXISTS sweeps
(
    at           DateTime64(3, 'UTC'),
    swept_by     String,
    objects      UInt64,
    orphans      UInt64,
    orphan_bytes UInt64,
    aged         UInt64,
    aged_bytes   UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (at, swept_by);
