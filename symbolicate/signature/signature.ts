/**
 * makeSignature: the same crash, the same bucket, for ever.
 *
 *   signature = ruleset ' | ' kind ['(' address class ')'] [' | ' message] {' | ' frame}
 *   bucket    = first 16 hex digits of SHA-256(signature)
 *
 * A pure function of its input; the raw address and the size of the access never enter. Rules run in order and note what
 * they changed; a rule that fails is noted and skipped, never the crash's end. With fewer than three usable frames
 * (unless the stack truly ended) or with an unnamed one among those that count (Apport's rule: more than 20 % unresolved)
 * the signature is provisional and recomputed when symbols arrive.
 *
 * A change of any rule or list that changes a bucket needs a new ruleset number: test/symbolicate/signature keeps ids.
 */
import { createHash } from 'node:crypto'
import { messageOf } from '../../infra/service/errors.ts'
import type { AddressClass, CrashKind, Report, ReportModule, Signature } from '../contract.ts'
import { LISTS } from './lists.ts'
import { normaliseName, parameteriseMessage } from './normalise.ts'
import { candidatesOf, inCLibrary, RULES, type Candidate, type Rule, type RuleContext } from './rules.ts'

export const RULESET = 1

export interface SignatureInput {
  kind: CrashKind
  addressClass: AddressClass
  report: Report
  ruleset?: number
  rules?: readonly Rule[]
}

export function makeSignature({ kind, addressClass, report, ruleset = RULESET, rules = RULES }: SignatureInput): Signature {
  const notes: Signature['notes'] = []
  const depth = report.format === 'linux-kernel' ? 5 : 3
  let candidates = candidatesOf(report)
  const all = candidates
  const modules = new Map<string, ReportModule>(report.modules.map((module) => [module.filename, module]))
  for (const rule of rules) {
    const context: RuleContext = {
      kind, depth, modules,
      note: (from, to, why) => { if (notes.length < MAX_NOTES) notes.push({ rule: rule.name, from: from.slice(0, 300), to: to.slice(0, 300), why }) },
    }
    try {
      candidates = rule.apply(candidates, context)
    } catch (error) {
      context.note('', '', `rule failed and was skipped: ${messageOf(error)}`)
    }
  }
  const counted = candidates.filter(({ prefix }) => !prefix)
  const frames = counted.map(({ name }) => name)
  const parts = candidates.map(({ name }) => name)
  if (parts.length === 0) parts.push(...standIn(report, notes))
  const message = messagePart(kind, report, notes)
  const text = [String(ruleset), kindPart(kind, addressClass), ...(message === null ? [] : [message]), ...parts].join(' | ')
  return {
    ruleset,
    bucket: createHash('sha256').update(text).digest('hex').slice(0, 16),
    text,
    title: titleOf(kind, counted[0] ?? candidates[0], parts, message),
    frames,
    notes,
    provisional: counted.some(({ unresolved }) => unresolved) || (counted.length < 3 && !endedAtEntry(all)),
  }
}
const MAX_NOTES = 200

/** The class of the address tells bugs apart only where a pointer went wrong; where control went wrong the address is chance. */
const kindPart = (kind: CrashKind, addressClass: AddressClass): string => {
  if (kind === 'null-dereference' || kind === 'wild-read' || kind === 'wild-write') {
    return addressClass === 'unknown' || addressClass === 'unmapped' ? kind : `${kind}(${addressClass})`
  }
  return kind
}

const WITH_MESSAGE: ReadonlySet<CrashKind> = new Set<CrashKind>(['assertion', 'panic', 'exception'])

function messagePart(kind: CrashKind, report: Report, notes: Signature['notes']): string | null {
  const raw = report.crash_info.assertion
  if (!WITH_MESSAGE.has(kind) || raw === null || raw === '') return null
  const message = parameteriseMessage(raw)
  if (message !== raw) notes.push({ rule: 'message', from: raw.slice(0, 300), to: message, why: 'without what changes from crash to crash' })
  return message === '' ? null : message
}

/** No frame is left: the program's name keeps the crashes of different programs apart. */
function standIn(report: Report, notes: Signature['notes']): string[] {
  const program = report.main_module === null ? undefined : report.modules[report.main_module]?.filename
  notes.push({ rule: 'stand-in', from: '', to: program ?? '', why: program === undefined ? 'no usable frame' : 'no usable frame: the program stands in for the stack' })
  return program === undefined ? [] : [`in ${program}`]
}

/** Below an entry there is nothing to miss; a stack that runs out in the C library below the program is a thread's start. */
function endedAtEntry(all: Candidate[]): boolean {
  const last = all.at(-1)
  if (last === undefined) return false
  if (all.some(({ frame, name }) => !frame.approximate && frame.trust !== 'scan' && name !== '' && LISTS.entry(normaliseName(name)) !== null)) return true
  return last.frame.trust !== 'scan' && inCLibrary(last) !== null && all.some((candidate) => candidate.frame.module !== null && !inCLibrary(candidate))
}

/** For people: never a hash, and the place where there is one. */
function titleOf(kind: CrashKind, top: Candidate | undefined, parts: string[], message: string | null): string {
  const where = top?.frame.file == null ? '' : ` (${baseName(top.frame.file)}${top.frame.line === null ? '' : `:${top.frame.line}`})`
  const name = top?.name ?? parts[0]?.replace(/^in /, '')
  const what = message === null ? kind : `${kind}: ${message}`
  return (name === undefined ? what : `${what} in ${name}${where}`).slice(0, 300)
}

const baseName = (path: string): string => path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1)
