-- On which firmware and hardware, in which compartment, from and after hearing which network: sets of crashes and of devices by
-- hour, six hours and day, for what a bucket has in common that others have not, for which firmware is new and for which
-- networks are usual. One table for what was two of 011, since each view costs every block its own 15 ms.
CREATE TABLE IF NOT EXISTS property_counts
(
    fleet    LowCardinality(String),
    span     UInt32,
    property LowCardinality(String),
    start    DateTime64(0, 'UTC'),
    -- Of what it is a property: the software of a version.
    name     LowCardinality(String),
    value    String,
    -- Whether the sender proved who it is.
    proven   UInt8,
    first    SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    crashes  AggregateFunction(groupBitmap, UInt64),
    -- Of days only.
    devices  AggregateFunction(groupBitmap, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (fleet, span, property, start, name, value, proven)
SETTINGS index_granularity = 64;

-- What a device says and what ingest saw never changes, so only the first revision of a crash is told. A network is its /24 or /48.
CREATE MATERIALIZED VIEW IF NOT EXISTS property_counts_of_crashes TO property_counts AS
SELECT fleet, span, pair.1 AS property, toDateTime64(intDiv(toUnixTimestamp64Milli(event_time), span * 1000) * span, 0, 'UTC') AS start, pair.2 AS name, pair.3 AS value,
       auth_level IN ('payload-signed', 'transport-authenticated') AS proven, min(event_time) AS first,
       groupBitmapState(bitShiftLeft(toUInt64(partition), 40) + offset) AS crashes,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), span = 86400) AS devices
FROM crashes
ARRAY JOIN [3600, 21600, 86400] AS span
ARRAY JOIN [('swversion', toString(swname), toString(swversion)), ('hwmodel', '', toString(hwmodel)), ('compartment', '', toString(compartment)), ('source', '', source), ('peer', '', multiIf(
    isIPv4String(peer), concat(IPv4NumToString(bitAnd(IPv4StringToNumOrDefault(peer), 0xffffff00)), '/24'),
    isIPv6String(peer), concat(cutIPv6(IPv6StringToNumOrDefault(peer), 10, 0), '/48'),
    peer))] AS pair
WHERE standing IN ('counted', 'claimed') AND revision = 0 AND NOT (pair.1 = 'peer' AND (pair.3 = '' OR span != 86400))
GROUP BY fleet, span, property, start, name, value, proven;

INSERT INTO property_counts
SELECT fleet, span, pair.1 AS property, toDateTime64(intDiv(toUnixTimestamp64Milli(event_time), span * 1000) * span, 0, 'UTC') AS start, pair.2 AS name, pair.3 AS value,
       auth_level IN ('payload-signed', 'transport-authenticated') AS proven, min(event_time) AS first,
       groupBitmapState(bitShiftLeft(toUInt64(partition), 40) + offset) AS crashes,
       groupBitmapStateIf(if(device_number = 0, bitOr(sipHash64(device), 9223372036854775808), device_number), span = 86400) AS devices
FROM crashes
ARRAY JOIN [3600, 21600, 86400] AS span
ARRAY JOIN [('swversion', toString(swname), toString(swversion)), ('hwmodel', '', toString(hwmodel)), ('compartment', '', toString(compartment)), ('source', '', source), ('peer', '', multiIf(
    isIPv4String(peer), concat(IPv4NumToString(bitAnd(IPv4StringToNumOrDefault(peer), 0xffffff00)), '/24'),
    isIPv6String(peer), concat(cutIPv6(IPv6StringToNumOrDefault(peer), 10, 0), '/48'),
    peer))] AS pair
WHERE standing IN ('counted', 'claimed') AND NOT (pair.1 = 'peer' AND (pair.3 = '' OR span != 86400))
  AND event_time >= {day:DateTime64(3)} AND event_time < {next_day:DateTime64(3)}
GROUP BY fleet, span, property, start, name, value, proven;

-- Their tables stay, with what they have, for a dashboard of the version before this one while it is replaced.
DROP VIEW IF EXISTS firmware_days_of_crashes;
DROP VIEW IF EXISTS network_days_of_crashes;
