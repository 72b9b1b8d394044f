/**
 * Function, file, line and inlined calls of random addresses beside `addr2line -i -f` and `llvm-symbolizer`, in programs built
 * here (C, C++, Rust; -O0 to -O3, LTO; DWARF 4 and 5) and in the corpus' firmware.
 *
 * An address counts when it lies in a function (llvm-symbolizer names one that is no data; padding between functions does not).
 * It is equal when the whole chain is: each function, outermost last, with its file and line. Names are compared demangled by our own
 * demangler, without a clone's suffix (`.constprop.0`), aliases of one address (nm) being one name; a file only where there is
 * a line, since for code without lines the oracles print what STT_FILE symbols say. Required: at least 99.5 % equal to one of
 * the two, and at least 99.5 % of those addresses where the two agree.
 *
 * 500 addresses a program; 10,000 with OVERRUN_LONG=1.
 */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, posix, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, test } from 'vitest'
import { demangle } from '../../symbolicate/symbols/demangle.ts'
import { openElf } from '../../symbolicate/symbols/elf/elf.ts'
import { prepareElf } from '../../symbolicate/symbols/elf/prepare.ts'
import { preparedOf } from '../../symbolicate/symbols/prepared.ts'

const ADDRESSES = process.env.OVERRUN_LONG === '1' ? 10_000 : 500
const LEAST = 0.995
const PROGRAMS = join(import.meta.dirname, 'programs')
const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'))

const BUILDS: [compiler: string, ...arguments_: string[]][] = [
  ['gcc', '-gdwarf-5', '-O0', 'ledger.c'], ['gcc', '-gdwarf-4', '-O3', 'ledger.c'], ['gcc', '-gdwarf-5', '-O2', '-flto', 'ledger.c'],
  ['g++', '-gdwarf-5', '-O0', 'shapes.cc'], ['g++', '-gdwarf-4', '-O2', 'shapes.cc'], ['g++', '-gdwarf-5', '-O3', '-ffunction-sections', '-Wl,--gc-sections', 'shapes.cc'],
  ['g++', '-gdwarf-5', '-O2', '-flto', 'shapes.cc'],
  ['rustc', '-g', '-Copt-level=0', 'tokens.rs'], ['rustc', '-g', '-Copt-level=3', 'tokens.rs'], ['rustc', '-g', '-Copt-level=2', '-Clto=fat', 'tokens.rs'],
]
const FROM_CORPUS = ['elf-core/programs/sensord-nofp', 'elf-core/programs/sensord-arm64-static', 'elf-core/programs/sensord-thumb-static', 'mcu/cortex-m/fw-1-ssp.elf', 'mcu/esp-idf/esp32c3.elf', 'mcu/esp-idf/esp32.elf']

const has = (command: string): boolean => {
  try {
    execFileSync(command, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
const oracles = has('addr2line') && has('llvm-symbolizer') && has('nm')
const compilers = new Set(['gcc', 'g++', 'rustc'].filter(has))
test('compiler, oracles and corpus are there wherever CI runs', () => {
  expect((oracles && compilers.has('gcc') && existsSync(corpus)) || process.env.CI !== 'true', 'gcc, binutils, llvm, OVERRUN_CORPUS').toBe(true)
})

const folder = mkdtempSync(join(tmpdir(), 'overrun-dwarf-'))
const table: string[] = []
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
  console.log([`  equal to addr2line | to llvm-symbolizer | to one of them | where both agree (their share)  program, ${ADDRESSES} addresses`, ...table].join('\n'))
})

describe.skipIf(!oracles)('functions, files, lines and inlined calls of the oracles', () => {
  for (const [compiler, ...said] of BUILDS) {
    test.skipIf(!compilers.has(compiler))(`${compiler} ${said.join(' ')}`, async () => {
      const program = join(folder, `${compiler}${said.join('').replace(/[^\w]/g, '_')}`)
      await promisify(execFile)(compiler, [...said, '-o', program], { cwd: PROGRAMS })
      await compare(program, `${compiler} ${said.join(' ')}`)
    }, 180_000)
  }
  for (const program of FROM_CORPUS) {
    test.skipIf(!existsSync(corpus))(program, () => compare(join(corpus, program), basename(program)), 180_000)
  }
})

interface Place { function: string; file: string; line: number }

async function compare(path: string, name: string): Promise<void> {
  const bytes = readFileSync(path)
  const prepared = prepareElf({ name, bytes })
  if ('reason' in prepared) throw new Error(prepared.reason)
  expect(prepared.problems).toEqual([])
  const symbols = preparedOf(prepared.tables)
  const image = openElf(bytes)
  const code = image.find('.text') ?? image.find('.flash.text')!
  const addresses = randomAddresses(Number(code.address), code.size)
  const input = `${addresses.map((address) => `0x${address.toString(16)}`).join('\n')}\n`
  const [addr2line, llvm, { sameName, isData }] = [askAddr2line(path, input), askLlvm(path, input), readNames(path)]
  const line = (chain: Place[]): string => chain.map(({ function: text, file, line: number }) => `${sameName(text)} ${number === 0 ? '?' : `${file}:${number}`}`).join(' < ')
  const counted = { all: 0, addr2line: 0, llvm: 0, either: 0, agree: 0, both: 0 }
  const different: string[] = []
  for (const [index, address] of addresses.entries()) {
    const outermost = llvm[index]!.at(-1)!.function
    if (outermost === '??' || isData(outermost)) continue
    const hit = symbols.lookup(address - Number(image.space.base))
    const ours = line(hit === null ? [place('??', null, 0)] : [...hit.inlines, hit].map((frame) => place(frame.function, frame.file, frame.line ?? 0)))
    const [theirs, others] = [line(addr2line[index]!), line(llvm[index]!)]
    counted.all++
    if (ours === theirs) counted.addr2line++
    if (ours === others) counted.llvm++
    if (ours === theirs || ours === others) counted.either++
    else different.push(`0x${address.toString(16)}\n  ours      ${ours}\n  addr2line ${theirs}\n  llvm      ${others}`)
    if (theirs === others) counted.agree++
    if (theirs === others && ours === theirs) counted.both++
  }
  const percent = (count: number, of: number): string => `${(100 * count / of).toFixed(2).padStart(6)} %`
  table.push(`  ${percent(counted.addr2line, counted.all)} | ${percent(counted.llvm, counted.all)} | ${percent(counted.either, counted.all)} | ${percent(counted.both, counted.agree)} (${percent(counted.agree, counted.all)})  ${name}, ${counted.all} in functions`)
  expect(counted.either / counted.all, different.slice(0, 3).join('\n')).toBeGreaterThanOrEqual(LEAST)
  expect(counted.both / counted.agree, different.slice(0, 3).join('\n')).toBeGreaterThanOrEqual(LEAST)
}

/** The same in every run. */
function randomAddresses(start: number, size: number): number[] {
  let state = 0x2545f491
  return Array.from({ length: ADDRESSES }, () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return start + (state >>> 0) % size
  })
}

const place = (name: string, file: string | null, line: number): Place =>
  ({ function: name === '' ? '??' : demangle(name.replace(/[.$](?:constprop|isra|part|cold|lto_priv|llvm)\b.*$/, '')), file: file === null ? '??' : posix.normalize(file), line })

/** `-a` prints each address before its places: name and place, two lines each. */
function askAddr2line(path: string, input: string): Place[][] {
  const lines = execFileSync('addr2line', ['-a', '-i', '-f', '-e', path], { input, maxBuffer: 2 ** 28, stdio: ['pipe', 'pipe', 'ignore'] }).toString().split('\n')
  const chains: Place[][] = []
  for (let at = 0; at + 1 < lines.length; at++) {
    if (lines[at]!.startsWith('0x')) chains.push([])
    else {
      const [, file = '??', line = '0'] = /^(.*):(\d+|\?)(?: \(discriminator \d+\))?$/.exec(lines[at + 1]!) ?? []
      chains.at(-1)!.push(place(lines[at++]!, file, Number(line) || 0))
    }
  }
  return chains
}

function askLlvm(path: string, input: string): Place[][] {
  const answer = execFileSync('llvm-symbolizer', [`--obj=${path}`, '--output-style=JSON', '--no-demangle'], { input, maxBuffer: 2 ** 28, stdio: ['pipe', 'pipe', 'ignore'] }).toString()
  return answer.trim().split('\n').map((line) => (JSON.parse(line) as { Symbol: { FunctionName: string; FileName: string; Line: number }[] }).Symbol.map(({ FunctionName, FileName, Line }) => place(FunctionName, FileName, Line)))
}

/** Several names of one address are one; ARM's `$d` and objects are data, wherever they lie. */
function readNames(path: string): { sameName(name: string): string; isData(name: string): boolean } {
  const first = new Map<string, string>()
  const same = new Map<string, string>()
  const data = new Set<string>()
  // name | value | class | type | size | line | section
  for (const line of execFileSync('nm', ['--format=sysv', path], { maxBuffer: 2 ** 28 }).toString().split('\n')) {
    const [mangled, address, , type] = line.split('|').map((cell) => cell.trim())
    if (!mangled || !address || type === undefined) continue
    const { function: name } = place(mangled, null, 0)
    if (type === 'OBJECT') data.add(name)
    // FUNC, NOTYPE, and the indirect functions that it has no word for.
    if (type === 'OBJECT' || type === 'TLS' || mangled.startsWith('$')) continue
    if (!first.has(address)) first.set(address, name)
    if (!same.has(name)) same.set(name, first.get(address)!)
  }
  return { sameName: (name) => same.get(name) ?? name, isData: (name) => data.has(name) || /^\$d(?:\.|$)/.test(name) }
}
