import { describe, expect, test } from 'vitest'
import type { Claims } from '../../../ingest/contract.ts'
import { assess } from '../../../symbolicate/evidence/assess.ts'
import { drawDump, drawReport, LIBC, named, PROGRAM, type Drawn } from '../crash-builder.ts'

const judge = (drawn: Drawn, claims: Claims = {}) => assess({ dump: drawDump(drawn), report: drawReport(drawn.frames ?? named('read_reg', 'run', 'main')), claims })
const IN_PROGRAM = PROGRAM.base + 0x1234n
const STACK = { base: 0x7fff_ffff_0000n, size: 0x4000 }
const SP = STACK.base + 0x100n
const fault = (address: bigint, registers: Record<string, bigint> = {}, code = 'SEGV_MAPERR'): Drawn =>
  ({ exception: { type: `SIGSEGV / ${code}`, code: 11, address }, registers: { rip: IN_PROGRAM, rsp: SP, ...registers }, stack: STACK })

describe('where control went', () => {
  test.each([
    ['pc is the address that failed', fault(0x6161_0000_1234n, { rip: 0x6161_0000_1234n }), 'control-flow', 119],
    ['pc in the stack (NX)', fault(SP + 64n, { rip: SP + 64n }, 'SEGV_ACCERR'), 'code-injection', 121],
    ['pc in a heap map', { ...fault(0x5555_5560_0010n, { rip: 0x5555_5560_0010n }, 'SEGV_ACCERR'), regions: [{ base: 0x5555_5560_0000n, size: 0x1000n, access: 'rw', name: '[heap]' }] }, 'code-injection', 122],
    ['a module\'s data', { ...fault(LIBC.base + 0x1000n, { rip: LIBC.base + 0x1000n }, 'SEGV_ACCERR'), regions: [{ base: LIBC.base, size: 0x2000n, access: 'rw', name: 'libc.so.6' }] }, 'control-flow', 119],
    ['a return to an address that no pointer can be', { ...fault(0n, {}, 'SI_KERNEL'), code: { at: IN_PROGRAM, bytes: [0xc3] }, memory: [{ at: SP, bytes: [0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48] }] }, 'control-flow', 119],
    ['a call through such a register', { ...fault(0n, { rax: 0x4343_4343_4343_4343n }, 'SI_KERNEL'), code: { at: IN_PROGRAM, bytes: [0xff, 0xd0] } }, 'control-flow', 119],
    ['a shadow stack that disagrees', fault(IN_PROGRAM + 9n, {}, 'SEGV_CPERR'), 'control-flow', 121],
  ] as [string, Drawn, string, number][])('%s is E4', (_, drawn, kind, cwe) => {
    const evidence = judge(drawn)
    expect(evidence).toMatchObject({ kind, class: 4, severity: 'exploitable', access: 'execute' })
    expect(evidence.cwe).toContain(cwe)
  })

  test('a null function pointer is a null dereference, not an attack', () => {
    expect(judge(fault(0n, { rip: 0n }))).toMatchObject({ kind: 'null-dereference', access: 'execute', class: 1 })
  })

  test('pointer authentication that fails on arm64 is E4', () => {
    expect(judge({ cpu: 'arm64', exception: { type: 'SIGILL / ILL_ILLOPN', code: 4 }, registers: { pc: IN_PROGRAM, sp: SP } })).toMatchObject({ kind: 'pointer-authentication', class: 4 })
    expect(judge({ cpu: 'x86-64', exception: { type: 'SIGILL / ILL_ILLOPN', code: 4 }, registers: { rip: IN_PROGRAM, rsp: SP } })).toMatchObject({ kind: 'illegal-instruction', class: 1 })
  })
})

describe('values that somebody sent', () => {
  test.each([
    ['Metasploit\'s pattern', 0x41326241n, 'cyclic'], ['pwntools\' pattern', 0x6161616bn, 'cyclic'], ['one letter', 0x4141_4141n, 'repeated'],
  ])('%s in the program counter is shown', (_, pc, pattern) => {
    expect(judge(fault(pc, { rip: pc }))).toMatchObject({ pattern, class: 4 })
  })

  test('two registers that hold a pattern are E4, one address is E3', () => {
    expect(judge(fault(0x4141_4141_4141n, { rax: 0x4242_4242_4242_4242n, rbx: 0x4242_4242_4242_4242n }))).toMatchObject({ kind: 'wild-read', pattern: 'repeated', class: 4 })
    expect(judge(fault(0x4141_4141_4141n))).toMatchObject({ kind: 'wild-read', pattern: 'repeated', class: 3, severity: 'probably-exploitable' })
  })

  test('text in one register, fill values and an abort are no pattern', () => {
    expect(judge(fault(0x10n, { rax: 0x676e_6974_7465_73n })).pattern).toBeNull()
    for (const fill of [0x6b6b_6b6bn, 0xa5a5_a5a5n, 0xdead_beefn, 0xffff_ffffn]) expect(judge(fault(fill, { rip: fill })).pattern).toBeNull()
    expect(judge({ exception: { type: 'SIGABRT / SI_TKILL', code: 6 }, registers: { rip: IN_PROGRAM, rax: 0x4141_4141n, rbx: 0x4141_4141n } }).pattern).toBeNull()
  })

  test('a return address that the unwinder found overwritten is named', () => {
    const { for: marks } = judge({ exception: { type: 'SIGABRT', code: 6 }, registers: { rip: IN_PROGRAM, rsp: SP }, frames: [...named('abort', '__stack_chk_fail', 'parse'), { module: null, offset: '0x4141414141414140' }] })
    expect(marks.map(({ slug }) => slug)).toContain('return-address-pattern')
  })
})

describe('mitigations that fired', () => {
  test.each([
    ['*** stack smashing detected ***: terminated', 'stack-guard', 3, 121], ['free(): double free detected in tcache 2', 'double-free', 3, 415],
    ['malloc(): corrupted top size', 'heap-corruption', 3, 122], ['*** buffer overflow detected ***: terminated', 'buffer-overflow', 3, 120],
    ['*** %n in writable segment detected ***', 'format-string', 4, 134], ['FORTIFY: strcpy: prevented 17-byte write into 16-byte buffer', 'buffer-overflow', 3, 120],
    ['Scudo ERROR: corrupted chunk header at address 0x7f', 'heap-corruption', 3, 122],
  ])('%s', (message, kind, level, cwe) => {
    const evidence = judge({ exception: { type: 'SIGABRT', code: 6 }, message })
    expect(evidence).toMatchObject({ kind, class: level })
    expect(evidence.cwe).toContain(cwe)
  })

  test.each([
    [['raise', 'abort', '__fortify_fail', '__stack_chk_fail', 'parse_mqtt'], 'stack-guard'], [['raise', 'abort', '__fortify_fail', '__chk_fail', 'copy'], 'buffer-overflow'],
    [['raise', 'abort', '', '__libc_free', 'drop'], 'heap-corruption'], [['raise', 'abort', '__assert_fail', 'check'], 'assertion'], [['raise', 'abort', 'run'], 'abort'],
    [['abort', 'core::panicking::panic_fmt', 'app::main'], 'panic'], [['abort', '__gnu_cxx::__verbose_terminate_handler', 'std::terminate'], 'exception'],
  ] as [string[], string][])('without the message, the functions %j say %s', (functions, kind) => {
    expect(judge({ exception: { type: 'SIGABRT', code: 6 }, frames: named(...functions) }).kind).toBe(kind)
  })

  test('musl stops inside its allocator without a word', () => {
    expect(judge({ ...fault(0n, {}, 'SI_KERNEL'), code: { at: IN_PROGRAM, bytes: [0xf4] }, frames: named('get_meta', 'free', 'drop') })).toMatchObject({ kind: 'heap-corruption', class: 3 })
    expect(judge({ ...fault(0x7f00_1234_0000n), frames: named('malloc', 'grow') })).toMatchObject({ kind: 'heap-corruption', class: 3 })
  })
})

describe('memory faults', () => {
  const store = { at: IN_PROGRAM, bytes: [0x48, 0x89, 0x07] } // mov [rdi], rax
  const load = { at: IN_PROGRAM, bytes: [0x48, 0x8b, 0x47, 0x08] } // mov rax, [rdi+8]

  test('the instruction tells a write from a read where the signal doesn\'t', () => {
    expect(judge({ ...fault(0x7f00_1234_0000n, { rdi: 0x7f00_1234_0000n }), code: store })).toMatchObject({ kind: 'wild-write', access: 'write', class: 3 })
    expect(judge({ ...fault(0x7f00_1234_0008n, { rdi: 0x7f00_1234_0000n }), code: load })).toMatchObject({ kind: 'wild-read', access: 'read', class: 2 })
    expect(judge(fault(0x7f00_1234_0000n))).toMatchObject({ kind: 'wild-read', access: 'unknown', class: 2 })
  })

  test('an address that x86-64 doesn\'t say comes from the instruction', () => {
    expect(judge({ ...fault(0n, { rdi: 0x1234_5678_9abc_def0n }, 'SI_KERNEL'), code: store })).toMatchObject({ kind: 'wild-write', faultAddress: 0x1234_5678_9abc_def0n, addressClass: 'non-canonical' })
  })

  test.each([
    [0n, 'null-dereference', 'null'], [0x18n, 'null-dereference', 'near-null'], [0x8000n, 'null-dereference', 'small-offset'],
  ])('%s is a %s (%s)', (address, kind, addressClass) => {
    expect(judge(fault(address))).toMatchObject({ kind, addressClass, class: 1 })
  })

  test('just below the stack, where nothing may be written, is a stack that ran out', () => {
    const drawn = fault(STACK.base - 8n, { rsp: STACK.base })
    expect(judge({ ...drawn, code: { at: IN_PROGRAM, bytes: [0x55] } })).toMatchObject({ kind: 'stack-exhaustion', class: 2 })
  })

  test('freed memory\'s fill is a use after free on a system that writes it', () => {
    expect(judge({ ...fault(0xdddd_dddd_dddd_ddedn), os: 'windows' })).toMatchObject({ kind: 'use-after-free', class: 3 })
  })

  test.each([
    ['SIGFPE / FPE_INTDIV', 'divide-by-zero'], ['SIGBUS / BUS_ADRALN', 'misaligned-access'], ['SIGSYS / SYS_SECCOMP', 'seccomp'], ['SIGTRAP', 'trap'],
    ['SIGBUS / BUS_MCEERR_AR', 'hardware'], ['SIGSEGV / SEGV_MTESERR', 'memory-tag'], ['EXCEPTION_STACK_OVERFLOW', 'stack-exhaustion'],
    ['EXCEPTION_STACK_BUFFER_OVERRUN / FAST_FAIL_STACK_COOKIE_CHECK_FAILURE', 'stack-guard'], ['EXCEPTION_INT_DIVIDE_BY_ZERO', 'divide-by-zero'], ['SIGNAL_FROM_MARS', 'unknown'],
  ])('%s is %s', (type, kind) => {
    expect(judge({ exception: { type, code: 1, address: type.includes('ADRALN') ? IN_PROGRAM + 0x101n : IN_PROGRAM }, registers: { rip: IN_PROGRAM, rsp: SP } }).kind).toBe(kind)
  })
})

describe('what speaks against an attack', () => {
  const heap = { base: 0x7f00_1234_0000n, size: 0x1000n, access: 'rw' }
  const slugs = (drawn: Drawn, claims: Claims = {}) => judge(drawn, claims).against.map(({ slug }) => slug)

  test('one flipped bit that makes a mapped address next to another register', () => {
    expect(slugs({ ...fault(heap.base + 0x40n ^ (1n << 41n), { rbx: heap.base }), regions: [heap] })).toContain('bit-flip')
    expect(slugs({ ...fault(heap.base + 0x40n ^ (1n << 41n), { rbx: 0x1234n }), regions: [heap] })).not.toContain('bit-flip')
  })

  test('a 32-bit address space that is mostly mapped proves nothing by one bit', () => {
    const half = { base: 0x1000_0000n, size: 0x8000_0000n, access: 'rw' }
    expect(slugs({ cpu: 'arm', exception: { type: 'SIGSEGV / SEGV_MAPERR', code: 11, address: 0xd000_1000n }, registers: { pc: 0x2000_0000n, r4: 0x5000_1000n }, regions: [half] })).not.toContain('bit-flip')
  })

  test('a fault that is not where the instruction accessed', () => {
    expect(slugs({ ...fault(0x7f99_0000_0000n, { rdi: 0x7f00_1234_0000n }), code: { at: IN_PROGRAM, bytes: [0x48, 0x89, 0x07] } })).toContain('instruction-inconsistent')
  })

  test('an open debug port and a brown-out', () => {
    expect(slugs(fault(0n), { dbgstat: 0, resetReason: 'brownout' })).toEqual(['debug-enabled', 'power'])
  })
})
