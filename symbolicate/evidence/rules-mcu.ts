/**
 * What microcontrollers say of their faults: a Cortex-M's status bits (formats/cortex-m-fault.ts), Zephyr's reasons, the causes
 * of Xtensa and RISC-V (formats/mcu-cause.ts) and ESP-IDF's panic. Only what the general rules would not see is here; wild
 * addresses and program counters are theirs.
 */
import { hex, type EvidenceRule, type Verdict } from './verdict.ts'

type About = Pick<Verdict, 'kind' | 'access' | 'class' | 'severity' | 'cwe'>

const SECURE: About = { kind: 'secure-fault', class: 4, severity: 'exploitable', cwe: [501, 693] }
const GUARD: About = { kind: 'stack-guard', access: 'write', class: 2, severity: 'not-exploitable', cwe: [674, 770] }
const ILLEGAL: About = { kind: 'illegal-instruction', class: 1, severity: 'probably-exploitable', cwe: [] }

interface Rule extends About { slug: string; signal: RegExp; code?: RegExp; text: string }

/** The first that matches decides. */
const RULES: readonly Rule[] = [
  { slug: 'stack-limit', signal: /^UsageFault$/, code: /^STKOF$/, ...GUARD, text: 'the stack pointer went below its limit register (STKOF): stopped before anything was overwritten; input may decide how deep' },
  { slug: 'stack-guard', signal: /^(?:MemManage|BusFault)$/, code: /^M?STKERR$/, ...GUARD, text: 'the processor could not push an exception frame: the stack has reached its guard or the end of its memory' },
  { slug: 'stack-check', signal: /^K_ERR_STACK_CHK_FAIL$/, ...GUARD, class: 3, severity: 'probably-exploitable', cwe: [121], text: 'Zephyr found a stack overflown or its canary overwritten' },
  { slug: 'secure-entry', signal: /^SecureFault$/, code: /^INV(?:EP|TRAN)$/, ...SECURE, access: 'execute', text: 'control crossed between non-secure and secure code where it may not: no honest program does this' },
  { slug: 'secure-frame', signal: /^SecureFault$/, code: /^INV(?:IS|ER)$/, ...SECURE, text: 'an exception frame or return of secure code was forged or damaged' },
  { slug: 'secure-access', signal: /^SecureFault$/, ...SECURE, class: 3, severity: 'probably-exploitable', text: 'non-secure code touched what belongs to secure code' },
  { slug: 'exception-return', signal: /^UsageFault$/, code: /^INVPC$/, kind: 'control-flow', access: 'execute', class: 3, severity: 'exploitable', cwe: [121, 787], text: 'the value that ends an exception was not one (INVPC): the frame that held it was overwritten' },
  { slug: 'return-unstacking', signal: /^(?:MemManage|BusFault)$/, code: /^M?UNSTKERR$/, kind: 'control-flow', access: 'read', class: 3, severity: 'probably-exploitable', cwe: [121], text: 'an exception frame could not be read back: the stack pointer was changed in between' },
  { slug: 'imprecise-write', signal: /^BusFault$/, code: /^IMPRECISERR$/, kind: 'wild-write', access: 'write', class: 3, severity: 'exploitable', cwe: [787, 123], text: 'a buffered store went where nothing answers (IMPRECISERR); the processor does not say where' },
  { slug: 'alignment', signal: /^UsageFault$/, code: /^UNALIGNED$/, kind: 'misaligned-access', class: 2, severity: 'not-exploitable', cwe: [188, 119], text: 'the address is not aligned for this access: a bad pointer or cast' },
  { slug: 'alignment', signal: /^LoadStoreAlignment$|address misaligned$/, kind: 'misaligned-access', class: 2, severity: 'not-exploitable', cwe: [188, 119], text: 'the address is not aligned for this access: a bad pointer or cast' },
  { slug: 'division', signal: /^UsageFault$/, code: /^DIVBYZERO$/, kind: 'divide-by-zero', class: 1, severity: 'not-exploitable', cwe: [369], text: 'division by zero' },
  { slug: 'division', signal: /^IntegerDivideByZero$/, kind: 'divide-by-zero', class: 1, severity: 'not-exploitable', cwe: [369], text: 'division by zero' },
  { slug: 'watchdog', signal: /^Interrupt wdt|^Task watchdog/i, kind: 'hang', class: 1, severity: 'not-exploitable', cwe: [835], text: 'a watchdog ended the program: interrupts or a task did not run for too long' },
  { slug: 'breakpoint-alone', signal: /^HardFault$/, code: /^DEBUGEVT$/, kind: 'trap', class: 1, severity: 'not-exploitable', cwe: [617], text: 'a breakpoint instruction without a debugger: the program stopped itself' },
  { slug: 'cache-disabled', signal: /^Cache disabled/, kind: 'exception', class: 1, severity: 'not-exploitable', cwe: [], text: 'code or data in flash was used while the flash was written' },
  { slug: 'kernel-stop', signal: /^K_ERR_KERNEL_(?:OOPS|PANIC)$/, kind: 'panic', class: 1, severity: 'not-exploitable', cwe: [617], text: 'the program stopped itself' },
]

/** What only means something once the program counter is known to lie in code. */
const IN_CODE: readonly Rule[] = [
  { slug: 'thumb-state', signal: /^UsageFault$/, code: /^INVSTATE$/, kind: 'control-flow', access: 'execute', class: 3, severity: 'exploitable', cwe: [787, 843], text: 'a branch went to an address without the Thumb bit (INVSTATE): no compiler makes such a pointer, so it was overwritten or is data' },
  { slug: 'unknown-instruction', signal: /^UsageFault$/, code: /^(?:UNDEFINSTR|NOCP)$/, ...ILLEGAL, text: 'the processor knows no such instruction, or its coprocessor is off; a wrong build, damaged code, or control that went into the middle of code' },
  { slug: 'unknown-instruction', signal: /^Illegal ?Instruction$|^Cp\dDis$/i, ...ILLEGAL, text: 'the processor knows no such instruction; a wrong build, damaged code, or control that went into the middle of code' },
]

export const MCU_RULES: readonly EvidenceRule[] = [
  ...RULES.map(ruleOf),
  { slug: 'panic-abort', judge: ({ dump, signal, functions, message }) => (!stoppedItself(dump.format, signal, functions) ? null : /\bassert/.test(message)
    ? { kind: 'assertion', class: 1, severity: 'not-exploitable', cwe: [617], text: `the program stopped itself: ${message.split('\n', 1)[0]!.slice(0, 200)}` }
    : /stack overflow in task/.test(message)
      ? { ...GUARD, text: 'FreeRTOS found a task\'s stack overflown: the words at its end were overwritten, so what lies below may be too', class: 3, severity: 'probably-exploitable' }
      : { kind: 'abort', class: 1, severity: 'not-exploitable', cwe: [617], text: `the program stopped itself${message === '' ? '' : `: ${message.split('\n', 1)[0]!.slice(0, 200)}`}` }) },
  { slug: 'null-call', judge: ({ signal, code, pc }) => (signal === 'UsageFault' && code === 'INVSTATE' && pc !== null && pc < 2n ? {
    kind: 'null-dereference', access: 'execute', class: 1, severity: 'probably-exploitable', cwe: [476], text: 'a null function pointer was called (INVSTATE at 0)',
  } : null) },
  ...IN_CODE.map((rule): EvidenceRule => ({ slug: rule.slug, judge: (situation) => (situation.pcOutsideModules ? null : ruleOf(rule).judge(situation)) })),
]

function ruleOf({ slug, signal: signals, code: codes, text, ...about }: Rule): EvidenceRule {
  return { slug, judge: ({ signal, code, address }) => (signals.test(signal) && (codes?.test(code) ?? true) ? { ...about, text: address === null ? text : `${text} (${hex(address)})` } : null) }
}

/** ESP-IDF aborts by a store to null or an illegal instruction on purpose; its functions tell. */
const stoppedItself = (format: string, signal: string, functions: readonly string[]): boolean =>
  signal === 'abort' || ((format === 'esp-coredump' || format === 'esp-panic') && functions.slice(0, 4).some((name) => name === 'panic_abort' || name === 'abort'))
