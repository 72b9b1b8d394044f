import fc from 'fast-check'
import { expect, test } from 'vitest'
import { assess } from '../../symbolicate/evidence/assess.ts'
import { parseSanitizer } from '../../symbolicate/formats/sanitizer.ts'
import { TEXT_BUDGET } from '../../symbolicate/formats/text/lines.ts'
import { buildReport } from '../../symbolicate/report.ts'
import { makeSignature } from '../../symbolicate/signature/signature.ts'

const SLUGS = ['dump-empty', 'report-missing']

// Text made of what the grammar is made of reaches deeper than noise.
const piece = fc.constantFrom(
  '==1==ERROR: AddressSanitizer: ', 'heap-use-after-free on address ', 'SEGV on unknown address ', '0x41414141', '0xffffffffffffffffffff', '(pc 0x1 bp 0x2 sp 0x3 T0)', '\n', '\r\n',
  '    #0 0x55d0aa in ', '    #1 ', 'foo<bar(', '))>>', 'operator<', ' /src/a.c:1:2', ' (/bin/x+0x12)', ' (BuildId: ', 'a.c:1:1: runtime error: ', 'null pointer', 'freed by thread T0 here:',
  '*** GWP-ASan detected a memory error ***\n', 'Use After Free at ', 'WARNING: ThreadSanitizer: data race', 'SUMMARY: ', 'Hint: ', '#99', ' | ', '\u0000', '\u202e', '(', '[', '@', '`anonymous namespace\'', '$_0', '_ZN3foo', '::h0123456789abcdef',
)
const log = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.array(fc.oneof({ weight: 6, arbitrary: piece }, fc.string({ maxLength: 20 })), { maxLength: 60 }).map((parts) => new TextEncoder().encode(parts.join(''))))

test('any bytes end as a report within the budget, or with one of our slugs', () => {
  fc.assert(fc.property(log, (bytes) => {
    const budget = { ...TEXT_BUDGET, bytes: 400, lines: 40, frames: 8 }
    const before = bytes.slice()
    const result = parseSanitizer(bytes, budget)
    expect(bytes).toEqual(before)
    if ('slug' in result) { expect(SLUGS).toContain(result.slug); return }
    for (const thread of result.dump.threads) expect(thread.frames!.length).toBeLessThanOrEqual(budget.frames)
    const report = buildReport(result.dump, result.dump.threads.map(() => null), new Map())
    const { kind, addressClass } = assess({ dump: result.dump, report, claims: {}, sanitizer: result.facts })
    expect(makeSignature({ kind, addressClass, report }).bucket).toMatch(/^[0-9a-f]{16}$/)
  }), { numRuns: 1_500 })
})

test('a report of one long repetition costs its length', () => {
  for (const part of ['(', '<', '::', ' ', ':1', 'operator<', '[clone ', ' in ', '/a', '#0 0x', '\'', '@GLIBC_2.2']) {
    const text = `==1==ERROR: AddressSanitizer: ABRT on unknown address\n    #0 0x111111 in ${part.repeat(200_000 / part.length)}\n`.repeat(4)
    const result = parseSanitizer(new TextEncoder().encode(text))
    expect('slug' in result).toBe(false)
    if ('slug' in result) continue
    const report = buildReport(result.dump, result.dump.threads.map(() => null), new Map())
    makeSignature({ kind: 'abort', addressClass: 'unknown', report })
  }
}, 10_000)
