import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseElfCore } from '../../../symbolicate/formats/elf-core.ts'
import { sniff } from '../../../symbolicate/formats/sniff.ts'
import { analyseNative } from '../../../symbolicate/native.ts'
import type { ModuleIdentity } from '../../../symbolicate/symbols/source.ts'
import { drawCore, drawImage, type Drawn } from './elf-core-builder.ts'

const BUILD = Buffer.from('00112233445566778899aabbccddeeff01234567', 'hex')
const STACK = 0x7fff_0000n
const words = (count: number, from = 0n): bigint[] => Array.from({ length: count }, (_, index) => from + BigInt(index))

/** RISC-V: pc, ra, sp, then the others. */
const riscv = (bits: 32 | 64, said: Partial<Drawn> = {}): Drawn => ({
  bits, machine: 243,
  threads: [{ id: 71, signal: 11, registers: [0x10010n, 0x10021n, STACK + 64n, ...words(29, 100n)] }, { id: 70, registers: [0x10040n, 0x10051n, STACK + 128n, ...words(29, 200n)] }],
  siginfo: { signal: 11, code: 1, address: 0x41n },
  process: { pid: 70, name: 'meterd', command: 'meterd --loop ' },
  auxv: [[9, 0x10004n]],
  files: [{ start: 0x10000n, end: 0x12000n, page: 0n, path: '/usr/bin/meterd' }, { start: 0x12000n, end: 0x13000n, page: 2n, path: '/usr/bin/meterd' }],
  memory: [
    { address: 0x10000n, flags: 5, bytes: drawImage(bits, BUILD), size: 0x2000n }, { address: 0x12000n, flags: 6, bytes: Buffer.alloc(64), size: 0x1000n },
    { address: STACK, flags: 6, bytes: Buffer.alloc(256, 0xee) },
  ],
  ...said,
})
const dumpOf = (core: Uint8Array) => {
  const parsed = parseElfCore(core)
  if (!('dump' in parsed)) throw new Error(parsed.reason)
  return parsed.dump
}

test.each([32, 64] as const)('a RISC-V core of %i bits: signal, threads, registers, program and build id', (bits) => {
  const dump = dumpOf(drawCore(riscv(bits)))
  expect(dump).toMatchObject({
    format: 'elf-core', os: 'linux', cpu: bits === 64 ? 'riscv64' : 'riscv32', pid: 70, crashingThread: 0, mainModule: 0, notes: [], annotations: {},
    exception: { type: 'SIGSEGV / SEGV_MAPERR', code: 11, address: 0x41n },
    modules: [{ base: 0x10000n, size: 0x3000, name: '/usr/bin/meterd', codeId: BUILD.toString('hex'), debugId: '33221100554477668899AABBCCDDEEFF0' }],
  })
  expect(dump.threads.map(({ id, stack }) => [id, stack])).toEqual([[71, { base: STACK, size: 256 }], [70, { base: STACK, size: 256 }]])
  expect(Object.fromEntries(dump.threads[0]!.registers!)).toMatchObject({ pc: 0x10010n, ra: 0x10021n, sp: 0x7fff0040n, gp: 100n, tp: 101n, t0: 102n, s0: 105n, s1: 106n, a0: 107n, a7: 114n, s2: 115n, s11: 124n, t3: 125n, t6: 128n })
  expect(dump.memory.bytes(0x12000n, 65)).toBeNull()
  expect(dump.regions.map(({ base, size, write, execute, name }) => [base, size, write, execute, name])).toEqual([
    [0x10000n, 0x2000n, false, true, '/usr/bin/meterd'], [0x12000n, 0x1000n, true, false, '/usr/bin/meterd'], [STACK, 256n, true, false, null],
  ])
})

test('32-bit x86 and big-endian byte order have their places too', () => {
  const x86 = dumpOf(drawCore(riscv(32, { machine: 3, threads: [{ id: 5, registers: words(17, 1n) }] })))
  expect(Object.fromEntries(x86.threads[0]!.registers!)).toEqual({ ebx: 1n, ecx: 2n, edx: 3n, esi: 4n, edi: 5n, ebp: 6n, eax: 7n, eip: 13n, eflags: 15n, esp: 16n })
  const big = dumpOf(drawCore(riscv(64, { bigEndian: true })))
  expect(big.threads[0]!.registers!.get('ra')).toBe(0x10021n)
  expect(big.exception).toMatchObject({ type: 'SIGSEGV / SEGV_MAPERR', address: 0x41n })
})

test('without a file map the program is found by its entry, or by its image in memory', () => {
  const { files: _, auxv, ...rest } = riscv(64)
  const execfn = Buffer.alloc(256)
  execfn.write('./meterd\0', 16)
  const stack = { address: STACK, flags: 6, bytes: execfn }
  const image = dumpOf(drawCore({ ...rest, auxv: [...auxv!, [31, STACK + 16n]], memory: [...rest.memory.slice(0, 2), stack] }))
  expect(image.modules).toMatchObject([{ base: 0x10000n, size: 0x3000, codeId: BUILD.toString('hex') }])
  const blind = dumpOf(drawCore({ ...rest, auxv: [...auxv!, [31, STACK + 16n]], memory: [{ address: 0x10000n, flags: 5, bytes: Buffer.alloc(0), size: 0x2000n }, rest.memory[1]!, stack] }))
  expect(blind).toMatchObject({ mainModule: 0, modules: [{ base: 0x10000n, size: 0x3000, name: './meterd', codeId: null, debugId: null }] })
})

test('a build that the dump does not name is the one that the device claims', async () => {
  const { files: _, ...rest } = riscv(64)
  const asked: ModuleIdentity[] = []
  const source = { find: async (module: ModuleIdentity) => (asked.push(module), { status: 'missing' as const, reason: 'none' }) }
  const core = drawCore({ ...rest, memory: [{ address: 0x10000n, flags: 5, bytes: Buffer.alloc(0), size: 0x2000n }, ...rest.memory.slice(1)] })
  const { report } = await analyseNative(core, '', source, undefined, { buildId: BUILD.toString('hex') })
  expect(asked[0]).toMatchObject({ codeId: BUILD.toString('hex'), debugId: '33221100554477668899AABBCCDDEEFF0' })
  expect(report.notes).toContainEqual({ slug: 'build-claimed', text: expect.stringContaining(BUILD.toString('hex')) })
  await analyseNative(drawCore(riscv(64)), '', source, undefined, { buildId: 'feedface' })
  expect(asked.at(-1)).toMatchObject({ codeId: BUILD.toString('hex') })
})

test('a process that was sent its signal has no address that failed', () => {
  expect(dumpOf(drawCore(riscv(64, { siginfo: { signal: 6, code: -6, address: 70n } }))).exception).toMatchObject({ type: 'SIGABRT / SI_TKILL', address: null })
  const { siginfo: _, ...bare } = riscv(64)
  expect(dumpOf(drawCore(bare)).exception).toMatchObject({ type: 'SIGSEGV', code: 11, address: null })
  expect(dumpOf(drawCore(riscv(64, { siginfo: { signal: 11, code: 1, address: 0x10010n } }))).exception).toMatchObject({ access: 'execute' })
})

test('a core that was cut off is half a result, and one without threads is refused', async () => {
  const core = drawCore(riscv(64))
  const cut = dumpOf(core.subarray(0, core.length - 100))
  expect(cut.threads).toHaveLength(2)
  expect(cut.notes).toEqual([{ slug: 'memory-truncated', text: 'elf-core: the file ends 100 bytes before its last segment does' }])
  const analysis = await analyseNative(core.subarray(0, core.length - 100), '', { find: async () => ({ status: 'missing', reason: 'none' }) })
  expect(analysis.status).toBe('partial')
  expect(parseElfCore(core.subarray(0, 40))).toMatchObject({ slug: 'dump-truncated' })
  expect(parseElfCore(core.subarray(0, 300))).toMatchObject({ slug: 'dump-truncated' })
  expect(parseElfCore(drawCore(riscv(64, { threads: [] })))).toMatchObject({ slug: 'dump-malformed', reason: 'elf-core: no thread' })
  const program = Buffer.from(core)
  program.writeUInt16LE(2, 16)
  expect(parseElfCore(program)).toMatchObject({ slug: 'dump-malformed', reason: expect.stringContaining('a program or library, no core') })
  expect(parseElfCore(core, { bytes: 100, streams: 1, threads: 1, modules: 1, ranges: 1 })).toMatchObject({ slug: 'budget-exceeded' })
})

test('whatever changes in a core, parsing ends, stays inside and answers with a dump or a slug', () => {
  const cores = [drawCore(riscv(64)), drawCore(riscv(32))]
  fc.assert(fc.property(fc.constantFrom(...cores), fc.array(fc.tuple(fc.nat(1200), fc.integer({ min: 0, max: 255 })), { maxLength: 24 }), fc.nat(8000), (core, changes, cut) => {
    const bytes = Buffer.from(core)
    for (const [at, value] of changes) bytes[at % bytes.length] = value
    const parsed = parseElfCore(bytes.subarray(0, bytes.length - (cut % 3 === 0 ? cut % bytes.length : 0)))
    if (!('dump' in parsed)) expect(['dump-truncated', 'dump-malformed', 'budget-exceeded']).toContain(parsed.slug)
    else for (const { base, size } of parsed.dump.memory.ranges()) expect(parsed.dump.memory.bytes(base, size)?.length).toBe(size)
  }), { numRuns: 2000 })
})

test('any bytes are told apart without harm', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), fc.constantFrom('', '\x7fELF', 'ZE\x02\0', 'E: #CD:BEGIN#\n', 'Guru Meditation Error: '), (bytes, head) => {
    expect(sniff(Buffer.concat([Buffer.from(head, 'latin1'), bytes]), 'text/plain')).toEqual(expect.any(String))
  }), { numRuns: 500 })
})
