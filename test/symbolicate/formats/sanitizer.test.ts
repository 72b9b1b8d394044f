import { describe, expect, test } from 'vitest'
import { parseSanitizer, type SanitizerFacts } from '../../../symbolicate/formats/sanitizer.ts'
import { parseFrameLine } from '../../../symbolicate/formats/text/frame-line.ts'
import { TEXT_BUDGET } from '../../../symbolicate/formats/text/lines.ts'
import type { Dump } from '../../../symbolicate/formats/dump.ts'

function read(text: string): { dump: Dump; facts: SanitizerFacts } {
  const result = parseSanitizer(new TextEncoder().encode(text))
  if ('slug' in result) throw new Error(result.reason)
  return result
}

const UAF = `noise before
=================================================================
==42==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000014 at pc 0x55d1 bp 0x7ffd10 sp 0x7ffd08
WRITE of size 4 at 0x602000000014 thread T0
    #0 0x55d0aa in set /src/box.h:12:5
    #1 0x55d0aa in Box::put(int) /src/box.cc:40:3
    #2 0x55d1bb in main /src/main.cc:9:7
    #3 0x7f00aa in __libc_start_main (/lib/x86_64-linux-gnu/libc.so.6+0x29d0a) (BuildId: 0702430aef5fa3dda43986563e9ffcc47efbd75e)

0x602000000014 is located 4 bytes inside of 16-byte region [0x602000000010,0x602000000020)
freed by thread T0 here:
    #0 0x55aaaa in operator delete(void*) (/bin/app+0xaaaa)
    #1 0x55d111 in Box::~Box() /src/box.cc:20:1

previously allocated by thread T0 here:
    #0 0x55bbbb in operator new(unsigned long) (/bin/app+0xbbbb)
    #1 0x55d122 in main /src/main.cc:7:12

SUMMARY: AddressSanitizer: heap-use-after-free /src/box.h:12:5 in set
`

test('a report gives type, access, address and the three stacks', () => {
  const { dump, facts } = read(UAF)
  expect(facts).toMatchObject({ tool: 'asan', type: 'heap-use-after-free', kind: 'use-after-free', access: 'write', accessSize: 4, address: 0x602000000014n, pc: 0x55d1n })
  expect(facts.region).toBe('0x602000000014 is located 4 bytes inside of 16-byte region [0x602000000010,0x602000000020)')
  expect(dump.pid).toBe(42)
  expect(dump.threads.map(({ name, frames }) => [name, frames?.map((frame) => frame.function)])).toEqual([
    [null, ['set', 'Box::put(int)', 'main', '__libc_start_main']],
    ['freed by thread T0 here:', ['operator delete(void*)', 'Box::~Box()']],
    ['previously allocated by thread T0 here:', ['operator new(unsigned long)', 'main']],
  ])
  expect(dump.threads[0]?.frames?.map(({ inline }) => inline)).toEqual([true, false, false, false])
  expect(dump.modules.find(({ name }) => name.endsWith('libc.so.6'))?.codeId).toBe('0702430aef5fa3dda43986563e9ffcc47efbd75e')
})

test.each([
  ['==1==ERROR: AddressSanitizer: SEGV on unknown address 0x000000000018 (pc 0x7fd8d523feb2 bp 0x7fff279650b0 sp 0x7fff279650a0 T0)\n==1==The signal is caused by a WRITE memory access.', { type: 'SEGV', access: 'write', address: 0x18n, pc: 0x7fd8d523feb2n, sp: 0x7fff279650a0n }],
  ['==1==ERROR: AddressSanitizer: attempting free on address which was not malloc()-ed: 0x555f65177ff0 in thread T0', { type: 'bad-free', kind: 'invalid-free', access: 'free', address: 0x555f65177ff0n }],
  ['==7==WARNING: MemorySanitizer: use-of-uninitialized-value', { tool: 'msan', kind: 'uninitialised-value' }],
  ['WARNING: ThreadSanitizer: data race (pid=9)\n  Write of size 8 at 0x7b0400000800 by thread T1:', { tool: 'tsan', kind: 'data-race', access: 'write', accessSize: 8 }],
  ['==9==ERROR: HWAddressSanitizer: tag-mismatch on address 0x005a5f652fff at pc 0x00635f670774\nREAD of size 1 at 0x005a5f652fff tags: 3c/00 (ptr/mem) in thread T10\nCause: use-after-free', { tool: 'hwasan', kind: 'use-after-free', access: 'read' }],
  ['==9==ERROR: LeakSanitizer: detected memory leaks', { tool: 'lsan', kind: 'memory-leak' }],
  ['*** GWP-ASan detected a memory error ***\nUse After Free at 0x7feccab26000 (0 bytes into a 41-byte allocation at 0x7feccab26000) by thread 31027 here:', { tool: 'gwp-asan', kind: 'use-after-free', address: 0x7feccab26000n }],
  ['*** GWP-ASan detected a memory error ***\nDouble Free at 0x7feccab26000 by thread 31027 here:', { tool: 'gwp-asan', kind: 'double-free', access: 'free' }],
  ['src/a.c:3:5: runtime error: signed integer overflow: 2147483647 + 1 cannot be represented in type \'int\'', { tool: 'ubsan', kind: 'integer-overflow' }],
  ['src/a.c:3:5: runtime error: index 9 out of bounds for type \'int[4]\'', { kind: 'buffer-overflow' }],
  ['src/a.c:3:5: runtime error: store to misaligned address 0x7ffd for type \'int\'', { kind: 'misaligned-access', access: 'write' }],
  ['src/a.c:3:5: runtime error: control flow integrity check for type \'void ()\' failed during indirect function call', { kind: 'cfi-violation', access: 'execute' }],
])('%s', (text, facts) => {
  expect(read(text).facts).toMatchObject(facts)
})

describe('several reports in one log', () => {
  test('the first that ends the program is the crash, and the log says how many there are', () => {
    const { dump, facts } = read(`a.c:1:1: runtime error: division by zero\n    #0 0x111111 in first a.c:1:1\n${UAF}${UAF}`)
    expect(facts.type).toBe('heap-use-after-free')
    expect(dump.notes.find(({ slug }) => slug === 'several-reports')?.text).toBe('log holds 3 reports; this is number 2, the first that ended the program')
  })

  test('UBSan\'s report goes before the abort that it raises', () => {
    expect(read('a.c:1:1: runtime error: division by zero\n    #0 0x111111 in first a.c:1:1\n==1==ERROR: AddressSanitizer: ABRT on unknown address 0x000000000001 (pc 0x1 bp 0x2 sp 0x3 T0)').facts.type).toBe('divide-by-zero')
  })
})

test('a check that failed before an abort is its message', () => {
  expect(read('[1:2:ERROR] Check failed: len > 0 (0 vs. 0)\n==1==ERROR: AddressSanitizer: ABRT on unknown address 0x01 (pc 0x1 bp 0x2 sp 0x3 T0)').facts.assertion).toBe('len > 0 (0 vs. 0)')
})

test('what is no report has a slug', () => {
  expect(parseSanitizer(new Uint8Array(0))).toMatchObject({ slug: 'dump-empty' })
  expect(parseSanitizer(new TextEncoder().encode('hello\n#1 NEW cov: 9\n'))).toMatchObject({ slug: 'report-missing' })
})

test('a log past the budget is cut, and says so', () => {
  const long = `==1==ERROR: AddressSanitizer: stack-overflow on address 0x7ffc533cef30 (pc 0x1 bp 0x2 sp 0x3 T0)\n${Array.from({ length: 3_000 }, (_, i) => `    #${i} 0x4cf88d in recurse /a.c:1:1`).join('\n')}`
  const { dump } = read(long)
  expect(dump.threads[0]?.frames).toHaveLength(TEXT_BUDGET.frames)
  expect(dump.notes.map(({ slug }) => slug)).toContain('frames-omitted')
})

describe('frame lines', () => {
  test.each([
    ['    #0 0x7f3b595f8acb in __interceptor_malloc ??:?', { function: '__interceptor_malloc', file: null, address: 0x7f3b595f8acbn }],
    ['    #3 0x29f0bb3 in CPDF_DocPageData::Clear(int) third_party/core/page.cpp:60', { function: 'CPDF_DocPageData::Clear(int)', file: 'third_party/core/page.cpp', line: 60 }],
    ['    #2 0x42b11e (/tmp/core dump+0x42b11e)', { function: null, module: '/tmp/core dump', moduleOffset: 0x42b11e }],
    ['    #0 main /tmp/race.cc:12:3 (race+0x4b1a2c) (BuildId: 0123456789abcdef)', { function: 'main', file: '/tmp/race.cc', line: 12, column: 3, module: 'race', address: null }],
    ['  #1 0x13458f6c in base::debug::Break C:\\b\\src\\debug win.cc:18', { function: 'base::debug::Break', file: 'C:\\b\\src\\debug win.cc', line: 18 }],
    ['    #5 0x55 in std::function<void ()>::operator()() const /usr/include/c++/12/bits/std_function.h:591:9', { function: 'std::function<void ()>::operator()() const', line: 591 }],
    ['    #1 0x777777 in ops::operator->(int) const a.h:3', { function: 'ops::operator->(int) const', file: 'a.h', line: 3 }],
    ['    #0 ./app(_Z3foov+0x2a) [0x55d0aabbccdd]', { function: '_Z3foov', module: './app', address: 0x55d0aabbccddn }],
    ['    #4 0x7ff612345678 in RtlUserThreadStart+0x20 (C:\\Windows\\ntdll.dll+0x180001234)', { function: 'RtlUserThreadStart+0x20', module: 'C:\\Windows\\ntdll.dll', moduleOffset: 0x180001234 }],
  ])('%s', (line, frame) => {
    expect(parseFrameLine(line)?.frame).toMatchObject(frame)
  })

  test.each(['#', '#1', '    # 1 x', 'frame #1 main', '    #99999 0x1 in x'])('%j is none', (line) => {
    expect(parseFrameLine(line)).toBeNull()
  })
})
