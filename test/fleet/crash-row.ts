import type { CrashKind } from '../../symbolicate/contract.ts'
import { offsetOf } from '../dashboard/crash-row.ts'

/** One row of `crashes` as the tests think of it: what a detector looks at; everything else has a dull default. */
export interface TestCrash {
  id: string
  at: number
  device: string
  bucket: string
  evidence: 0 | 1 | 2 | 3 | 4
  fleet?: string
  kind?: CrashKind
  compartment?: string
  process?: string
  swversion?: string
  hwmodel?: string
  source?: string
  peer?: string
  authLevel?: 'payload-signed' | 'transport-authenticated' | 'project-key'
  standing?: 'counted' | 'claimed' | 'stale-counter' | 'counter-reuse'
  revision?: number
  faultAddress?: bigint
  pc?: bigint
  pcOutsideModules?: boolean
  pattern?: 'cyclic' | 'repeated' | 'printable'
  uptimeSeconds?: number
  bootcount?: number
  lastInputAgeMs?: number
  against?: { slug: string; text: string }[]
}

export function toRow(crash: TestCrash): Record<string, unknown> {
  const at = new Date(crash.at).toISOString()
  return {
    fleet: crash.fleet ?? 'demo', event_time: at, id: crash.id, revision: crash.revision ?? 0, received_at: at, written_at: at,
    topic: 'crashes.accepted', partition: 0, offset: offsetOf(crash.id),
    device: crash.device, device_key: crash.device, issuer: 'CN=ca', anchor: 'a', key_protection: 'software',
    auth_level: crash.authLevel ?? 'payload-signed', standing: crash.standing ?? 'counted', flags: [], source: crash.source ?? '',
    bootcount: crash.bootcount ?? 1, seq: null, uptime_s: crash.uptimeSeconds ?? null, hwmodel: crash.hwmodel ?? 'T100', swname: 'thermostat',
    swversion: crash.swversion ?? '4.1.0', build_id: '', reset_reason: '', compartment: crash.compartment ?? 'httpd', layer: 'app',
    process: crash.process ?? crash.compartment ?? 'httpd', last_input_age_ms: crash.lastInputAgeMs ?? null, peer: crash.peer ?? '', fingerprint: '', annotations: {},
    content_type: 'application/x-minidump', encoding: '', digest: crash.id, size: 0, pack: '', status: 'ok', status_reason: '', format: 'minidump', os: 'linux', cpu: 'arm64',
    kind: crash.kind ?? (crash.evidence >= 3 ? 'wild-write' : 'null-dereference'), access: 'write', evidence: crash.evidence, severity: 'unknown', cwe: [],
    evidence_for: [], evidence_against: crash.against ?? [], address_class: 'unknown',
    fault_address: crash.faultAddress?.toString() ?? null, pc: crash.pc?.toString() ?? null, sp: null, pattern: crash.pattern ?? '',
    pc_outside_modules: crash.pcOutsideModules ? 1 : 0, ruleset: 1, bucket: crash.bucket, signature: crash.bucket, title: `crash ${crash.bucket}`,
    signature_frames: [], signature_notes: [], provisional: 0, missing_symbols: [], report: '',
  }
}
