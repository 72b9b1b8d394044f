/**
 * Breakpad's microdumps: drawn ones, and the real ones of the corpus against what Google's own walker prints for them
 * (processor-testdata/microdump.stackwalk*.out; for MIPS the functions are those of its unit test).
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseMicrodump } from '../../../symbolicate/formats/microdump.ts'
import { sniff } from '../../../symbolicate/formats/sniff.ts'
import { analyseNative } from '../../../symbolicate/native.ts'
import { parseBreakpadSym } from '../../../symbolicate/symbols/breakpad-sym.ts'
import type { SymbolSource } from '../../../symbolicate/symbols/source.ts'

const little = (value: number): string => Buffer.from(Uint32Array.of(value).buffer).toString('hex').toUpperCase()
/** ARM: flags, r0 to r15, cpsr. */
const armContext = (sp: number, pc: number): string => [0x40000006, ...Array.from({ length: 13 }, (_, number) => number), sp, 0x5000, pc, 0x10].map(little).join('')
const DRAWN = [
  '-----BEGIN BREAKPAD MICRODUMP-----', 'V gateway:1.2.3', 'O L arm 02 armv7l Linux 5.15.0', 'P daemon', 'R 0000000B SIGSEGV 00000010', 'G ', 'H 12C00000 FFF73000',
  'S 0 00008008 00008000 00000010', 'S 00008000 0102030405060708', 'S 00008008 1112131415161718', `C ${armContext(0x8008, 0x5004)}`,
  'M 00005000 00000000 00001000 0102030405060708090A0B0C0D0E0F100 sensord', '-----END BREAKPAD MICRODUMP-----',
]
const logcat = (lines: string[]): Buffer => Buffer.from(lines.flatMap((line) => ['08-17 19:45:06.579 I/other( 12): M 00005000 noise', `08-17 19:45:06.579 F/google-breakpad(25655): ${line}`]).join('\r\n'))

test.each([['with the log\'s prefixes', logcat(DRAWN)], ['alone', Buffer.from(DRAWN.join('\n'))]])('a microdump %s is read as a dump', (_, bytes) => {
  expect(sniff(bytes, 'text/plain')).toBe('microdump')
  const { dump } = parseMicrodump(bytes) as { dump: Record<string, unknown> & ReturnType<typeof Object> }
  expect(dump).toMatchObject({
    format: 'microdump', os: 'linux', osVersion: 'Linux 5.15.0', cpu: 'arm', crashingThread: 0, mainModule: 0, notes: [],
    exception: { type: 'SIGSEGV', code: 11, address: 0x10n }, annotations: { version: 'gateway:1.2.3', 'process-type': 'daemon' },
    modules: [{ base: 0x5000n, size: 0x1000, name: 'sensord', debugFile: 'sensord', debugId: '0102030405060708090A0B0C0D0E0F100' }],
    threads: [{ stack: { base: 0x8000n, size: 16 } }],
  })
  expect(dump.threads[0].registers.get('sp')).toBe(0x8008n)
  expect(dump.threads[0].registers.get('r12')).toBe(12n)
  // A word across the ends of two lines.
  expect(dump.memory.u32(0x8006n)).toBe(0x12110807)
})

test('what is cut off is partial or refused, with the reason', () => {
  const cut = parseMicrodump(Buffer.from(DRAWN.slice(0, 11).join('\n')))
  expect('dump' in cut && cut.dump.notes.map(({ slug }) => slug)).toEqual(['stream-truncated'])
  expect(parseMicrodump(Buffer.from(DRAWN.slice(0, 9).join('\n')))).toMatchObject({ slug: 'dump-truncated' })
  expect(parseMicrodump(Buffer.from(DRAWN.filter((line) => !line.startsWith('C ')).join('\n')))).toMatchObject({ slug: 'dump-malformed' })
  expect(parseMicrodump(Buffer.from('all is well\n'))).toMatchObject({ slug: 'dump-malformed' })
  expect(parseMicrodump(new Uint8Array())).toMatchObject({ slug: 'dump-empty' })
  const short = parseMicrodump(Buffer.from(DRAWN.filter((line) => !line.startsWith('S 00008008')).join('\n')))
  expect('dump' in short && short.dump.notes.map(({ slug }) => slug)).toEqual(['memory-truncated'])
  const broken = parseMicrodump(Buffer.from(DRAWN.map((line) => line.replace('M 00005000', 'M zzz')).join('\n')))
  expect('dump' in broken && broken.dump.notes.map(({ slug }) => slug)).toEqual(['stream-malformed'])
})

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../../shared/corpus'), 'minidump/breakpad')
const here = existsSync(corpus)
test('the corpus is there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${corpus} is missing: set OVERRUN_CORPUS`).toBe(true))

describe.skipIf(!here)(`microdumps of ${corpus}${here ? '' : ' (absent)'}`, () => {
  test.each(['arm', 'arm64'])('%s: system, modules and frames are those of Google\'s walker', async (cpu) => {
    const { status, report } = await analyse(`microdump-${cpu}.dmp`)
    const rows = readFileSync(join(corpus, `processor-testdata/microdump.stackwalk.machine_readable-${cpu}.out`), 'utf8').split('\n').map((line) => line.split('|'))
    expect(status).toBe('ok')
    expect(rows.find(([kind]) => kind === 'OS')).toEqual(['OS', 'Android', report.system_info.os_ver])
    expect(report.modules.map(({ filename, debug_id: id, base_addr: base }) => [filename, id, BigInt(base)])).toEqual(rows.filter(([kind]) => kind === 'Module').map((row) => [row[1], row[4], BigInt(row[5]!)]))
    const theirs = rows.filter((row) => row.length === 7).map(([, , module, name, file, line, offset]) => ({ module, function: name || null, file: file || null, line: line ? Number(line) : null, ...(name ? {} : { at: Number(offset) }) }))
    const ours = report.crashing_thread!.frames.map(({ module, function: name, file, line, module_offset: offset }) => ({ module, function: name, file, line, ...(name ? {} : { at: Number(offset) }) }))
    // On ARM64 ours goes on along the stored frame records, into _start and the loader that is no module of the dump.
    expect(ours.slice(0, theirs.length)).toEqual(theirs)
    expect(ours.length - theirs.length).toBe(cpu === 'arm64' ? 2 : 0)
  })

  test.each(['mips32', 'mips64'])('%s: the frames of crash_example', async (cpu) => {
    const { status, report } = await analyse(`microdump-${cpu}.dmp`)
    expect(status).toBe('ok')
    expect(report.crashing_thread!.frames.slice(0, 3).map((frame) => frame.function)).toEqual(['blaTest', 'Crash', 'main'])
    expect(report.crashing_thread!.frames.every((frame) => frame.module !== null)).toBe(true)
  })

  test('a newer client says why, and for which version', async () => {
    const { status, report } = await analyse('microdump-withcrashreason.dmp')
    expect(status).toBe('ok')
    expect(report).toMatchObject({ crash_info: { type: 'SIGTRAP', address: '0x4a7cb000', crashing_thread: 0 }, annotations: { version: 'AndroidWebView:62.0.3188.0', 'process-type': 'webview' } })
    expect(report.crashing_thread!.frames[0]!.module).not.toBeNull()
  })

  async function analyse(file: string) {
    return analyseNative(readFileSync(join(corpus, file)), 'text/plain', source)
  }

  const source: SymbolSource = {
    async find({ debugFile, debugId }) {
      const folder = join(corpus, 'processor-testdata/symbols/microdump', debugFile ?? '', debugId ?? '')
      const file = existsSync(folder) ? readdirSync(folder).find((name) => name.endsWith('.sym')) : undefined
      if (file === undefined) return { status: 'missing', reason: 'no symbols' }
      const parsed = parseBreakpadSym(readFileSync(join(folder, file)))
      return 'slug' in parsed ? { status: 'corrupt', reason: parsed.reason } : { status: 'found', symbols: parsed }
    },
  }
})
