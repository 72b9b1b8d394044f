/**
 * ESP-IDF coredumps beside what Espressif's own esp-coredump (with gdb) printed for them: every task's backtrace, with inlined
 * calls, files and lines. What differs by intent: gdb lists garbage behind a task's first function, where we stop; and the
 * chip's ROM has names in a file of Espressif's that is not in the corpus, so of its frames the address is compared.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Report, ReportFrame } from '../../symbolicate/contract.ts'
import { analyseNative } from '../../symbolicate/native.ts'
import { elfSymbols } from './elf-symbols.ts'

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'), 'mcu/esp-idf')
const here = existsSync(corpus)
test('the corpus is there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${corpus} is missing: set OVERRUN_CORPUS`).toBe(true))

interface Shown { function: string; place: string | null; rom: string | null }

const CASES = [
  { chip: 'esp32', dump: 'coredump', expected: 'expected_output', elf: 'esp32.elf', callSize: 3, rom: 0x4007_0000 },
  { chip: 'esp32', dump: 'coredump_bin', expected: 'expected_output_bin', elf: 'esp32_bin.elf', callSize: 3, rom: 0x4007_0000 },
  { chip: 'esp32c3', dump: 'coredump', expected: 'expected_output', elf: 'esp32c3.elf', callSize: 2, rom: 0x4006_0000 },
  { chip: 'esp32c3', dump: 'coredump_bin', expected: 'expected_output_bin', elf: 'esp32c3_bin.elf', callSize: 2, rom: 0x4006_0000 },
]

describe.skipIf(!here)(`backtraces of esp-coredump in ${corpus}${here ? '' : ' (absent)'}`, () => {
  test.each(CASES)('$chip $dump: every task, function for function, file for file, line for line', async ({ chip, dump, expected, elf, callSize, rom }) => {
    const { report } = await analyseNative(readFileSync(join(corpus, chip, `${dump}.b64`)), '', elfSymbols([join(corpus, elf)], { only: dump.endsWith('bin') }))
    const theirs = tasksOf(readFileSync(join(corpus, chip, expected), 'utf8'), rom)
    const ours = new Map(report.threads.map((thread) => [`0x${thread.thread_id.toString(16)} ${thread.thread_name}`, shownOf(thread.frames, callSize, rom)]))
    expect(ours).toEqual(theirs)
    const crashed = /Crashed task handle: (0x[0-9a-f]+), name: '(.*?)'/.exec(readFileSync(join(corpus, chip, expected), 'utf8'))!
    expect(report.crashing_thread).toMatchObject({ thread_id: Number(crashed[1]), thread_name: crashed[2] })
    const frames = [...theirs.values()].flat()
    process.stdout.write(`${chip} ${dump}: ${theirs.size} tasks, ${frames.length} frames equal, ${frames.filter((frame) => frame.rom !== null).length} of them in ROM, by address\n`)
  })

  test.each(CASES)('$chip $dump: the image in flash, and for those that hold one the bare ELF core, say the same as base64', async ({ chip, dump, elf }) => {
    const encoded = readFileSync(join(corpus, chip, `${dump}.b64`))
    const image = Buffer.concat(encoded.toString('latin1').split('\n').map((line) => Buffer.from(line, 'base64')))
    const symbols = elfSymbols([join(corpus, elf)], { only: dump.endsWith('bin') })
    const read = async (bytes: Uint8Array): Promise<Report> => (await analyseNative(bytes, '', symbols)).report
    const first = await read(encoded)
    expect(await read(image)).toEqual(first)
    expect((await read(Buffer.concat([image, Buffer.alloc(512, 0xff)]))).notes).toEqual([])
    if (image.readUInt8(5) === 0) return
    expect((await read(image.subarray(24, image.length - 4))).threads).toEqual(first.threads)
  })

  test('a digest that names another firmware finds no symbols, and one that was shortened finds its own', async () => {
    const symbols = elfSymbols([join(corpus, 'esp32c3.elf'), join(corpus, 'esp32c3_bin.elf')])
    const { report } = await analyseNative(readFileSync(join(corpus, 'esp32c3/coredump_bin.b64')), '', symbols)
    expect(report.modules.find(({ filename, symbol_status: status }) => filename === 'firmware' && status !== 'not-asked')).toMatchObject({ symbol_status: 'found', elf_sha256: '8b4b908f2' })
    expect(report.crashing_thread!.frames[0]).toMatchObject({ function: 'panic_abort', line: 468 })
    const other = await analyseNative(readFileSync(join(corpus, 'esp32/coredump.b64')), '', symbols)
    expect(other.report.crashing_thread!.frames[0]).toMatchObject({ function: null, missing_symbols: true })
  })
})

/** gdb's frames: an inlined call is a frame of its own. */
function tasksOf(output: string, rom: number): Map<string, Shown[]> {
  const tasks = new Map<string, Shown[]>()
  for (const section of output.split(/^=+ THREAD \d+ /m).slice(1)) {
    const [, tcb, name] = /^\(TCB: (0x[0-9a-f]+), name: '(.*?)'\)/.exec(section)!
    const lines = section.split(/^=+ ALL MEMORY/m)[0]!.split('\n')
    const frames = lines.flatMap((line): Shown[] => {
      const [, address, called] = /^#\d+ +(?:0x([0-9a-f]+) in )?(\S+) \(/.exec(line) ?? []
      if (called === undefined) return []
      const inRom = address !== undefined && Number.parseInt(address, 16) >= 0x4000_0000 && Number.parseInt(address, 16) < rom
      return [{ function: inRom ? '' : called, place: / at (\S+:\d+)$/.exec(line)?.[1] ?? null, rom: inRom ? address : null }]
    })
    const entry = frames.findIndex((frame) => frame.function === 'vPortTaskWrapper')
    tasks.set(`${tcb} ${name}`, entry < 0 ? frames : frames.slice(0, entry + 1))
  }
  return tasks
}

function shownOf(frames: readonly ReportFrame[], callSize: number, rom: number): Shown[] {
  return frames.flatMap((frame, index): Shown[] => {
    const address = Number(frame.offset)
    const shown = address >= 0x4000_0000 && address < rom ? (address + (index === 0 ? 0 : callSize)).toString(16).padStart(8, '0') : null
    const place = ({ file, line }: { file: string | null; line: number | null }): string | null => (file === null ? null : `${file}:${line}`)
    return [...(frame.inlines ?? []).map((inline) => ({ function: inline.function, place: place(inline), rom: null })), { function: shown === null ? (frame.function ?? '??') : '', place: place(frame), rom: shown }]
  })
}
