import type { ClickHouse } from '../../../infra/clickhouse/client.ts'

/**
 * Crashes by the million, made by the engine itself from numbers: the columns, widths and disorder that a worker's rows
 * have. Number n is the same crash whenever it is made, so a part that is made again is a re-delivery.
 *
 * 28 days of a fleet; buckets on a log-uniform law (the first of 600 has a tenth of the crashes, the last hundred a few
 * each hour), one in twenty waits for symbols, and for one in a hundred they came, so that its crashes were analysed again
 * into another; 100,000 devices, some of which crash in loops; 3 % of the reports come hours to days late; 1 % of the rows are
 * said twice, so that FINAL has something to do. Places in the log are as dense as a topic of six partitions has them, and no
 * counter of a device stands for two crashes, so that nothing looks like a copied key.
 */
export interface Fill { rows: number; devices: number; buckets: number; days: number; /** The end of the last day, ms. */ end: number }

/** Rows of one insert: parts are born as large as a worker's would be after a few merges, which saves the fill minutes. */
const SLICE = 40_000

export async function fill(clickhouse: ClickHouse, plan: Fill, onSlice: (done: number) => void = () => {}): Promise<void> {
  for (let from = 0; from < plan.rows; from += SLICE) {
    const to = Math.min(plan.rows, from + SLICE)
    await insertCrashes(clickhouse, plan, { from, to })
    const told = Math.floor((to - from) / 100)
    await insertCrashes(clickhouse, plan, { from, to: from + told })
    await insertCrashes(clickhouse, plan, { from, to, revision: 1 })
    onSlice(to)
  }
}

export async function insertCrashes(clickhouse: ClickHouse, plan: Fill, { from, to, revision = 0 }: { from: number; to: number; revision?: number }): Promise<void> {
  const { rows, devices, buckets, days, end } = plan
  await clickhouse.command({
    query: SQL,
    query_params: { from: Math.floor(from), count: Math.floor(to) - Math.floor(from), rows, devices, buckets, revision, start: end - days * 86_400_000, span: days * 86_400_000 },
    clickhouse_settings: { max_execution_time: 600, max_insert_block_size: '200000', min_insert_block_size_bytes: '0', min_insert_block_size_rows: '0', max_block_size: '8192', max_threads: 1, max_memory_usage: '1500000000', max_partitions_per_insert_block: '0' },
  })
}

/** A share of [0, 1) that depends on the crash and on what is asked. */
const U = `(n, salt) -> sipHash64(n, salt) / 18446744073709551616.`

const SQL = `
INSERT INTO crashes (fleet, event_time, id, revision, first_bucket, received_at, written_at, topic, partition, offset, device_number, device, device_key, issuer, anchor, key_protection, auth_level, standing,
  flags, source, bootcount, seq, uptime_s, hwmodel, swname, swversion, build_id, svn, reset_reason, compartment, layer, process, last_input_age_ms, peer, listener_port, fingerprint, dbgstat,
  annotations, content_type, encoding, digest, size, pack, dump_offset, dump_length, manifest_pack, manifest_offset, manifest_length, status, status_reason, format, os, cpu, kind, access,
  evidence, severity, cwe, evidence_for, evidence_against, address_class, fault_address, pc, sp, pattern, pc_outside_modules, ruleset, bucket, signature, title, signature_frames,
  signature_notes, provisional, missing_symbols, report)
WITH ${U} AS u,
  ['null-dereference', 'abort', 'stack-exhaustion', 'wild-read', 'assert', 'watchdog', 'heap-buffer-overflow', 'wild-write', 'stack-guard', 'illegal-instruction'] AS kinds,
  [1, 1, 2, 2, 1, 1, 3, 3, 3, 4] AS classes, ['httpd', 'mqttd', 'sensor', 'logger', 'updater', 'netd', 'ui', 'storage'] AS compartments
SELECT 'default', at, lower(hex(sipHash128(n))), {revision:UInt32}, if({revision:UInt32} = 0, '', leftPad(lower(hex(sipHash64(toUInt32(0), rank))), 16, '0')), received, received + 2, 'crashes.accepted', toUInt32(n % 6), intDiv(n, 6), bitShiftLeft(toUInt64(device_number % 6), 40) + intDiv(device_number, 6) * 4 + 1,
  concat('thermostat-', leftPad(toString(device_number), 7, '0')) AS device, lower(hex(SHA256(device))), 'CN=Fleet Intermediate 3', repeat('5e', 32), if(device_number % 5 = 0, 'software', 'hardware'),
  if(u(n, 11) < 0.01, 'project-key', 'payload-signed'), if(u(n, 12) < 0.005, 'stale-counter', 'counted'), if(late, ['late'], []), concat('198.51.', toString(device_number % 250), '.0/24'),
  toUInt64(3 + intDiv(n, 100000)), n % 100000, toUInt64(u(n, 13) * 900000), concat('thermo-', toString(device_number % 4)), 'thermostat', concat('4.', toString(version), '.', toString(device_number % 3)), concat('build-4', toString(version)),
  if(device_number % 3 = 0, NULL, toUInt64(7 + version)), '', compartments[1 + rank % 8] AS compartment, 'app', compartment, if(rank % 8 < 2, toUInt64(u(n, 14) * 5000), NULL),
  if(rank % 8 < 2, concat('203.0.', toString(sipHash64(n, 15) % 256), '.', toString(sipHash64(n, 16) % 256)), ''), if(rank % 8 < 2, 80, NULL), '', NULL,
  map('region', concat('r', toString(device_number % 12)), 'lot', concat('lot-', toString(device_number % 400))), 'application/x-minidump', '', lower(hex(SHA256(toString(n)))), toUInt64(20000 + u(n, 17) * 40000),
  concat('packs/crashes.accepted/0/', leftPad(toString(intDiv(n, 200) * 200), 16, '0'), '-', leftPad(toString(intDiv(n, 200) * 200 + 199), 16, '0'), '-', lower(hex(sipHash64(intDiv(n, 200)))), '.pack') AS pack, n % 200 * 41000, 40000, pack, n % 200 * 41000 + 40000, 900,
  if(provisional, 'partial', 'ok'), '', 'minidump', 'Linux', 'arm64', kinds[1 + rank % 10] AS kind, if(rank % 2 = 0, 'read', 'write'),
  toUInt8(classes[1 + rank % 10]) AS evidence, if(evidence >= 3, 'probably-exploitable', 'not-exploitable'), [476 + evidence],
  [('fault-address', concat('the address 0x', lower(hex(address)), ' is in no module'))], [('usual', 'the address is where such bugs are')], if(rank % 10 = 0, 'near-null', 'mapped'),
  if(rank % 10 = 0, rank % 4096, address) AS fault, toUInt64(0x400000 + rank * 4096 + 84), bitAnd(sipHash64(n, 18), 0x7fffffffffff), '', 0, 1, bucket, arrayStringConcat(arrayPushFront(frames, kind), ' | ') AS signature,
  concat(kind, ' in ', frames[1], ' (', compartment, '.c:', toString(rank), ')'), frames, [('prefix', frames[4], '', 'a frame of the C library says little')], provisional,
  if(provisional, [(concat('lib', compartment, '.so'), concat(upper(hex(MD5(toString(rank)))), '0'), '')], []),
  concat('{"format":"minidump","system_info":{"os":"Linux","cpu_arch":"arm64"},"crash_info":{"address":"0x', lower(hex(fault)), '","crashing_thread":0},"modules":[',
    arrayStringConcat(arrayMap(m -> concat('{"debug_file":"lib', toString(m), '.so","debug_id":"', upper(hex(MD5(toString(rank * m)))), '","base":"0x', lower(hex(sipHash64(n, m))), '","symbol_status":"found"}'), range(2)), ','),
    '],"frames":[', arrayStringConcat(arrayMap((f, i) -> concat('{"module":"lib', toString(i), '.so","function":"', f, '","offset":"0x', lower(hex(sipHash64(rank, i))), '","trust":"cfi"}'), frames, range(6)), ','), '],"notes":[]}')
FROM
(
  SELECT {from:UInt64} + number AS n, toUInt32(exp(u(n, 1) * log({buckets:UInt32}))) AS rank, u(n, 2) < 0.03 AS late, sipHash64(n, 19) AS address,
    toUInt64(if(u(n, 3) < 0.03, sipHash64(n, 4) % 300, sipHash64(n, 5) % {devices:UInt64})) AS device_number,
    fromUnixTimestamp64Milli(toInt64({start:Int64} + {span:Int64} * n / {rows:UInt64}), 'UTC') AS received,
    fromUnixTimestamp64Milli(toInt64(greatest(toFloat64({start:Int64}), {start:Int64} + {span:Int64} * n / {rows:UInt64} - if(late, -log(1 - u(n, 6)) * 86400000, u(n, 7) * 8000))), 'UTC') AS at,
    toUInt32(n * 4 / {rows:UInt64}) AS version, rank % 20 = 7 AND {revision:UInt32} = 0 AS provisional,
    leftPad(lower(hex(sipHash64({revision:UInt32}, rank))), 16, '0') AS bucket,
    arrayMap(i -> concat(['parse', 'read', 'handle', 'dispatch', 'main_loop', 'main'][i + 1], '_', toString(intDiv(rank, i + 1))), range(6)) AS frames
  FROM numbers({count:UInt64})
)
WHERE {revision:UInt32} = 0 OR rank % 100 = 47`
