/** What a rule says when it applies: the kind of crash, the two axes, and its reason in words. */
import type { CrashKind, Evidence } from '../contract.ts'
import type { Access } from '../formats/dump.ts'
import type { Situation } from './situation.ts'

export interface Verdict {
  kind: CrashKind
  /** Left out: what the situation knows. */
  access?: Access
  class: Evidence['class']
  severity: Evidence['severity']
  cwe: readonly number[]
  /** What was seen and why it means this. */
  text: string
}

/** Rules are asked in order; the first verdict decides the kind. */
export interface EvidenceRule { slug: string; judge(situation: Situation): Verdict | null }

export const hex = (value: bigint): string => `0x${value.toString(16)}`
