-- A device whose boot count began again (overrun device rebase) starts a new epoch: the same counters are new ones then,
-- and what an earlier epoch said stays earlier, however high its boot count was. Each new view stands beside the one that
-- it replaces before that one goes, so that no row is missed; both say the same of first epochs.
ALTER TABLE crashes ADD COLUMN IF NOT EXISTS epoch UInt32 AFTER seq;

ALTER TABLE counters ADD COLUMN IF NOT EXISTS epoch UInt32 AFTER seq;
CREATE MATERIALIZED VIEW IF NOT EXISTS counters_by_epoch TO counters AS
SELECT device_key, assumeNotNull(bootcount) AS bootcount, assumeNotNull(seq) AS seq, epoch, id, topic, partition, offset
FROM crashes
WHERE device_key != '' AND bootcount IS NOT NULL AND seq IS NOT NULL;
DROP VIEW IF EXISTS counters_of_crashes;

ALTER TABLE svns ADD COLUMN IF NOT EXISTS epoch UInt32, MODIFY ORDER BY (fleet, device, svn, epoch);
CREATE MATERIALIZED VIEW IF NOT EXISTS svns_by_epoch TO svns AS
SELECT fleet, device, epoch, assumeNotNull(crashes.svn) AS svn, min(assumeNotNull(bootcount)) AS first_boot, min(received_at) AS first_seen
FROM crashes
WHERE crashes.svn IS NOT NULL AND bootcount IS NOT NULL AND standing IN ('counted', 'claimed') AND auth_level IN ('payload-signed', 'transport-authenticated')
GROUP BY fleet, device, epoch, svn;
DROP VIEW IF EXISTS svns_of_crashes;

-- A pending device is on the list of devices, and is no exposure: what it is stands in place of how it proved itself.
CREATE MATERIALIZED VIEW IF NOT EXISTS devices_by_crashes TO devices AS
SELECT fleet, device, device_key, min(event_time) AS first_seen, max(event_time) AS last_seen,
       argMaxState(toString(swversion), event_time) AS swversion, argMaxState(toString(hwmodel), event_time) AS hwmodel,
       argMaxState(if(standing = 'pending', 'pending', toString(auth_level)), event_time) AS auth_level
FROM crashes
GROUP BY fleet, device, device_key;
DROP VIEW IF EXISTS devices_of_crashes;

-- When a bucket was first seen by word of somebody who proved who they are: a stranger's upload must not make an attack look old.
ALTER TABLE buckets ADD COLUMN IF NOT EXISTS proven_since SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT first_seen;
CREATE MATERIALIZED VIEW IF NOT EXISTS buckets_by_crashes TO buckets AS
SELECT fleet, bucket, min(event_time) AS first_seen, max(event_time) AS last_seen, max(evidence) AS evidence,
       max(title) AS title, max(signature) AS signature, max(toString(kind)) AS kind,
       min(if(auth_level IN ('payload-signed', 'transport-authenticated'), event_time, toDateTime64('2299-12-31 00:00:00', 3, 'UTC'))) AS proven_since
FROM crashes
WHERE standing IN ('counted', 'claimed')
GROUP BY fleet, bucket;
DROP VIEW IF EXISTS buckets_of_crashes;
