/**
 * Our unwind rules beside those that `readelf --debug-dump=frames-interp` works out of the same .eh_frame and .debug_frame: at
 * every place where rules change, the CFA, the return address and each register, over programs of five processors.
 * `exp` and `vexp` (expressions) are only compared as such: readelf prints no more of them there.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openElf } from '../../symbolicate/symbols/elf/elf.ts'
import { prepareElf } from '../../symbolicate/symbols/elf/prepare.ts'
import { preparedOf } from '../../symbolicate/symbols/prepared.ts'

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'))
const PROGRAMS = [
  'elf-core/programs/sensord', 'elf-core/programs/sensord-nofp', 'elf-core/programs/sensord-arm64-static', 'elf-core/programs/sensord-armhf-static',
  'elf-core/programs/sensord-thumb-static', 'mcu/cortex-m/fw-1-ssp.elf', 'mcu/esp-idf/esp32c3.elf',
]
const here = existsSync(corpus)
const hasReadelf = ((): boolean => {
  try {
    execFileSync('readelf', ['--version'])
    return true
  } catch {
    return false
  }
})()

test('readelf and the corpus are there wherever CI runs', () => {
  expect((here && hasReadelf) || process.env.CI !== 'true', `${corpus}, and binutils`).toBe(true)
})

describe.skipIf(!here || !hasReadelf)('rules of readelf', () => {
  test.each(PROGRAMS)('%s', (program) => {
    const path = join(corpus, program)
    const bytes = readFileSync(path)
    const prepared = prepareElf({ name: program, bytes })
    if ('reason' in prepared) throw new Error(prepared.reason)
    const symbols = preparedOf(prepared.tables)
    const base = Number(openElf(bytes).space.base)
    const rows = readelfRows(path)
    const differences: string[] = []
    for (const { at, rules } of rows) {
      const ours = symbols.cfi(at - base)
      for (const [register, theirs] of Object.entries(rules)) {
        if (VECTOR.test(register) && prepared.arch !== 'riscv32') continue
        const text = shorten(register, ours?.get(register === 'CFA' ? '.cfa' : register === 'ra' ? '.ra' : (ours.has(`$${register}`) ? `$${register}` : register)))
        if (!equal(text, theirs)) differences.push(`${at.toString(16)} ${register}: ours ${text}, theirs ${theirs}`)
      }
    }
    console.log(`${rows.length} rows, ${differences.length} differences  ${program}`)
    expect(rows.length).toBeGreaterThan(10)
    expect(differences.slice(0, 5)).toEqual([])
  })
})

/** Ours in readelf's notation. */
function shorten(register: string, rule: string | undefined): string {
  if (rule === undefined || rule === register || rule === `$${register}`) return 'u'
  const offset = /^\.cfa (-?\d+) \+ \^$/.exec(rule)
  if (offset) return `c${Number(offset[1]) < 0 ? '' : '+'}${offset[1]}`
  const sum = /^\$?(\w+) (-?\d+) \+$/.exec(rule)
  if (sum) return `${sum[1]}${Number(sum[2]) < 0 ? '' : '+'}${sum[2]}`
  return rule === '.undef' ? 'undef' : rule
}

function equal(ours: string, theirs: string): boolean {
  if (theirs === 'exp' || theirs === 'vexp') return ours.includes(' ')
  // Not told apart there: undefined, unchanged, and the return address in its register.
  if (theirs === 'u' || theirs === 's') return ours === 'u' || ours === 'undef' || /^\$?(?:lr|x30|ra)$/.test(ours)
  return ours === theirs
}

/** Registers that no unwinding needs: ARM64's v0 to v31, ARM's d0 to d31. */
const VECTOR = /^[vd]\d+$/

interface Row { at: number; rules: Record<string, string> }

/** The last row of an address counts; those of functions that were dropped, and of CIEs, are left out. */
function readelfRows(path: string): Row[] {
  const listing = execFileSync('readelf', ['--wide', '--debug-dump=frames-interp', path], { maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', 'ignore'] }).toString()
  const rows = new Map<number, Row>()
  let columns: string[] = []
  let end = 0
  for (const line of listing.split('\n')) {
    const fde = / FDE cie=\S+ pc=([0-9a-f]+)\.\.([0-9a-f]+)/.exec(line)
    if (fde) end = Number.parseInt(fde[1]!, 16) === 0 ? 0 : Number.parseInt(fde[2]!, 16)
    else if (/ CIE /.test(line)) end = 0
    else if (/^\s+LOC\s/.test(line)) columns = line.trim().split(/\s+/).slice(1)
    else if (/^[0-9a-f]{8,16} \S+[+-]\d|^[0-9a-f]{8,16} exp/.test(line)) {
      const [location, ...values] = line.replace(/\br13\b/g, 'sp').trim().split(/\s+/)
      const at = Number.parseInt(location!, 16)
      if (at < end) rows.set(at, { at, rules: Object.fromEntries(columns.map((name, index) => [name.replace(/^r(\d+)\(.*\)$/, 'r$1'), values[index] ?? 'u'])) })
    }
  }
  return [...rows.values()]
}
