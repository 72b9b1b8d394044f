import { describe, expect, test } from 'vitest'
import type { Report, ReportFrame } from '../../../symbolicate/contract.ts'
import { RULES } from '../../../symbolicate/signature/rules.ts'
import { makeSignature } from '../../../symbolicate/signature/signature.ts'
import { drawReport, named } from '../crash-builder.ts'

const sign = (frames: Partial<ReportFrame>[], { kind = 'heap-buffer-overflow', addressClass = 'unknown', ...overrides }: Partial<Report> & { kind?: Parameters<typeof makeSignature>[0]['kind']; addressClass?: Parameters<typeof makeSignature>[0]['addressClass'] } = {}) =>
  makeSignature({ kind, addressClass, report: drawReport(frames, overrides) })

describe('a bucket id never changes for the same input', () => {
  // Kept ids: a change here changes every fleet's buckets and needs a new rule set.
  test.each([
    ['three frames', named('parse_header', 'handle_request', 'serve', 'main'), '1 | heap-buffer-overflow | parse_header | handle_request | serve', 'dbcb44199e537d46'],
    ['a prefix frame', named('__memmove_avx_unaligned_erms', '_ZN3net6Parser4readEPKcm', 'serve', 'main'), '1 | heap-buffer-overflow | memmove | net::Parser::read | serve | main', 'ad3ede9f1587a363'],
  ])('%s', (_, frames, text, bucket) => {
    const first = sign(frames)
    expect(first.text).toBe(text)
    expect(first.bucket).toBe(bucket)
    expect(sign(frames)).toEqual(first)
  })
})

test('abort and allocator wrappers above the program are left out, with the reason', () => {
  const { frames, notes, title } = sign([...named('raise', 'abort', '__assert_fail'), { function: 'check_bus', file: '/src/bus.c', line: 31 }, ...named('run', 'main')], { kind: 'assertion' })
  expect(frames).toEqual(['check_bus', 'run', 'main'])
  expect(notes.find(({ from }) => from === 'abort')).toEqual({ rule: 'wrappers', from: 'abort', to: '', why: 'abort: C library' })
  expect(title).toBe('assertion in check_bus (bus.c:31)')
})

test('only frames found by context, CFI or frame pointer count, and those that a text gives', () => {
  const { frames, notes } = sign([{ function: 'a' }, { function: 'stale', trust: 'scan' }, { function: 'b', trust: 'frame_pointer' }, { function: 'c', trust: 'given' }, { function: 'd', trust: 'none' }])
  expect(frames).toEqual(['a', 'b', 'c'])
  expect(notes.filter(({ rule }) => rule === 'counted-trust').map(({ from }) => from)).toEqual(['stale', 'd'])
})

test('an approximate public name never enters: the build and the offset do', () => {
  const { frames, text, provisional } = sign([{ function: 'far_away', approximate: true, module: 'sensord', module_offset: '0x0000000000001638' }, ...named('b', 'c')])
  expect(text).not.toContain('far_away')
  expect(frames[0]).toBe('sensord/0123456789ABCDEF+0x1638')
  expect(provisional).toBe(true)
})

test('a frame without a name has the build in it, never the module alone: two builds are two buckets', () => {
  const first = sign([{ function: null, module_offset: '0x1000' }, ...named('b', 'c')])
  const report = drawReport([{ function: null, module_offset: '0x1000' }, ...named('b', 'c')])
  report.modules[0]!.debug_id = 'FEDCBA98765432100123456789ABCDEF0'
  expect(makeSignature({ kind: 'heap-buffer-overflow', addressClass: 'unknown', report }).bucket).not.toBe(first.bucket)
})

test('a program counter that leads nowhere doesn\'t enter: the callers make the bucket, whatever the value', () => {
  const at = (pc: bigint) => sign([{ function: null, module: null, module_offset: null, offset: `0x${pc.toString(16).padStart(16, '0')}` }, ...named('dispatch', 'run', 'worker')], { kind: 'control-flow', addressClass: pc > 0x7fffffffffffn ? 'non-canonical' : 'unmapped' })
  const first = at(0x41414141n)
  expect(first.frames).toEqual(['dispatch', 'run', 'worker'])
  for (const pc of [0x41414100n, 0x4141414141414141n, 0x7fff00000000n, 0x1000n]) expect(at(pc)).toMatchObject({ bucket: first.bucket, text: first.text })
  expect(first.text).not.toMatch(/0x|4141/)
})

test('without any usable frame the program keeps its crashes apart from other programs\'', () => {
  const { text, title, provisional } = sign([{ function: null, module: null, module_offset: null }], { kind: 'control-flow' })
  expect(text).toBe('1 | control-flow | in sensord')
  expect(title).toBe('control-flow in sensord')
  expect(provisional).toBe(true)
})

test('how deep a recursion went and where it was cut decides nothing', () => {
  const deep = (turns: number, cut: number) => sign(named(...Array.from({ length: turns }, () => ['parse_value', 'parse_list', 'parse_item']).flat().slice(cut), 'parse', 'main'), { kind: 'stack-exhaustion' })
  const first = deep(40, 0)
  for (const [turns, cut] of [[41, 1], [60, 2], [35, 0]] as const) expect(deep(turns, cut).bucket).toBe(first.bucket)
  expect(first.frames).toEqual(['parse_item', 'parse_list', 'parse_value'])
})

test('a direct recursion in a crash of another kind is folded', () => {
  expect(sign(named('leaf', 'visit', 'visit', 'visit', 'walk', 'main')).frames).toEqual(['leaf', 'visit', 'walk'])
  expect(sign(named('leaf', 'a', 'b', 'a', 'b', 'walk', 'main')).frames).toEqual(['leaf', 'a', 'b'])
})

test('an inlined call counts as a call: optimisation doesn\'t split a bucket', () => {
  const plain = sign(named('leaf', 'middle', 'outer', 'main'))
  const inlined = sign([{ function: 'outer', inlines: [{ function: 'leaf', file: null, line: null }, { function: 'middle', file: null, line: null }] }, ...named('main')])
  expect(inlined.bucket).toBe(plain.bucket)
})

test('the stack starts again below a signal handler', () => {
  expect(sign(named('crash_handler', 'backtrace', '__restore_rt', 'read_reg', 'run', 'main')).frames).toEqual(['read_reg', 'run', 'main'])
})

test('the address class tells pointers apart, and never the address', () => {
  const frames = named('a', 'b', 'c')
  expect(sign(frames, { kind: 'wild-write', addressClass: 'non-canonical' }).text).toBe('1 | wild-write(non-canonical) | a | b | c')
  expect(sign(frames, { kind: 'wild-write', addressClass: 'unmapped' }).text).toBe('1 | wild-write | a | b | c')
  expect(sign(frames, { kind: 'control-flow', addressClass: 'stack' }).text).toBe('1 | control-flow | a | b | c')
})

test('a message enters without what changes from crash to crash', () => {
  const text = (assertion: string) => sign(named('a', 'b', 'c'), { kind: 'assertion', crash_info: { type: null, address: null, crashing_thread: 0, assertion, access: 'unknown' } }).text
  expect(text('index 3 < size 2')).toBe('1 | assertion | index NUMBER < size NUMBER | a | b | c')
  expect(text('index 9 < size 1')).toBe(text('index 3 < size 2'))
})

test('two frames and no end of the stack are provisional; two frames down to main are not', () => {
  expect(sign(named('a', 'b')).provisional).toBe(true)
  expect(sign(named('a', 'main')).provisional).toBe(false)
})

test('a kernel counts five frames', () => {
  expect(sign(named('a', 'b', 'c', 'd', 'e', 'f'), { format: 'linux-kernel' }).frames).toHaveLength(5)
})

test('a rule that fails is noted and skipped', () => {
  const broken = { name: 'broken', apply: () => { throw new Error('no such list') } }
  const { frames, notes } = makeSignature({ kind: 'abort', addressClass: 'unknown', report: drawReport(named('a', 'b', 'c')), rules: [broken, ...RULES] })
  expect(frames).toEqual(['a', 'b', 'c'])
  expect(notes[0]).toMatchObject({ rule: 'broken', why: 'rule failed and was skipped: no such list' })
})
