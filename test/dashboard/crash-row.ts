import { createHash } from 'node:crypto'
import type { ClickHouse } from '../../infra/clickhouse/client.ts'

/** One row of `crashes` as the worker would write it: an ordinary crash, except for what the test says. */
export type CrashRow = ReturnType<typeof crashRow>

export const STORY_START = Date.UTC(2026, 2, 1)
const HOUR = 3_600_000

/** A place in the log of its own for each crash, and the same whenever the crash is said again. */
export const offsetOf = (id: string): string => String(createHash('sha256').update(id).digest().readUIntBE(0, 4))

export function crashRow(said: { id: string } & Record<string, unknown>) {
  const at = new Date(Number(said['at'] ?? STORY_START + HOUR)).toISOString()
  const { at: _, ...overrides } = said
  return {
    fleet: 'demo', event_time: at, revision: 0, received_at: at, written_at: at, topic: 'crashes.accepted', partition: 0, offset: offsetOf(said.id),
    device: 'dev-1', device_key: 'key-dev-1', issuer: 'CN=Demo Intermediate', anchor: 'a'.repeat(64), key_protection: 'hardware', auth_level: 'payload-signed',
    standing: 'counted', flags: [] as string[], source: '192.0.2.0/24',
    bootcount: '3', seq: '0', uptime_s: '120', hwmodel: 'thermo-2', swname: 'thermostat', swversion: '4.2.0', build_id: 'b1', svn: null, reset_reason: '',
    compartment: 'httpd', layer: 'app', process: 'httpd', last_input_age_ms: null, peer: '', listener_port: null, fingerprint: '', annotations: {} as Record<string, string>,
    content_type: 'application/x-minidump', encoding: '', digest: 'd'.repeat(64), size: '1000', pack: '', dump_offset: '0', dump_length: '0', manifest_offset: '0', manifest_length: '0',
    status: 'ok', status_reason: '', format: 'minidump', os: 'Linux', cpu: 'arm64', kind: 'null-dereference', access: 'read', evidence: 1, severity: 'not-exploitable', cwe: [476],
    evidence_for: [] as unknown[], evidence_against: [{ slug: 'null-address', text: 'the address is null' }] as unknown[], address_class: 'null', fault_address: '0', pc: '4198400', sp: '140737488347136',
    pattern: '', pc_outside_modules: 0, ruleset: 1, bucket: '00000000000000aa', signature: '1 | null-dereference | parse | main', title: 'null-dereference in parse (httpd.c:10)',
    signature_frames: ['parse', 'main'], signature_notes: [] as unknown[], provisional: 0, missing_symbols: [] as unknown[], report: '{}',
    ...overrides,
  }
}

export async function insertCrashes(clickhouse: ClickHouse, rows: CrashRow[]): Promise<void> {
  await clickhouse.insert({ table: 'crashes', values: rows, format: 'JSONEachRow' })
}
