import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Dump, TextFrame } from '../../symbolicate/formats/dump.ts'
import { createMemory } from '../../symbolicate/formats/memory.ts'
import { analyseNative, type NativeAnalysis } from '../../symbolicate/native.ts'
import { buildReport } from '../../symbolicate/report.ts'
import { parseBreakpadSym } from '../../symbolicate/symbols/breakpad-sym.ts'
import type { SymbolSource } from '../../symbolicate/symbols/source.ts'
import { drawMinidump, drawWords } from '../synth/minidump.ts'

const CORPUS = join(import.meta.dirname, '../corpus')

const source: SymbolSource = {
  async find({ debugFile, debugId }) {
    if (debugFile === null || debugId === null) return { status: 'no-id', reason: 'no build id' }
    const folder = join(CORPUS, 'symbols', debugFile.split('/').at(-1)!)
    try {
      const parsed = parseBreakpadSym(readFileSync(join(folder, debugId, readdirSync(join(folder, debugId))[0]!)))
      return 'slug' in parsed ? { status: 'corrupt', reason: parsed.reason } : { status: 'found', symbols: parsed }
    } catch {
      return { status: 'missing', reason: `no symbols for ${debugFile} ${debugId}` }
    }
  },
}

test('a real crash, from bytes to report', async () => {
  const { status, report } = await analyse('crashpad-x64/sensord.jump-4141.dmp')
  expect(status).toBe('ok')
  expect(report).toMatchObject({
    status: 'OK', format: 'minidump', system_info: { os: 'linux', cpu_arch: 'amd64' },
    crash_info: { type: 'SIGSEGV / SEGV_MAPERR', address: '0x0000000041414141', crashing_thread: 2, assertion: null, access: 'execute' },
  })
  const frames = report.crashing_thread!.frames
  expect(frames.map((frame) => [frame.frame, frame.trust, frame.module, frame.function, frame.line, frame.approximate])).toEqual([
    [0, 'context', null, null, null, false],
    [1, 'cfi', 'sensord', 'dispatch', 9, false],
    [2, 'cfi', 'sensord', 'run', 19, false],
    [3, 'cfi', 'sensord', 'worker', 32, false],
    [4, 'cfi', 'libc.so.6', 'pthread_condattr_setpshared', null, true],
    [5, 'cfi', 'libc.so.6', '__xmknodat', null, true],
  ])
  expect(frames[0]).toMatchObject({ offset: '0x0000000041414141', module_offset: null, missing_symbols: true, registers: { rip: '0x0000000041414141' } })
  expect(frames[1]).toMatchObject({ module_offset: '0x0000000000001401', function_offset: '0x0000000000000010' })
  expect(report.threads[2]!.frames[0]!.registers).toBeUndefined()
  expect(report.modules.map((module) => [module.filename, module.symbol_status])).toEqual([['sensord', 'found'], ['libc.so.6', 'found'], ['linux-vdso.so.1', 'not-asked'], ['ld-linux-x86-64.so.2', 'not-asked']])
})

test('the same bytes and symbols give the same report', async () => {
  expect(await analyse('crashpad-x64/sensord-nofp.heap-overflow.dmp')).toEqual(await analyse('crashpad-x64/sensord-nofp.heap-overflow.dmp'))
})

test('symbols that are missing are a status of the module', async () => {
  const { status, report } = await analyse('linux-arm64/sensord-arm64.stack-smash.dmp')
  expect(status).toBe('ok')
  expect(report.modules[0]).toMatchObject({ symbol_status: 'missing', symbol_reason: expect.stringContaining('no symbols for') })
  expect(report.crashing_thread!.frames[0]).toMatchObject({ module: 'sensord-arm64-static', function: null, missing_symbols: true })
})

test('a dump that is cut off is partial, with the reason', async () => {
  const whole = readFileSync(join(CORPUS, 'crashpad-x64/sensord.div0.dmp'))
  const cut = await analyseNative(whole.subarray(0, whole.length - 3000), 'application/x-dmp', source)
  expect(cut.status).toBe('partial')
  expect(cut.statusReason).toMatch(/bytes missing/)
  expect(cut.report.crashing_thread!.frames[0]!.function).toBe('scale')
})

test.each([
  ['nothing', new Uint8Array(), 'dump-empty'], ['a stub', Buffer.from('MDMP'), 'dump-truncated'],
  ['text', Buffer.from('hello\n'), 'format-unknown'], ['noise', Uint8Array.from({ length: 99 }, (_, index) => index * 31), 'format-unknown'],
])('%s has a report without threads', async (_, bytes, status) => {
  const result = await analyseNative(bytes, 'application/x-dmp', source)
  expect(result).toMatchObject({ dump: null, status, report: { status, crashing_thread: null, threads: [] } })
  expect(result.statusReason).not.toBe('')
})

test('a budget that is used up is partial, and the crashing thread comes first', async () => {
  const words = Array.from({ length: 200 }, (_, index) => 0x400000 + 16 * index)
  const threads = [1, 2, 3].map((id) => ({ id, registers: { rip: 0x400100n, rsp: 0x7000n * BigInt(id) }, stack: { base: 0x7000n * BigInt(id), bytes: drawWords(words) } }))
  const bytes = drawMinidump({ threads, modules: [{ base: 0x400000n, size: 0x1000, name: 'sensord' }], exception: { thread: 3, code: 11 } })
  const { status, stacks } = await analyseNative(bytes, '', source, { minidump: { bytes: 1e6, streams: 99, threads: 99, modules: 99, ranges: 99 }, unwind: { walked: 100, kept: 50, candidates: 1000, places: 1000 } })
  expect(status).toBe('partial')
  expect(stacks.map((stack) => stack.frames.length)).toEqual([0, 0, 50])
  expect(stacks[0]!.end).toBe('budget')
})

test('frames that a text format brings are shown as given, inlined calls with the frame that holds them', () => {
  const frame = (name: string, line: number, inline = false): TextFrame => ({ address: 0x1000n, module: '/bin/x', moduleOffset: 0x10, function: name, file: 'x.c', line, column: null, inline })
  const dump: Dump = {
    format: 'sanitizer', os: 'linux', osVersion: null, cpu: 'unknown', exception: null, crashingThread: 0, modules: [], mainModule: null, unloadedModules: [], memory: createMemory([]), regions: [],
    annotations: {}, abortMessage: null, pid: null, createdAt: null, notes: [], threads: [{ id: 0, name: null, registers: null, stack: null, frames: [frame('memcpy_', 3, true), frame('parse', 9), frame('main', 20)] }],
  }
  expect(buildReport(dump, [null], new Map()).crashing_thread!.frames).toMatchObject([
    { frame: 0, trust: 'given', module: 'x', function: 'parse', line: 9, inlines: [{ function: 'memcpy_', line: 3 }] }, { frame: 1, function: 'main', inlines: null },
  ])
})

async function analyse(file: string): Promise<NativeAnalysis> {
  const result = await analyseNative(readFileSync(join(CORPUS, file)), 'application/x-dmp', source)
  return { ...result, dump: null }
}
