import { expect, test } from 'vitest'
import { createMemory } from '../../../symbolicate/formats/memory.ts'
import { INCOMPLETE, MINIDUMP_BUDGET, parseMinidump } from '../../../symbolicate/formats/minidump.ts'
import { sniff } from '../../../symbolicate/formats/sniff.ts'
import type { Dump } from '../../../symbolicate/formats/dump.ts'
import { type Drawn, drawMinidump, drawWords } from '../../synth/minidump.ts'

const BUILD_ID = Uint8Array.from({ length: 20 }, (_, index) => index + 1)
const SMALL: Drawn = {
  threads: [{ id: 7, name: 'sensör', registers: { rip: 0x401234n, rsp: 0x7ffe0000n, rax: 0x4141414141414141n }, stack: { base: 0x7ffe0000n, bytes: drawWords([1, 2, 3]) } }],
  modules: [{ base: 0x400000n, size: 0x2000, name: '/usr/bin/sensord', buildId: BUILD_ID }],
  exception: { thread: 7, code: 11, flags: 1, address: 0x10n },
}

test('threads, modules, memory and the exception come out as they were drawn', () => {
  const dump = parsed(SMALL)
  expect(dump).toMatchObject({ format: 'minidump', os: 'linux', cpu: 'x86-64', crashingThread: 0, mainModule: 0, createdAt: 1_700_000_000, notes: [] })
  expect(dump.exception).toEqual({ type: 'SIGSEGV / SEGV_MAPERR', code: 11, subcode: 1, address: 0x10n, access: 'unknown' })
  expect(dump.threads[0]).toMatchObject({ id: 7, name: 'sensör', stack: { base: 0x7ffe0000n, size: 24 }, frames: null })
  expect(dump.threads[0]!.registers!.get('rax')).toBe(0x4141414141414141n)
  expect(dump.memory.u64(0x7ffe0008n)).toBe(2n)
  expect(dump.memory.u64(0x7ffe0014n)).toBeNull()
  expect(dump.modules).toEqual([{
    base: 0x400000n, size: 0x2000, name: '/usr/bin/sensord', version: '65538.196612.0.0', debugFile: '/usr/bin/sensord',
    codeId: '0102030405060708090a0b0c0d0e0f1011121314', debugId: '0403020106050807090A0B0C0D0E0F100',
  }])
})

test('a module\'s version is two numbers a word on Windows and macOS, one on Linux', () => {
  for (const os of ['windows', 'macos'] as const) expect(parsed({ ...SMALL, os }).modules[0]!.version).toBe('1.2.3.4')
})

test.each([
  ['x86-64', 'rip', 'r15'], ['x86', 'eip', 'esi'], ['arm', 'pc', 'fp'], ['arm64', 'pc', 'x28'], ['arm64-old', 'pc', 'lr'],
] as const)('registers of %s are read at their places', (cpu, pc, other) => {
  const dump = parsed({ cpu, threads: [{ id: 1, registers: { [pc]: 0x11223344n, [other]: 0x55667788n } }] })
  expect(dump.threads[0]!.registers!.get(pc)).toBe(0x11223344n)
  expect(dump.threads[0]!.registers!.get(other)).toBe(0x55667788n)
})

test('a big-endian dump reads the same', () => {
  const { memory: _, ...little } = parsed({ ...SMALL, osText: 'Linux 6.1.0 #1' })
  const { memory, ...big } = parsed({ ...SMALL, osText: 'Linux 6.1.0 #1', bigEndian: true })
  // The build id is bytes and the debug id is derived from it, so nothing differs but the order of memory's bytes.
  expect(big).toEqual(little)
  expect(memory.u64(0x7ffe0000n)).toBe(0x0100000000000000n)
})

test('the exception brings the registers of the crash, not of the handler', () => {
  const dump = parsed({ ...SMALL, exception: { thread: 7, code: 11, registers: { rip: 0xdeadn } } })
  expect(dump.threads[0]!.registers!.get('rip')).toBe(0xdeadn)
})

test('a fault at the program counter itself is the fetch of an instruction', () => {
  const access = (exception: Drawn['exception']): string => parsed({ ...SMALL, exception }).exception!.access
  expect(access({ thread: 7, code: 11, flags: 1, address: 0x4141n, registers: { rip: 0x4141n } })).toBe('execute')
  expect(access({ thread: 7, code: 11, flags: 1, address: 0x4142n, registers: { rip: 0x4141n } })).toBe('unknown')
  expect(access({ thread: 7, code: 4, flags: 1, address: 0x4141n, registers: { rip: 0x4141n } })).toBe('unknown')
})

test('annotations of the process stay when a module repeats their names', () => {
  const dump = parsed({ ...SMALL, annotations: { channel: 'stable', note: 'a' }, moduleAnnotations: { note: 'b', 'fw.slot': 'B' } })
  expect(dump.annotations).toEqual({ channel: 'stable', note: 'a', 'fw.slot': 'B' })
})

test('messages that a module leaves without a name are numbered', () => {
  expect(parsed({ ...SMALL, annotations: { channel: 'beta' }, moduleMessages: ['Library not loaded: libq.dylib', 'reason: no suitable image'] }).annotations).toEqual({
    channel: 'beta', 'message-0': 'Library not loaded: libq.dylib', 'message-1': 'reason: no suitable image',
  })
})

test('streams that only some clients write', () => {
  const dump = parsed({
    ...SMALL, pid: 4711, assertion: { expression: 'len <= cap', function: 'read_frame', file: 'mqtt.c', line: 88 },
    unloaded: [{ base: 0x10000n, size: 0x1000, name: 'gone.dll' }], maps: '00400000-00402000 r-xp 00000000 08:01 77  /usr/bin/sensord\nnonsense\n7ffe0000-7fff0000 rw-p 00000000 00:00 0 [stack]\n',
    memory64: [{ base: 0x9000n, bytes: drawWords([9]) }, { base: 0xa000n, bytes: drawWords([10]) }],
  })
  expect(dump.pid).toBe(4711)
  expect(dump.abortMessage).toBe('len <= cap in read_frame at mqtt.c:88')
  expect(dump.unloadedModules).toMatchObject([{ base: 0x10000n, name: 'gone.dll', codeId: '5f0000001000' }])
  expect(dump.regions).toEqual([
    { base: 0x400000n, size: 0x2000n, read: true, write: false, execute: true, name: '/usr/bin/sensord' },
    { base: 0x7ffe0000n, size: 0x10000n, read: true, write: true, execute: false, name: '[stack]' },
  ])
  expect(dump.memory.u64(0xa000n)).toBe(10n)
})

test('memory info of Windows says what may be read, written and executed', () => {
  const page = (protection: number, state = 0x1000): NonNullable<Drawn['memoryInfo']>[number] => ({ base: BigInt(protection) << 16n, size: 0x1000n, state, protection })
  const dump = parsed({ ...SMALL, os: 'windows', memoryInfo: [page(0x02), page(0x04), page(0x20), page(0x40), page(0x01), page(0x104), page(0x04, 0x2000)] })
  expect(dump.regions.map(({ read, write, execute }) => `${read ? 'r' : '-'}${write ? 'w' : '-'}${execute ? 'x' : '-'}`)).toEqual(['---', 'r--', 'rw-', 'r-x', 'rwx', 'rw-'])
})

test.each<[string, Drawn['os'], Drawn['exception'], object]>([
  ['a sent signal', 'linux', { thread: 7, code: 6, flags: 0xfffffffa }, { type: 'SIGABRT / SI_TKILL', subcode: -6 }],
  ['a signal without a code', 'linux', { thread: 7, code: 11 }, { type: 'SIGSEGV' }],
  ['a code that nobody knows', 'linux', { thread: 7, code: 11, flags: 77 }, { type: 'SIGSEGV / 0x0000004d' }],
  ['a division', 'linux', { thread: 7, code: 8, flags: 1 }, { type: 'SIGFPE / FPE_INTDIV' }],
  ['a write on Windows', 'windows', { thread: 7, code: 0xc0000005, address: 1n, parameters: [1n, 0x4141n] }, { type: 'EXCEPTION_ACCESS_VIOLATION_WRITE', access: 'write', address: 0x4141n }],
  ['a jump into data on Windows', 'windows', { thread: 7, code: 0xc0000005, address: 1n, parameters: [8n, 0x4141n] }, { type: 'EXCEPTION_ACCESS_VIOLATION_EXEC', access: 'execute' }],
  ['a stack cookie on Windows', 'windows', { thread: 7, code: 0xc0000409, parameters: [2n] }, { type: 'EXCEPTION_STACK_BUFFER_OVERRUN / FAST_FAIL_STACK_COOKIE_CHECK_FAILURE' }],
  ['a bad access on macOS', 'macos', { thread: 7, code: 1, flags: 2, address: 0x10n }, { type: 'EXC_BAD_ACCESS / KERN_PROTECTION_FAILURE', address: 0x10n }],
  ['an exception that nobody knows', 'macos', { thread: 7, code: 99, flags: 3 }, { type: 'unknown 0x00000063 / 0x00000003' }],
])('the reason of %s', (_, os, exception, expected) => {
  expect(parsed({ ...SMALL, os, exception }).exception).toMatchObject(expected)
})

test('of modules that overlap the lower stays, and empty ones go', () => {
  const dump = parsed({ ...SMALL, modules: [
    { base: 0x9000n, size: 0x1000, name: 'high' }, { base: 0x1000n, size: 0x2000, name: 'low' }, { base: 0x2000n, size: 0x2000, name: 'across' }, { base: 0x5000n, size: 0, name: 'empty' },
  ] })
  expect(dump.modules.map((module) => module.name)).toEqual(['low', 'high'])
  expect(dump.mainModule).toBe(1)
  expect(dump.notes.map((note) => note.slug)).toEqual(['modules-dropped'])
})

test('a count that lies reads what is there, and says so', () => {
  const dump = parsed({ ...SMALL, claims: { threads: 0xffff_ffff, modules: 1_000_000 } })
  expect(dump.threads[0]).toMatchObject({ id: 7 })
  expect(dump.modules[0]).toMatchObject({ name: '/usr/bin/sensord' })
  expect(dump.notes.some((note) => INCOMPLETE.has(note.slug))).toBe(true)
})

test('the budget bounds every list', () => {
  const threads = Array.from({ length: 50 }, (_, id) => ({ id }))
  const result = parseMinidump(drawMinidump({ ...SMALL, threads }), { ...MINIDUMP_BUDGET, threads: 10 })
  expect('dump' in result && result.dump.threads.length).toBe(10)
  expect('dump' in result && result.dump.notes).toMatchObject([{ slug: 'list-shortened' }])
  expect(parseMinidump(drawMinidump(SMALL), { ...MINIDUMP_BUDGET, bytes: 100 })).toMatchObject({ slug: 'budget-exceeded' })
})

test('a dump cut off anywhere is partial or refused as truncated', () => {
  const whole = drawMinidump({ ...SMALL, annotations: { a: 'b' }, memory: [{ base: 0x9000n, bytes: new Uint8Array(64) }] })
  for (let length = 1; length < whole.length; length++) {
    const result = parseMinidump(whole.slice(0, length))
    if ('dump' in result) expect(result.dump.notes.some((note) => INCOMPLETE.has(note.slug)), `${length} bytes`).toBe(true)
    else expect(result.slug, `${length} bytes`).toBe('dump-truncated')
  }
})

test('a dump that lies everywhere leaves a bounded number of notes', () => {
  const threads = Array.from({ length: 300 }, (_, id) => ({ id, stack: { base: 0x1000n * BigInt(id), bytes: new Uint8Array(64) } }))
  const whole = drawMinidump({ threads })
  const result = parseMinidump(whole.slice(0, whole.length - 290 * 64))
  expect('dump' in result && [result.dump.threads.length, result.dump.notes.length]).toEqual([300, 64])
})

test('what is no minidump is refused with its reason', () => {
  expect(parseMinidump(new Uint8Array())).toMatchObject({ slug: 'dump-empty' })
  expect(parseMinidump(new Uint8Array(100))).toEqual({ slug: 'dump-malformed', reason: 'minidump: signature is not MDMP' })
  expect(parseMinidump(drawMinidump({}))).toMatchObject({ slug: 'dump-malformed' })
})

test('the magic decides what a dump is, not what the device claims', () => {
  expect(sniff(drawMinidump(SMALL), 'text/plain')).toBe('minidump')
  expect(sniff(new Uint8Array(), 'application/x-dmp')).toBe('empty')
  expect(sniff(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1), '')).toBe('elf-core')
  expect(sniff(Buffer.from('==12==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x1\n'), 'application/x-dmp')).toBe('sanitizer')
  expect(sniff(Buffer.from('TypeError: x is not a function\n    at f (app.js:1:2)\n'), '')).toBe('js-stack')
  expect(sniff(Buffer.from('all is well\n'), '')).toBe('text')
  expect(sniff(Uint8Array.from({ length: 64 }, (_, index) => index * 7), '')).toBe('unknown')
})

test('memory answers from one range that holds all of the bytes, and from nothing else', () => {
  const memory = createMemory([{ base: 100n, bytes: new Uint8Array(8).fill(1) }, { base: 108n, bytes: new Uint8Array(8).fill(2) }, { base: 104n, bytes: new Uint8Array(8).fill(3) }, { base: 0n, bytes: new Uint8Array() }])
  expect(memory.u64(100n)).toBe(0x0101010101010101n)
  expect(memory.u64(104n)).toBe(0x0303030303030303n)
  expect(memory.u64(109n)).toBeNull()
  expect(memory.bytes(112n, 4)).toEqual(new Uint8Array(4).fill(2))
  expect(memory.u8(99n)).toBeNull()
  expect(memory.u8(0xffff_ffff_ffff_ffffn)).toBeNull()
  expect(memory.bytes(100n, -1)).toBeNull()
  expect(memory.ranges()).toHaveLength(3)
})

function parsed(drawn: Drawn): Dump {
  const result = parseMinidump(drawMinidump(drawn))
  if (!('dump' in result)) throw new Error(`${result.slug}: ${result.reason}`)
  return result.dump
}
