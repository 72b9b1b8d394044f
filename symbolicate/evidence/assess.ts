/**
 * assess: from what the dump says to what it means, on two axes that are kept apart. `class` says how likely this is
 * deliberate (E0 environment .. E4 control-flow evidence), `severity` how bad it is if it is a bug (CASR's three groups).
 *
 * Rules stand in tables, the most telling first: what a sanitizer saw; what a mitigation said; what a microcontroller's fault
 * registers name; where control went; what kind of access failed. The first that applies decides kind, class, severity and CWE. Marks add to it, and counter
 * evidence stands beside it. Pure: same input, same evidence.
 */
import type { CrashKind, Evidence } from '../contract.ts'
import type { Access, Note } from '../formats/dump.ts'
import { counterEvidence } from './counter.ts'
import { patternOf, type Pattern } from './pattern.ts'
import { CONTROL_RULES, wildTarget } from './rules-control.ts'
import { FAULT_RULES } from './rules-fault.ts'
import { MCU_RULES } from './rules-mcu.ts'
import { MESSAGE_RULES } from './rules-message.ts'
import { SANITIZER_RULES } from './rules-sanitizer.ts'
import { isNonCanonical, NO_INSTRUCTION, situationOf, type Situation, type SituationInput } from './situation.ts'
import { hex, type EvidenceRule, type Verdict } from './verdict.ts'

export type Assessment = Evidence & { kind: CrashKind; access: Access }

export const EVIDENCE_RULES: readonly EvidenceRule[] = [...SANITIZER_RULES, ...MESSAGE_RULES, ...MCU_RULES, ...CONTROL_RULES, ...FAULT_RULES]

export function assess(input: SituationInput): Assessment {
  const situation = situationOf(input)
  const { verdict, slug } = judge(situation)
  const found = patternIn(situation)
  const against = counterEvidence(situation)
  const marks: Note[] = [{ slug, text: verdict.text }]
  if (found !== null) marks.push({ slug: `pattern-${found.pattern}`, text: found.text })
  if (situation.accessFrom === 'instruction') marks.push({ slug: 'access-decoded', text: `the instruction at the program counter ${situation.access === 'write' ? 'writes' : situation.access === 'read' ? 'reads' : 'branches'}` })
  const writable = writableCode(situation)
  if (writable !== null) marks.push(writable)
  const smashed = smashedReturn(situation)
  if (smashed !== null) marks.push(smashed)
  const raised = found === null ? verdict.class : Math.max(verdict.class, found.class) as Evidence['class']
  return {
    kind: verdict.kind,
    access: verdict.access ?? situation.access,
    class: raised,
    severity: raised === 4 ? 'exploitable' : raised > verdict.class && verdict.severity === 'not-exploitable' ? 'probably-exploitable' : verdict.severity,
    cwe: [...verdict.cwe],
    for: marks,
    against,
    addressClass: situation.addressClass,
    faultAddress: situation.address,
    pc: situation.pc,
    sp: situation.sp,
    pattern: found?.pattern ?? null,
    pcOutsideModules: situation.pcOutsideModules,
  }
}

function judge(situation: Situation): { verdict: Verdict; slug: string } {
  for (const { slug, judge: rule } of EVIDENCE_RULES) {
    const verdict = rule(situation)
    if (verdict !== null) return { verdict, slug }
  }
  const said = situation.signal === '' ? 'the dump says nothing about what went wrong' : `no rule knows ${situation.signal}${situation.code && ` / ${situation.code}`}`
  return { slug: 'unknown', verdict: { kind: 'unknown', class: 1, severity: 'unknown', cwe: [], text: said } }
}

/**
 * In the program counter, the branch target or the link register one strong pattern is enough for E4; two registers are
 * too. In the failed address alone it is corruption that data caused, E3. Text alone needs a second register.
 */
function patternIn(situation: Situation): { pattern: Pattern; class: 3 | 4; text: string } | null {
  if (!situation.memoryFault && !NO_INSTRUCTION.test(situation.signal)) return null
  const target = wildTarget(situation)?.target ?? null
  const places: { name: string; value: bigint; control: boolean }[] = []
  if (target !== null) places.push({ name: 'the program counter', value: target, control: true })
  for (const [name, value] of situation.registers) places.push({ name, value, control: name === 'lr' || name === 'x30' || name === 'r14' && situation.dump.cpu === 'arm' })
  if (situation.address !== null && situation.address !== target) places.push({ name: 'the address', value: situation.address, control: false })
  const hits = places.flatMap((place) => {
    const pattern = patternOf(place.value)
    return pattern === null ? [] : [{ ...place, ...pattern }]
  })
  const strong = hits.filter(({ weak }) => !weak)
  const distinct = new Set(hits.filter(({ name }) => name !== 'the address').map(({ name }) => name)).size
  const control = strong.find((hit) => hit.control) ?? (distinct >= 2 ? hits.find((hit) => hit.control) : undefined)
  const registers = strong.filter(({ name }) => name !== 'the address')
  // Where the processor doesn't say the address, the value that no pointer can be is the one that the instruction used.
  const used = situation.memoryFault && situation.address === null ? strong.find(({ value }) => isNonCanonical(situation.dump, value)) : undefined
  const address = hits.find(({ name, weak }) => name === 'the address' && (!weak || distinct >= 2)) ?? used
  const shown = control ?? (registers.length >= 2 ? registers[0] : undefined) ?? address
  if (shown === undefined) return null
  const where = hits.slice(0, 6).map(({ name, value }) => `${name} = ${hex(value)}`).join(', ')
  return { pattern: shown.pattern, class: shown === address ? 3 : 4, text: `${WORDS[shown.pattern]} (${JSON.stringify(shown.text)}) in ${where}` }
}
const WORDS: Record<Pattern, string> = {
  cyclic: 'part of a cyclic pattern that exploit tools send to find an offset', repeated: 'one printable byte repeated', printable: 'text in place of pointers',
}

/** The caller that the unwinder found is no code but a pattern: the overflow reached the return address. */
function smashedReturn({ report, functions }: Situation): Note | null {
  if (functions.length === 0) return null
  for (const frame of report.crashing_thread?.frames.slice(1, 64) ?? []) {
    if (frame.module !== null || !/^0x[0-9a-f]{1,16}$/.test(frame.offset) || !['cfi', 'frame_pointer'].includes(frame.trust)) continue
    // The frame's address is inside the call, one below the return address.
    const pattern = [patternOf(BigInt(frame.offset) + 1n), patternOf(BigInt(frame.offset))].find((hit) => hit !== null && !hit.weak)
    if (pattern) return { slug: 'return-address-pattern', text: `the return address of frame ${frame.frame - 1} was overwritten: ${WORDS[pattern.pattern]} (${JSON.stringify(pattern.text)})` }
  }
  return null
}

/** A stack that may be executed makes every overflow on it worse; it decides nothing. */
function writableCode({ dump, sp }: Situation): Note | null {
  const region = dump.regions.find(({ write, execute, name, base, size }) => write && execute && (/^\[(?:stack|heap)/.test(name ?? '') || (sp !== null && sp >= base && sp < base + size)))
  return region === undefined ? null : { slug: 'executable-data', text: `${region.name ?? 'the stack'} is writable and executable: nothing would have stopped injected code` }
}
