/** Control went where no code is: the strongest evidence that a dump alone can hold. */
import { isNonCanonical, NEAR_NULL, NO_INSTRUCTION, regionAt, type Situation } from './situation.ts'
import { hex, type EvidenceRule, type Verdict } from './verdict.ts'

export const CONTROL_RULES: readonly EvidenceRule[] = [
  { slug: 'shadow-stack', judge: ({ code }) => (code !== 'SEGV_CPERR' ? null : {
    kind: 'control-flow', access: 'execute', class: 4, severity: 'exploitable', cwe: [121], text: 'the shadow stack holds another return address (SEGV_CPERR): a return address was overwritten',
  }) },
  { slug: 'memory-tag', judge: ({ code }) => (code !== 'SEGV_MTESERR' && code !== 'SEGV_MTEAERR' ? null : {
    kind: 'memory-tag', class: 3, severity: 'probably-exploitable', cwe: [416, 787], text: `the pointer's tag is not the memory's (${code})${code === 'SEGV_MTEAERR' ? '; found late, the program counter is past it' : ''}`,
  }) },
  { slug: 'pointer-authentication', judge: ({ dump, signal, code }) => (dump.cpu !== 'arm64' || signal !== 'SIGILL' || code !== 'ILL_ILLOPN' ? null : {
    kind: 'pointer-authentication', class: 4, severity: 'exploitable', cwe: [787, 693], text: 'a signed pointer did not authenticate (SIGILL / ILL_ILLOPN on arm64): it was changed',
  }) },
  { slug: 'branch-target', judge: ({ dump, signal, code, instruction }) => (dump.cpu !== 'arm64' || signal !== 'SIGILL' || code !== 'ILL_ILLOPC' || instruction?.does === 'undefined' ? null : {
    kind: 'cfi-violation', class: 4, severity: 'exploitable', cwe: [787], text: 'an indirect branch landed where none may (SIGILL / ILL_ILLOPC on arm64)',
  }) },
  { slug: 'wild-program-counter', judge: (situation) => {
    const wild = wildTarget(situation)
    return wild === null ? null : judgeTarget(situation, wild.target, wild.why)
  } },
]

/** Where control wanted to go, if that is no code. */
export function wildTarget(situation: Situation): { target: bigint; why: string } | null {
  const { dump, memoryFault, code, address, pc, pcRegion, pcOutsideModules, instruction, sanitizer } = situation
  // Memory that fails under the program counter is memory that fails.
  if (pc === null || code.startsWith('BUS_MCEERR')) return null
  if (memoryFault && instruction !== null && ['return', 'call', 'jump'].includes(instruction.does) && instruction.target !== null && isNonCanonical(dump, instruction.target) && !pcOutsideModules) {
    return { target: instruction.target, why: `the ${instruction.does} at the program counter goes to ${hex(instruction.target)}` }
  }
  // Bit 0 of a Thumb address is not part of it.
  if (memoryFault && address !== null && address >> 1n === pc >> 1n) return { target: pc, why: `the program counter is the address that failed, ${hex(pc)}` }
  if (sanitizer !== null || (!memoryFault && !NO_INSTRUCTION.test(situation.signal))) return null
  if (pcRegion !== null && !pcRegion.execute) return { target: pc, why: `the program counter ${hex(pc)} lies in memory that is not executable` }
  if (pcRegion !== null && isData(situation, pc)) return { target: pc, why: `the program counter ${hex(pc)} lies in the ${where(situation, pc)}` }
  if (pcOutsideModules && pcRegion === null) return { target: pc, why: `the program counter ${hex(pc)} lies in no module` }
  return null
}

function judgeTarget(situation: Situation, target: bigint, why: string): Verdict {
  if (target < NEAR_NULL) return { kind: 'null-dereference', access: 'execute', class: 1, severity: 'probably-exploitable', cwe: [476], text: `${why}: a null function pointer was called` }
  const place = where(situation, target)
  if (place !== null) {
    return { kind: 'code-injection', access: 'execute', class: 4, severity: 'exploitable', cwe: [place === 'stack' ? 121 : 122, 94], text: `${why}: data on the ${place} was executed` }
  }
  return { kind: 'control-flow', access: 'execute', class: 4, severity: 'exploitable', cwe: [119, 787], text: `${why}: a code pointer or return address was overwritten` }
}

const isData = (situation: Situation, address: bigint): boolean => where(situation, address) !== null

/** Stack or heap, where data lies that others may write. */
function where({ dump, sp }: Situation, address: bigint): 'stack' | 'heap' | null {
  if (dump.threads.some(({ stack }) => stack !== null && address >= stack.base && address < stack.base + BigInt(stack.size))) return 'stack'
  const region = regionAt(dump, address)
  if (region === null) return null
  if (/^\[(?:stack|anon:stack_and_tls)/.test(region.name ?? '') || (sp !== null && sp >= region.base && sp < region.base + region.size)) return 'stack'
  return /^\[(?:heap|anon:(?:libc_malloc|scudo))/.test(region.name ?? '') ? 'heap' : null
}
