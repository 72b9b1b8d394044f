/** Memory faults and the signals that say what they are, from the most telling to the least. */
import { poisonOf } from './poison.ts'
import { NEAR_NULL, regionAt, SMALL_OFFSET, type Situation } from './situation.ts'
import { hex, type EvidenceRule, type Verdict } from './verdict.ts'

/** How far below the stack pointer a function may touch at once, and how far above a push ends. */
const FRAME_BELOW = 0x1_0000n
const FRAME_ABOVE = 0x1000n

export const FAULT_RULES: readonly EvidenceRule[] = [
  { slug: 'stack-exhausted', judge: (situation) => (isStackExhaustion(situation) ? {
    kind: 'stack-exhaustion', class: 2, severity: 'not-exploitable', cwe: [674, 770], text: `the access at ${at(situation)} ran past the end of the stack (sp ${situation.sp === null ? 'unknown' : hex(situation.sp)}): recursion without end, or a frame too large; input may decide how deep`,
  } : null) },
  { slug: 'signal-sent', judge: ({ signal, code, memoryFault }) => (memoryFault && ['SI_TKILL', 'SI_QUEUE', 'SI_TIMER', 'SI_MESGQ'].includes(code) ? {
    kind: 'abort', class: 1, severity: 'not-exploitable', cwe: [], text: `${signal} was sent by a process (${code}), no access failed`,
  } : null) },
  { slug: 'bus-alignment', judge: ({ code, signal }) => (code === 'BUS_ADRALN' || signal === 'EXCEPTION_DATATYPE_MISALIGNMENT' ? {
    kind: 'misaligned-access', class: 2, severity: 'not-exploitable', cwe: [188, 119], text: 'the address is not aligned for this access: a bad pointer or cast',
  } : null) },
  { slug: 'memory-error', judge: ({ code }) => (code.startsWith('BUS_MCEERR') ? {
    kind: 'hardware', class: 0, severity: 'not-exploitable', cwe: [1261], text: `the memory itself failed (${code})`,
  } : null) },
  { slug: 'poison-address', judge: (situation) => {
    const poison = situation.memoryFault && situation.address !== null ? poisonOf(situation.address, situation.dump.os) : null
    if (poison === null) return null
    return poison.freed
      ? { kind: 'use-after-free', class: 3, severity: 'exploitable', cwe: [416], text: `the address ${at(situation)} is a fill value of freed memory (${poison.who})` }
      : { kind: 'uninitialised-value', class: 2, severity: 'probably-exploitable', cwe: [457, 908], text: `the address ${at(situation)} is a fill value (${poison.who}): memory was used before it was set` }
  } },
  { slug: 'null-pointer', judge: (situation) => {
    const { memoryFault, address } = situation
    if (!memoryFault || address === null || address >= SMALL_OFFSET) return null
    const write = situation.access === 'write'
    return {
      kind: 'null-dereference', class: 1, severity: write ? 'probably-exploitable' : 'not-exploitable', cwe: [476],
      text: `${direction(situation)} at ${at(situation)}: ${address < NEAR_NULL ? 'a null pointer, or a member behind one' : 'a member of a large structure behind a null pointer'}`,
    }
  } },
  { slug: 'privileged-instruction', judge: ({ memoryFault, instruction, address }) => (memoryFault && address === null && instruction?.does === 'privileged' ? {
    kind: 'illegal-instruction', class: 1, severity: 'not-exploitable', cwe: [], text: 'a privileged instruction, which some C libraries use to stop the program',
  } : null) },
  { slug: 'wild-write', judge: (situation) => (situation.memoryFault && situation.access === 'write' ? wild(situation, {
    kind: 'wild-write', class: 3, severity: 'exploitable', cwe: [787, 123], text: `write at ${at(situation)}, far from null: whoever sets the address decides what is overwritten`,
  }) : null) },
  { slug: 'wild-read', judge: (situation) => (situation.memoryFault ? wild(situation, {
    kind: 'wild-read', class: 2, severity: situation.access === 'read' ? 'not-exploitable' : 'probably-exploitable', cwe: [125],
    text: situation.access === 'read' ? `read at ${at(situation)}, far from null` : `access at ${at(situation)}, far from null; whether it read or wrote is not known, and is not guessed: counted as the weaker of the two`,
  }) : null) },
  { slug: 'divide-error', judge: ({ signal, code }) => (/^(?:SIGFPE|EXC_ARITHMETIC|EXCEPTION_(?:INT|FLT)_)/.test(signal) ? (/OVF|OVERFLOW/.test(code + signal)
    ? { kind: 'integer-overflow', class: 1, severity: 'not-exploitable', cwe: [190], text: `${signal}${code && ` / ${code}`}: an arithmetic overflow` }
    : { kind: 'divide-by-zero', class: 1, severity: 'not-exploitable', cwe: [369], text: `${signal}${code && ` / ${code}`}: division by zero` }) : null) },
  { slug: 'system-call', judge: ({ signal, code }) => (signal === 'SIGSYS' ? {
    kind: 'seccomp', class: 1, severity: 'not-exploitable', cwe: [], text: `a system call that this program may not make${code && ` (${code})`}: a missing rule, or somebody who tries the sandbox; telling where the program never made this call before`,
  } : null) },
  { slug: 'undefined-instruction', judge: ({ signal, instruction, pcOutsideModules }) => (!pcOutsideModules && instruction?.does === 'undefined' && /^(?:SIGILL|SIGTRAP|EXC_BAD_INSTRUCTION|EXCEPTION_ILLEGAL)/.test(signal) ? {
    kind: 'trap', class: 1, severity: 'not-exploitable', cwe: [617], text: 'the instruction is one that compilers put where a check failed or the end can not be reached',
  } : null) },
  { slug: 'illegal-instruction', judge: ({ signal }) => (/^(?:SIGILL|EXC_BAD_INSTRUCTION|EXCEPTION_ILLEGAL|EXCEPTION_PRIV_INSTRUCTION)/.test(signal) ? {
    kind: 'illegal-instruction', class: 1, severity: 'probably-exploitable', cwe: [], text: `${signal}: the processor knows no such instruction; a wrong build, damaged code, or control that went into the middle of code`,
  } : null) },
  { slug: 'breakpoint', judge: ({ signal }) => (/^(?:SIGTRAP|EXC_BREAKPOINT|EXCEPTION_BREAKPOINT)/.test(signal) ? {
    kind: 'trap', class: 1, severity: 'not-exploitable', cwe: [617], text: `${signal}: the program stopped itself`,
  } : null) },
  { slug: 'out-of-memory', judge: ({ signal, message }) => (/out of memory|bad_alloc|OutOfMemory/i.test(message) || signal === 'Out of Memory' ? {
    kind: 'out-of-memory', class: 1, severity: 'not-exploitable', cwe: [400, 770], text: 'the program ran out of memory',
  } : null) },
  { slug: 'assert-message', judge: ({ message }) => (/assert|check failed|panicked at|CHECK\(/i.test(message) ? {
    kind: /panicked at/.test(message) ? 'panic' : 'assertion', class: 1, severity: 'not-exploitable', cwe: [617], text: `the program stopped itself: ${message.slice(0, 200)}`,
  } : null) },
  { slug: 'exception', judge: ({ dump }) => (dump.format === 'js-stack' ? {
    kind: 'exception', class: 1, severity: 'not-exploitable', cwe: [248], text: 'an exception that nothing caught',
  } : null) },
  { slug: 'abort', judge: ({ signal }) => (/^(?:SIGABRT|SIGTERM|SIGKILL|SIGQUIT|EXC_CRASH|EXC_SOFTWARE)/.test(signal) ? {
    kind: 'abort', class: 1, severity: 'not-exploitable', cwe: [617], text: `${signal}: the program, or somebody who may, ended it`,
  } : null) },
]

function isStackExhaustion({ signal, memoryFault, address, sp, dump, access }: Situation): boolean {
  if (/^(?:EXCEPTION_STACK_OVERFLOW|STATUS_STACK_OVERFLOW)/.test(signal)) return true
  if (!memoryFault || address === null || sp === null || access === 'execute' || address < SMALL_OFFSET) return false
  if (address < sp - FRAME_BELOW || address >= sp + FRAME_ABOVE) return false
  const region = regionAt(dump, address)
  if (region !== null) return !region.write
  return dump.regions.length > 0 || !dump.threads.some(({ stack }) => stack !== null && address >= stack.base && address < stack.base + BigInt(stack.size))
}

/** A mapped page of the program that refused the access is told apart from an address that leads nowhere. */
function wild(situation: Situation, verdict: Verdict): Verdict {
  const region = situation.address === null ? null : regionAt(situation.dump, situation.address)
  const note = situation.addressClass === 'non-canonical' ? ', which no pointer can be' : region === null ? '' : `, in ${region.name ?? 'memory'} that does not allow it`
  return { ...verdict, text: verdict.text + note }
}

const at = ({ address, addressFrom }: Situation): string =>
  (address === null ? 'an address that the processor does not say' : addressFrom === 'instruction' ? `${hex(address)} (from instruction and registers; the signal doesn't say)` : hex(address))
const direction = ({ access }: Situation): string => (access === 'unknown' ? 'access (read or write is not known)' : access)
