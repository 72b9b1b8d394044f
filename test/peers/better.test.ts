/**
 * Where this engine promises more than the two reference unwinders: on the corpus' real dumps, measured against what both
 * say of the same bytes. The callers of wild jumps stand in minidump-differences.ts, with gdb as the judge.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyse } from '../../symbolicate/analyse.ts'
import type { Analysis } from '../../symbolicate/contract.ts'
import { isEntry } from '../../symbolicate/unwind/entry.ts'
import { drawMinidump, drawWords } from '../synth/minidump.ts'
import { createSource } from './breakpad-store.ts'

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'), 'minidump')
const here = existsSync(corpus)
test('the corpus is there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${corpus} is missing: set OVERRUN_CORPUS`).toBe(true))

interface Theirs { crash_info: { address: string; memory_accesses: { address: string; access_type: string }[] | null }; threads: { frames: { function: string | null }[] }[] }

describe.skipIf(!here)(`dumps of ${corpus}${here ? '' : ' (absent)'}`, () => {
  const symbols = createSource(corpus, ['symbols'])
  const own = here ? readdirSync(join(corpus, 'crashpad-x64')).filter((file) => file.endsWith('.dmp')) : []
  const read = (bytes: Uint8Array): Promise<Analysis> => analyse({ bytes, contentType: 'application/x-minidump', claims: {}, annotations: {} }, { symbols, maps: { find: async () => null } })
  const ours = (file: string): Promise<Analysis> => read(readFileSync(join(corpus, file)))
  const theirs = (dump: string): Theirs => JSON.parse(readFileSync(join(corpus, `oracle/rust-minidump/${dump}.json`), 'utf8')) as Theirs

  test('no stack goes on behind the entry of the program; the peers invent frames there', async () => {
    let invented = 0
    for (const file of own.filter((name) => !name.includes('stack-exhaust'))) {
      const { report } = await ours(`crashpad-x64/${file}`)
      for (const { frames } of report.threads) expect(frames.findIndex(({ function: name, approximate }) => name !== null && !approximate && isEntry(name)), file).toBeOneOf([-1, frames.length - 1])
      for (const { frames } of theirs(`own-crashpad-x64__${file}`).threads) {
        const entry = frames.findIndex(({ function: name }) => name !== null && isEntry(name))
        if (entry >= 0) invented += frames.length - 1 - entry
      }
    }
    console.log(`frames behind _start in 20 dumps: ours 0, rust-minidump's ${invented}`)
    expect(invented).toBeGreaterThan(20)
  })

  test('8 MB of recursion are a few rows, and say how deep it went', async () => {
    const { kind, report, signature } = await ours('crashpad-x64/sensord.stack-exhaust.dmp')
    const { frames, frame_count: count, frames_omitted: omitted } = report.crashing_thread!
    console.log(`stack-exhaust: ${count} frames in ${frames.length} rows`)
    expect(kind).toBe('stack-exhaustion')
    expect(count).toBeGreaterThan(15_000)
    expect(frames.length).toBeLessThan(10)
    expect(frames.length + omitted).toBe(count)
    expect(frames.find(({ function: name, repeats }) => name === 'recurse' && repeats !== undefined)?.repeats).toBeGreaterThan(15_000)
    expect(signature.text).toContain('recurse')
  })

  test('a name that is only the nearest exported one is shown as such, and in no signature', async () => {
    const approximate = new Set<string>()
    for (const file of own) {
      const { report, signature } = await ours(`crashpad-x64/${file}`)
      for (const { frames } of report.threads) for (const frame of frames) if (frame.approximate) approximate.add(frame.function!)
      for (const name of approximate) expect(signature.text.split(' | '), file).not.toContain(name)
    }
    // What the peers call these frames of abort, start_thread and clone3.
    expect([...approximate]).toEqual(expect.arrayContaining(['pthread_key_delete', 'pthread_condattr_setpshared', '__xmknodat']))
  })

  test('the address that the processor doesn\'t say is the operand of the instruction', async () => {
    const { report, evidence, access } = await ours('breakpad/write_av_non_canonical.dmp')
    const peer = theirs('breakpad__processor-testdata__write_av_non_canonical.dmp').crash_info
    expect(report.crash_info).toMatchObject({ address: peer.address, adjusted_address: { kind: 'non-canonical', address: peer.memory_accesses![0]!.address } })
    expect(report.crash_info.adjusted_address?.address).toBe('0xfefefefefefefefe')
    // The system says that it read.
    expect([evidence.addressClass, access, peer.memory_accesses![0]!.access_type]).toEqual(['non-canonical', 'write', 'write'])
  })

  test('so it is on Linux, where the signal says 0 of the kernel\'s', async () => {
    // mov rax, [rbx + rcx*8 + 0x10]
    const bytes = drawMinidump({
      threads: [{ id: 1, registers: { rip: 0x401000n, rsp: 0x7000n, rbx: 0x4141_4141_4141_4141n, rcx: 2n }, stack: { base: 0x7000n, bytes: drawWords([0, 0]) } }],
      modules: [{ base: 0x400000n, size: 0x2000, name: '/usr/bin/sensord' }], memory: [{ base: 0x401000n, bytes: Uint8Array.of(0x48, 0x8b, 0x44, 0xcb, 0x10, 0x90, 0x90) }],
      exception: { thread: 1, code: 11, flags: 0x80, address: 0n },
    })
    const { report, evidence } = await read(bytes)
    expect(report.crash_info).toMatchObject({ type: 'SIGSEGV / SI_KERNEL', address: '0x0000000000000000', adjusted_address: { kind: 'non-canonical', address: '0x4141414141414161' } })
    expect(evidence.faultAddress).toBe(0x4141_4141_4141_4161n)
  })

  test('an address that the dump does say is never adjusted', async () => {
    for (const file of own) expect((await ours(`crashpad-x64/${file}`)).report.crash_info.adjusted_address, file).toBeUndefined()
  })
})
