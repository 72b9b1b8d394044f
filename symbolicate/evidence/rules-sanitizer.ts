/** A sanitizer saw the bug itself: its word goes before anything that can be inferred. Groups as CASR's for its ASan, UBSan and MSan kinds. */
import type { CrashKind } from '../contract.ts'
import type { SanitizerFacts } from '../formats/sanitizer.ts'
import type { EvidenceRule, Verdict } from './verdict.ts'

type Judged = Pick<Verdict, 'class' | 'severity' | 'cwe'>

/** By kind; where reading and writing differ, both. */
const BY_KIND: Partial<Record<CrashKind, Judged | { write: Judged; other: Judged }>> = {
  'heap-buffer-overflow': overflow([787, 122], [125]),
  'stack-buffer-overflow': overflow([787, 121], [125]),
  'global-buffer-overflow': overflow([787], [125]),
  'buffer-overflow': overflow([787], [125]),
  'use-after-free': overflow([416], [416]),
  'memory-tag': overflow([787, 416], [125, 416]),
  'double-free': { class: 3, severity: 'exploitable', cwe: [415] },
  'invalid-free': { class: 3, severity: 'exploitable', cwe: [590, 763] },
  'cfi-violation': { class: 4, severity: 'exploitable', cwe: [843] },
  'uninitialised-value': { class: 2, severity: 'probably-exploitable', cwe: [457] },
  'data-race': { class: 1, severity: 'not-exploitable', cwe: [362] },
  'memory-leak': { class: 1, severity: 'not-exploitable', cwe: [401] },
  'integer-overflow': { class: 1, severity: 'not-exploitable', cwe: [190] },
  'undefined-behaviour': { class: 1, severity: 'not-exploitable', cwe: [758] },
  'null-dereference': { class: 1, severity: 'not-exploitable', cwe: [476] },
  'misaligned-access': { class: 2, severity: 'not-exploitable', cwe: [188] },
  'divide-by-zero': { class: 1, severity: 'not-exploitable', cwe: [369] },
  'stack-exhaustion': { class: 2, severity: 'not-exploitable', cwe: [674] },
  'out-of-memory': { class: 1, severity: 'not-exploitable', cwe: [789, 400] },
  'illegal-instruction': { class: 1, severity: 'not-exploitable', cwe: [] },
  'trap': { class: 1, severity: 'not-exploitable', cwe: [617] },
  'abort': { class: 1, severity: 'not-exploitable', cwe: [617] },
}

export const SANITIZER_RULES: readonly EvidenceRule[] = [
  { slug: 'sanitizer-bad-cast', judge: ({ sanitizer }) => (sanitizer?.type !== 'bad-cast' ? null : {
    kind: 'undefined-behaviour', class: 3, severity: 'probably-exploitable', cwe: [843], text: `${said(sanitizer)}: an object of one type was used as another`,
  }) },
  { slug: 'sanitizer-assertion', judge: ({ sanitizer }) => (sanitizer?.assertion == null || !['abort', 'trap', 'illegal-instruction'].includes(sanitizer.kind) ? null : {
    kind: 'assertion', class: 1, severity: 'not-exploitable', cwe: [617], text: `the program stopped itself: ${sanitizer.assertion.slice(0, 200)}`,
  }) },
  // Older runtimes print a signal that a process sent as SEGV, with user and process id for an address.
  { slug: 'sanitizer-raised', judge: ({ sanitizer, functions }) => (sanitizer?.kind === 'segv' && RAISED.test(functions[0] ?? '') ? {
    kind: sanitizer.assertion === null ? 'abort' : 'assertion', class: 1, severity: 'not-exploitable', cwe: [617], text: `${functions[0]} raised the signal: the program ended itself`,
  } : null) },
  { slug: 'sanitizer-report', judge: ({ sanitizer }) => {
    if (sanitizer === null || sanitizer.kind === 'segv') return null
    const row = BY_KIND[sanitizer.kind]
    if (row === undefined) return { kind: sanitizer.kind, class: 1, severity: 'unknown', cwe: [], text: said(sanitizer) }
    const judged = 'write' in row ? (sanitizer.access === 'write' ? row.write : row.other) : row
    return { kind: sanitizer.kind, ...judged, text: said(sanitizer) }
  } },
]

const RAISED = /^(?:gsignal|raise|__GI_raise|abort|__GI_abort|kill|pthread_kill|__pthread_kill_implementation)$/

function overflow(write: number[], read: number[]): { write: Judged; other: Judged } {
  return { write: { class: 3, severity: 'exploitable', cwe: write }, other: { class: 2, severity: 'probably-exploitable', cwe: read } }
}

function said({ tool, type, access, accessSize, region }: SanitizerFacts): string {
  const what = access === 'unknown' ? '' : accessSize === null ? `, ${access}` : `, ${access} of ${accessSize} byte${accessSize === 1 ? '' : 's'}`
  return `${tool} reports ${type}${what}${region === null ? '' : `: ${region}`}`.slice(0, 400)
}
