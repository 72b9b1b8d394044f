import type { AcceptedCrash } from '../ingest/contract.ts'
import type { Access, Cpu, Note, Os } from './formats/dump.ts'
import type { SymbolStatus } from './symbols/source.ts'

/**
 * SymbolicatedCrash, version 1: what the worker knows of one crash; one row of ClickHouse `crashes` (write.ts maps it).
 * `report` is what `overrun explain --json` prints and the bucket page shows: rust-minidump's field names, ours beside them.
 */
export interface SymbolicatedCrash {
  accepted: AcceptedCrash
  /** Where the log holds it, and where the worker archived manifest and dump. */
  position: { topic: string; partition: number; offset: number }
  /** Of its device, for sets of devices (device-numbers.ts). */
  deviceNumber: number
  archive: Archive
  /** 0 at first; each reprocessing (new symbols, new rules) adds one and the highest counts. */
  revision: number
  analysis: Analysis
}

/** `pack` holds the dump (a large dump is a blob of its own), `manifestPack` the manifest; for small dumps they are the same object. */
export interface Archive { pack: string; dumpOffset: number; dumpLength: number; manifestPack: string; manifestOffset: number; manifestLength: number }

/** What is computed from the dump's bytes, the claims and the symbols alone: same input, same analysis. */
export interface Analysis {
  status: AnalysisStatus
  /** Why the status is not `ok`: says what, where, what now. */
  statusReason: string
  kind: CrashKind
  access: Access
  evidence: Evidence
  signature: Signature
  report: Report
}

/** A dump that can't be read is still a crash: kept, marked and counted. */
export const ANALYSIS_STATUSES = [
  'ok', 'partial', 'dump-empty', 'dump-truncated', 'dump-malformed', 'format-unknown', 'encoding-invalid', 'budget-exceeded', 'parser-killed', 'dump-missing',
] as const
export type AnalysisStatus = (typeof ANALYSIS_STATUSES)[number]

/** Closed list; never holds the access size or a raw address. */
export const CRASH_KINDS = [
  'control-flow', 'code-injection', 'cfi-violation', 'pointer-authentication', 'secure-fault', 'format-string',
  'stack-guard', 'stack-buffer-overflow', 'heap-buffer-overflow', 'global-buffer-overflow', 'buffer-overflow', 'heap-corruption', 'use-after-free', 'double-free', 'invalid-free', 'memory-tag',
  'wild-write', 'wild-read', 'null-dereference', 'stack-exhaustion', 'misaligned-access', 'illegal-instruction', 'divide-by-zero', 'integer-overflow', 'undefined-behaviour',
  'uninitialised-value', 'data-race', 'memory-leak', 'assertion', 'abort', 'panic', 'exception', 'trap', 'seccomp', 'out-of-memory', 'hang', 'hardware', 'crash-storm', 'unknown',
] as const
export type CrashKind = (typeof CRASH_KINDS)[number]

/** Two axes kept apart: how likely it is deliberate (class), and how bad if it is a bug (severity). */
export interface Evidence {
  /** 0 environment, 1 robustness, 2 suspicious memory fault, 3 corruption caught or wild write, 4 control-flow evidence. */
  class: 0 | 1 | 2 | 3 | 4
  severity: 'exploitable' | 'probably-exploitable' | 'not-exploitable' | 'unknown'
  cwe: number[]
  /** What speaks for an attack and what against it, in words, each with its rule's slug. */
  for: Note[]
  against: Note[]
  /** Where the address lies: null, near-null, small-offset, stack, heap, code, data, non-canonical, unmapped, unknown. */
  addressClass: AddressClass
  faultAddress: bigint | null
  pc: bigint | null
  sp: bigint | null
  /** A value shaped by an attacker in pc or registers (PRB-PATTERN): cyclic, repeated, text. */
  pattern: 'cyclic' | 'repeated' | 'printable' | null
  /** The program counter lies in no module. */
  pcOutsideModules: boolean
}
export const ADDRESS_CLASSES = ['null', 'near-null', 'small-offset', 'stack', 'heap', 'code', 'data', 'non-canonical', 'unmapped', 'unknown'] as const
export type AddressClass = (typeof ADDRESS_CLASSES)[number]

export interface Signature {
  /** Version of the rule set. */
  ruleset: number
  /** 16 hex digits from SHA-256 of `text`: the bucket. */
  bucket: string
  /** `1 | heap-buffer-overflow | parse_header | handle_request | main` */
  text: string
  /** Line for people: `heap-buffer-overflow in parse_header (httpd.c:214)`. */
  title: string
  /** The normalised frames that were counted. */
  frames: string[]
  /** What each rule changed and why. */
  notes: { rule: string; from: string; to: string; why: string }[]
  /** Too few usable frames: recomputed when symbols arrive. */
  provisional: boolean
}

/** How a frame was found. */
export const TRUSTS = ['context', 'cfi', 'frame_pointer', 'scan', 'given', 'none'] as const
export type Trust = (typeof TRUSTS)[number]

/** rust-minidump's JSON shape; addresses are 0x-hex strings. report-schema.ts describes and bounds it. */
export interface Report {
  status: 'OK' | string
  format: string
  pid: number | null
  /** Seconds. */
  process_uptime?: number | undefined
  thread_count?: number | undefined
  system_info: { os: Os; os_ver: string | null; cpu_arch: Cpu | 'amd64'; cpu_info?: string | undefined; cpu_count?: number | undefined; cpu_microcode_version?: string | undefined }
  crash_info: {
    type: string | null
    address: string | null
    /** Where the dump doesn't have the address: what the instruction's operand was. */
    adjusted_address?: { kind: 'non-canonical' | 'operand'; address: string } | undefined
    crashing_thread: number | null
    assertion: string | null
    access: Access
  }
  crashing_thread: ReportThread | null
  threads: ReportThread[]
  modules: ReportModule[]
  main_module: number | null
  unloaded_modules?: { base_addr: string; end_addr: string; code_id: string | null; filename: string }[] | undefined
  lsb_release?: { id: string; release: string; codename: string; description: string } | undefined
  linux_memory_map_count?: number | undefined
  mac_crash_info?: { num_records: number; records: Record<'thread' | 'dialog_mode' | 'abort_cause' | 'module' | 'message' | 'signature_string' | 'backtrace' | 'message2', string>[] } | undefined
  mac_boot_args?: string | undefined
  annotations: Record<string, string>
  notes: Note[]
}
export interface ReportThread {
  threads_index: number
  thread_id: number
  thread_name: string | null
  frame_count: number
  frames: ReportFrame[]
  /** Frames left out because of a cap or because recursion was folded. */
  frames_omitted: number
}
export interface ReportFrame {
  frame: number
  trust: Trust
  module: string | null
  module_offset: string | null
  /** 0x-hex of the instruction (for callers: inside of their call, as rust-minidump has it). */
  offset: string
  function: string | null
  function_offset: string | null
  file: string | null
  line: number | null
  inlines: { function: string; file: string | null; line: number | null }[] | null
  missing_symbols: boolean
  /** Ours: a far-away PUBLIC name, shown but never in a signature. */
  approximate: boolean
  /** Ours: how often this frame repeats in a folded recursion. */
  repeats?: number | undefined
  /** Only without a module: those that once lay here. */
  unloaded_modules?: { module: string; offsets: string[] }[] | undefined
  registers?: Record<string, string> | undefined
}
export interface ReportModule {
  base_addr: string
  end_addr: string
  filename: string
  code_id: string | null
  debug_file: string | null
  debug_id: string | null
  version: string | null
  /** Ours: how the SHA-256 of its ELF file begins, where the dump names its build so. */
  elf_sha256?: string
  symbol_status: SymbolStatus | 'not-asked'
  symbol_reason: string | null
}
