-- How an alert grew: `alerts` keeps only its newest version, the page shows them all.
CREATE TABLE IF NOT EXISTS alert_versions
(
    fleet      LowCardinality(String),
    id         String,
    version    UInt32,
    severity   LowCardinality(String),
    state      LowCardinality(String),
    updated_at DateTime64(3, 'UTC'),
    devices    UInt64,
    crashes    UInt64,
    score      Float64
)
ENGINE = ReplacingMergeTree
ORDER BY (fleet, id, version);

CREATE MATERIALIZED VIEW IF NOT EXISTS alert_versions_of_alerts TO alert_versions AS
SELECT fleet, id, version, severity, state, updated_at, devices, crashes, score FROM alerts;
