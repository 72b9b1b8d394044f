-- Which devices there are, as somebody who knows says: one row a device, the newest import counts.
CREATE TABLE IF NOT EXISTS inventory
(
    fleet       LowCardinality(String),
    device      String,
    swversion   LowCardinality(String),
    hwmodel     LowCardinality(String),
    seen_at     DateTime64(3, 'UTC'),
    imported_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(imported_at)
ORDER BY (fleet, device);

-- Nothing of it is proven, so whatever a device says itself outranks its auth_level.
CREATE MATERIALIZED VIEW IF NOT EXISTS devices_of_inventory TO devices AS
SELECT fleet, device, '' AS device_key, min(seen_at) AS first_seen, max(seen_at) AS last_seen,
       argMaxState(toString(swversion), seen_at) AS swversion, argMaxState(toString(hwmodel), seen_at) AS hwmodel,
       argMaxState('inventory', toDateTime64(0, 3, 'UTC')) AS auth_level
FROM inventory
GROUP BY fleet, device;
