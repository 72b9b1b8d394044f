import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CRASH_KINDS, TRUSTS } from '../../../symbolicate/contract.ts'
import { assess } from '../../../symbolicate/evidence/assess.ts'
import { makeSignature } from '../../../symbolicate/signature/signature.ts'
import { explainText } from '../../../symbolicate/explain-text.ts'
import { drawDump, drawReport } from '../crash-builder.ts'

const word = fc.oneof(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.constantFrom(0n, 0x41414141n, 0x4141414141414141n, 0x10n, 0xffffffffffffffffn, 0x555555555000n))
const name = fc.oneof(fc.constantFrom('abort', 'raise', 'free', '__stack_chk_fail', 'memcpy', 'main', 'std::vector<int>::at', '_ZN3fooE', '__restore_rt', ''), fc.string({ maxLength: 40 }))
const hexText = word.map((value) => `0x${value.toString(16)}`)
const frame = fc.record({
  trust: fc.constantFrom(...TRUSTS), function: fc.option(name), module: fc.option(fc.constantFrom('sensord', 'libc.so.6', 'other')), module_offset: fc.option(fc.oneof(hexText, fc.string({ maxLength: 8 }))),
  offset: fc.oneof(hexText, fc.string({ maxLength: 8 })), file: fc.option(fc.string({ maxLength: 20 })), line: fc.option(fc.nat()), approximate: fc.boolean(), repeats: fc.nat(300),
  inlines: fc.option(fc.array(fc.record({ function: name, file: fc.option(fc.string({ maxLength: 9 })), line: fc.option(fc.nat()) }), { maxLength: 3 })),
})
const drawn = fc.record({
  cpu: fc.constantFrom('x86', 'x86-64', 'arm', 'arm64', 'riscv32', 'unknown'), os: fc.constantFrom('linux', 'windows', 'macos', 'esp-idf', 'unknown'),
  exception: fc.option(fc.record({
    type: fc.oneof(fc.constantFrom('SIGSEGV / SEGV_MAPERR', 'SIGSEGV / SI_KERNEL', 'SIGSEGV', 'SIGABRT', 'SIGILL / ILL_ILLOPC', 'SIGBUS / BUS_ADRALN', 'EXC_BAD_ACCESS / KERN_INVALID_ADDRESS', 'EXCEPTION_ACCESS_VIOLATION_READ'), fc.string({ maxLength: 20 })),
    address: fc.option(word), access: fc.constantFrom('read', 'write', 'execute', 'free', 'unknown'),
  }), { nil: undefined }),
  registers: fc.dictionary(fc.constantFrom('rip', 'rsp', 'rax', 'rdi', 'pc', 'sp', 'lr', 'x0', 'x1', 'eip', 'esp', 'eax', 'ecx', 'r14'), word),
  regions: fc.array(fc.record({ base: word, size: fc.bigInt({ min: 0n, max: 1n << 40n }), access: fc.constantFrom('rwx', 'rw', 'rx', 'r', ''), name: fc.constantFrom('[stack]', '[heap]', 'x') }), { maxLength: 4 }),
  code: fc.record({ at: word, bytes: fc.array(fc.nat(255), { minLength: 1, maxLength: 15 }) }), frames: fc.array(frame, { maxLength: 12 }), message: fc.option(fc.string({ maxLength: 40 }), { nil: undefined }),
}).map((value) => {
  // The code lies where the program counter points, or it would never be decoded.
  const pc = value.registers.rip ?? value.registers.pc ?? value.registers.eip
  return { ...value, exception: value.exception as never, cpu: value.cpu as never, os: value.os as never, code: { at: pc ?? value.code.at, bytes: value.code.bytes } }
})

test('any dump gets evidence and a bucket, the same ones each time, and nothing throws', () => {
  fc.assert(fc.property(drawn, (value) => {
    const dump = drawDump(value)
    const report = drawReport(value.frames as never)
    const evidence = assess({ dump, report, claims: {} })
    expect(CRASH_KINDS).toContain(evidence.kind)
    expect(assess({ dump, report, claims: {} })).toEqual(evidence)
    if (evidence.pattern !== null) expect(evidence.class).toBeGreaterThanOrEqual(3)
    if (evidence.class === 4) expect(evidence.severity).toBe('exploitable')
    const signature = makeSignature({ kind: evidence.kind, addressClass: evidence.addressClass, report })
    expect(signature.bucket).toMatch(/^[0-9a-f]{16}$/)
    expect(signature.frames.length).toBeLessThanOrEqual(3)
    expect(makeSignature({ kind: evidence.kind, addressClass: evidence.addressClass, report })).toEqual(signature)
    const text = explainText({ status: 'ok', statusReason: '', kind: evidence.kind, access: evidence.access, evidence, signature, report })
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
  }), { numRuns: 1_500 })
})
