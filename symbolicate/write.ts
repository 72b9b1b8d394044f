import type { AcceptedCrash, Claims } from '../ingest/contract.ts'
import type { Analysis, Archive, SymbolicatedCrash } from './contract.ts'
import { elfName } from './symbols/elf-name.ts'

/**
 * A SymbolicatedCrash as one row of ClickHouse `crashes`, and back as far as reprocessing needs it. Names on the left are
 * the table's; 64-bit values travel as decimal strings, since JSON numbers are doubles in half of the world.
 * What is part of the key (fleet, event_time, id) comes from ingest alone: a batch that is read again writes the same keys.
 */
export type CrashRow = ReturnType<typeof rowOf>

export function rowOf({ accepted, position, deviceNumber, archive, revision, analysis }: SymbolicatedCrash, writtenAt: number) {
  return { ...acceptedColumns(accepted, position, deviceNumber, archive), ...analysedColumns(analysis, revision, writtenAt) }
}

/** The row of a crash that came without its dump: its own facts, and the bucket of the crash that it names. */
export function claimedRowOf({ accepted, position, deviceNumber, archive, revision }: Omit<SymbolicatedCrash, 'analysis'>, named: CrashRow, writtenAt: number): CrashRow {
  return { ...acceptedColumns(accepted, position, deviceNumber, archive), ...claimedColumns(named, revision, writtenAt) }
}

/** The columns that never change. */
function acceptedColumns(accepted: AcceptedCrash, position: SymbolicatedCrash['position'], deviceNumber: number, archive: Archive) {
  const { claims } = accepted
  return wellFormed({
    fleet: accepted.fleet,
    event_time: dateTime(accepted.eventTime),
    id: accepted.id,
    received_at: dateTime(accepted.receivedAt),
    ...position,
    device_number: deviceNumber,

    device: accepted.deviceId,
    device_key: accepted.deviceKeyId ?? '',
    issuer: accepted.issuer ?? '',
    anchor: accepted.anchor ?? '',
    key_protection: accepted.keyProtection,
    auth_level: accepted.authLevel,
    standing: accepted.standing,
    flags: accepted.flags,
    source: accepted.source,

    bootcount: claims.bootcount ?? null,
    seq: claims.seq ?? null,
    epoch: accepted.epoch ?? 0,
    uptime_s: claims.uptimeSeconds ?? null,
    hwmodel: claims.hwmodel ?? '',
    swname: claims.swname ?? '',
    swversion: claims.swversion ?? '',
    build_id: claims.buildId ?? '',
    svn: claims.svn ?? null,
    reset_reason: claims.resetReason ?? '',
    compartment: claims.compartment ?? '',
    layer: claims.layer ?? '',
    process: claims.process ?? '',
    last_input_age_ms: claims.lastInputAgeMs ?? null,
    peer: claims.peer ?? '',
    listener_port: claims.listenerPort ?? null,
    fingerprint: claims.fingerprint ?? '',
    claimed_of: accepted.claimedOf ?? '',
    dbgstat: claims.dbgstat ?? null,
    annotations: accepted.annotations,

    content_type: accepted.contentType,
    encoding: claims.encoding ?? '',
    digest: accepted.digest,
    size: accepted.size,
    pack: archive.pack,
    dump_offset: archive.dumpOffset,
    dump_length: archive.dumpLength,
    manifest_pack: archive.manifestPack,
    manifest_offset: archive.manifestOffset,
    manifest_length: archive.manifestLength,
  })
}

/** The columns that a new analysis of the same crash replaces. */
export function analysedColumns({ status, statusReason, kind, access, evidence, signature, report }: Analysis, revision: number, writtenAt: number) {
  return wellFormed({
    revision,
    first_bucket: '',
    written_at: dateTime(writtenAt),
    status,
    status_reason: statusReason,
    format: report.format,
    os: report.system_info.os,
    cpu: report.system_info.cpu_arch,
    kind,
    access,
    evidence: evidence.class,
    severity: evidence.severity,
    cwe: evidence.cwe,
    evidence_for: evidence.for.map(({ slug, text }) => ({ slug, text })),
    evidence_against: evidence.against.map(({ slug, text }) => ({ slug, text })),
    address_class: evidence.addressClass,
    fault_address: decimal(evidence.faultAddress),
    pc: decimal(evidence.pc),
    sp: decimal(evidence.sp),
    pattern: evidence.pattern ?? '',
    pc_outside_modules: evidence.pcOutsideModules ? 1 : 0,

    ruleset: signature.ruleset,
    bucket: signature.bucket,
    signature: signature.text,
    title: signature.title,
    signature_frames: signature.frames,
    signature_notes: signature.notes.map(({ rule, from, to, why }) => ({ rule, from, to, why })),
    provisional: signature.provisional ? 1 : 0,
    missing_symbols: report.modules
      .filter((module) => module.symbol_status === 'missing')
      .map((module) => ({ debug_file: module.debug_file ?? '', debug_id: module.debug_id ?? (module.elf_sha256 === undefined ? '' : elfName(module.elf_sha256)), code_id: module.code_id ?? '' })),
    report: JSON.stringify(report),
  })
}

/**
 * What the named crash says about one that claims to be the same: what it is and which bucket it belongs to. Its addresses
 * are facts of the other device, and whoever looks for guessing or for planted values must not find them a second time.
 */
export function claimedColumns(named: CrashRow, revision: number, writtenAt: number): ReturnType<typeof analysedColumns> {
  const {
    status, status_reason, format, os, cpu, kind, access, evidence, severity, cwe, evidence_for, evidence_against, address_class,
    ruleset, bucket, signature, title, signature_frames, signature_notes, provisional, missing_symbols,
  } = named
  const report = JSON.parse(named.report) as Analysis['report']
  const note = { slug: 'claimed', text: `the device sent no dump: it names the fingerprint of crash ${named.id}, and these are the frames of that crash` }
  return {
    revision, first_bucket: '', written_at: dateTime(writtenAt), status, status_reason, format, os, cpu, kind, access, evidence, severity, cwe, evidence_for, evidence_against,
    address_class, fault_address: null, pc: null, sp: null, pattern: '', pc_outside_modules: 0,
    ruleset, bucket, signature, title, signature_frames, signature_notes, provisional, missing_symbols,
    report: JSON.stringify({ ...report, notes: [note, ...report.notes] }),
  }
}

/**
 * The row of a crash that the table holds already. Whoever counts in sets must know which of two that differ is meant, and in
 * which set the first one is (infra/clickhouse/schema/009-counts.sql, 011): so one that says something else of the crash gets the
 * next revision, and one that says the same stays what it was, so that a batch that is read again leaves the sets as they are.
 */
export function revised<Row extends CrashRow>(row: Row, before: Before): Row {
  const same = row.bucket === before.bucket && row.evidence === before.evidence && row.kind === before.kind && row.standing === before.standing && row.provisional === before.provisional
    && (row.missing_symbols.length > 0) === (before.waiting === 1) && row.auth_level === before.auth_level
  return { ...row, revision: before.revision + (same ? 0 : 1), first_bucket: before.revision === 0 ? (same ? '' : before.bucket) : before.first_bucket }
}

/** The next revision of a row: what a new analysis says of the same crash. */
export const renewedRow = (row: CrashRow, columns: ReturnType<typeof analysedColumns>): CrashRow =>
  ({ ...row, ...columns, revision: Number(row.revision) + 1, first_bucket: Number(row.revision) === 0 ? row.bucket : row.first_bucket })

/** What a crash counts as in sets. */
export interface Before { revision: number; first_bucket: string; bucket: string; evidence: number; kind: string; standing: string; auth_level: string; provisional: number; waiting: number }

/** The claims that the table keeps: what an analysis may read, so that reprocessing sees what the worker saw. */
export function claimsOf(row: CrashRow): Claims {
  const text = (value: string) => (value === '' ? undefined : value)
  const number = (value: number | string | null) => (value === null ? undefined : Number(value))
  return {
    bootcount: number(row.bootcount), seq: number(row.seq), size: number(row.size), uptimeSeconds: number(row.uptime_s),
    hwmodel: text(row.hwmodel), swname: text(row.swname), swversion: text(row.swversion), buildId: text(row.build_id),
    encoding: text(row.encoding) as Claims['encoding'], resetReason: text(row.reset_reason), compartment: text(row.compartment),
    layer: text(row.layer) as Claims['layer'], svn: number(row.svn), process: text(row.process), lastInputAgeMs: number(row.last_input_age_ms),
    peer: text(row.peer), listenerPort: number(row.listener_port), fingerprint: text(row.fingerprint), dbgstat: number(row.dbgstat),
  }
}

/** `2026-11-22 10:21:04.123`, UTC: the form that DateTime64(3) takes whatever the server's settings are. */
export const dateTime = (ms: number): string => new Date(Math.min(ms, LAST_MS)).toISOString().slice(0, -1).replace('T', ' ')

/** 2299-12-31, the end of DateTime64. */
const LAST_MS = 10_413_791_999_999

const decimal = (value: bigint | null): string | null => (value === null ? null : value.toString())

/** Lone surrogates are legal in a JavaScript string and in no UTF-8: ClickHouse would refuse the whole block for one of them. */
function wellFormed<T>(value: T): T {
  // Nearly always there is none, and nothing is copied.
  return isWellFormed(value) ? value : replaced(value)
}

function isWellFormed(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed()
  if (value === null || typeof value !== 'object') return true
  if (Array.isArray(value)) return value.every(isWellFormed)
  return Object.keys(value).every((key) => key.isWellFormed() && isWellFormed((value as Record<string, unknown>)[key]))
}

function replaced<T>(value: T): T {
  if (typeof value === 'string') return value.toWellFormed() as T
  if (value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.map(replaced) as T
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k.toWellFormed(), replaced(v)])) as T
}
