/**
 * Cortex-M crashes beside gdb: the stacks that gdb gave on QEMU at the moment of each fault, function for function, file and
 * line, from nothing but the serial log. And what each fault means, for all eight.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyse } from '../../symbolicate/analyse.ts'
import { elfSymbols } from './elf-symbols.ts'

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'), 'mcu/cortex-m')
const here = existsSync(corpus)
test('the corpus is there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${corpus} is missing: set OVERRUN_CORPUS`).toBe(true))

const MAPS = { find: async () => null }
const explain = (name: string) => analyse(
  { bytes: readFileSync(join(corpus, `${name}.log`)), contentType: 'application/x-zephyr-coredump', claims: {}, annotations: {} },
  { symbols: elfSymbols([join(corpus, `${name}.elf`)]), maps: MAPS },
)

/** fw.c: 1 smashes the return address, 2 overwrites a function pointer, 3 reads where nothing is, 4 divides by zero. */
const MEANS: Record<string, { type: string; kind: string; class: number; access?: string }> = {
  'fw-1-ssp': { type: 'UsageFault / UNDEFINSTR', kind: 'stack-guard', class: 3 },
  'fw-1-nossp': { type: 'MemManage / IACCVIOL', kind: 'control-flow', class: 4, access: 'execute' },
  'fw-2-ssp': { type: 'MemManage / IACCVIOL', kind: 'control-flow', class: 4, access: 'execute' },
  'fw-2-nossp': { type: 'MemManage / IACCVIOL', kind: 'control-flow', class: 4, access: 'execute' },
  'fw-3-ssp': { type: 'BusFault / PRECISERR', kind: 'wild-read', class: 2, access: 'read' },
  'fw-3-nossp': { type: 'BusFault / PRECISERR', kind: 'wild-read', class: 2, access: 'read' },
  'fw-4-ssp': { type: 'UsageFault / DIVBYZERO', kind: 'divide-by-zero', class: 1 },
  'fw-4-nossp': { type: 'UsageFault / DIVBYZERO', kind: 'divide-by-zero', class: 1 },
}

describe.skipIf(!here)(`firmware of ${corpus}${here ? '' : ' (absent)'}`, () => {
  const backtraces = here ? readdirSync(corpus).filter((file) => file.endsWith('.gdb-bt.txt')).map((file) => file.replace(/\.gdb-bt\.txt$/, '')) : []

  test('gdb was asked five times', () => expect(backtraces).toHaveLength(5))

  test.each(backtraces)('%s: the stack is gdb\'s', async (name) => {
    const { report, status } = await explain(name)
    expect(status).toBe('ok')
    const theirs = readFileSync(join(corpus, `${name}.gdb-bt.txt`), 'utf8').trim().split('\n').map((line) => {
      const [, address, called, place] = /^#\d+ +(?:0x([0-9a-f]+) in )?(\S+) \(.*?\)(?: at (\S+))?$/.exec(line)!
      return { called, place: place ?? null, address: called === '??' ? Number.parseInt(address!, 16) : null }
    })
    const ours = report.crashing_thread!.frames.map(({ function: called, file, line, offset }, index) => ({
      called: called ?? '??', place: file === null ? null : `${file.split('/').at(-1)}:${line}`, address: called === null ? (Number(offset) + (index === 0 ? 0 : 2)) & ~1 : null,
    }))
    // gdb stops at main.
    const main = ours.findIndex(({ called }) => called === 'main')
    expect(ours.slice(0, main < 0 ? undefined : main + 1)).toEqual(theirs)
    process.stdout.write(`${name}: ${theirs.length} frames equal gdb's\n`)
  })

  test.each(Object.entries(MEANS))('%s is understood', async (name, { type, kind, class: level, access }) => {
    const analysis = await explain(name)
    expect(analysis).toMatchObject({ kind, evidence: { class: level }, report: { crash_info: { type }, system_info: { cpu_arch: 'arm', os: 'zephyr' } }, ...(access === undefined ? {} : { access }) })
    expect(analysis.report.annotations).toMatchObject({ cfsr: expect.stringMatching(/^0x[0-9a-f]{8} \(.+\)$/), exc_return: expect.stringContaining('from thread mode, main stack, basic frame') })
    expect(analysis.signature.frames.length).toBeGreaterThan(0)
  })
})
