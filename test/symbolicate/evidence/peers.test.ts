import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyse } from '../../../symbolicate/analyse.ts'
import { parseBreakpadSym } from '../../../symbolicate/symbols/breakpad-sym.ts'
import type { ModuleSymbols, SymbolSource } from '../../../symbolicate/symbols/source.ts'

// Two peers judge the same dumps: CASR 2.13.1 (from gdb on the live process) and Breakpad's exploitability engine.
const corpus = process.env.OVERRUN_CORPUS ?? join(import.meta.dirname, '../../../../shared/corpus')
const present = existsSync(join(corpus, 'severity'))
const suite = describe.skipIf(!present && process.env.CI !== 'true')
const missing = present ? '' : ' (skipped: no corpus)'

/** CASR saw the live process; each difference has its reason. */
const CASR_DIFFERENCES: Readonly<Record<string, string>> = {
  'heap-overflow': 'CASR sees an abort; the allocator under it is what ended the program, because it found its heap damaged',
  'null-write': 'the dump holds no code bytes, so that the access wrote is not known, and is not guessed',
  'stack-exhaust': 'CASR sees a write outside of memory; the address is next to the stack pointer and the recursion is on the stack',
}

suite(`severity beside CASR${missing}`, () => {
  test('the groups agree but for known reasons', async () => {
    const folder = join(corpus, 'minidump/crashpad-x64')
    const differences = new Map<string, string>()
    const files = readdirSync(folder).filter((name) => name.endsWith('.dmp'))
    for (const file of files) {
      const { evidence } = await judge(join(folder, file))
      const casr = JSON.parse(readFileSync(join(corpus, 'severity/casr', file.replace('.dmp', '.casrep')), 'utf8')) as { CrashSeverity: { Type: string } }
      const theirs = casr.CrashSeverity.Type.toLowerCase().replaceAll('_', '-')
      if (theirs !== evidence.severity) differences.set(file, `CASR ${theirs}, ours ${evidence.severity} (${evidence.for[0]?.slug})`)
    }
    console.log(`severity as CASR: ${files.length - differences.size} of ${files.length}`)
    for (const [file, what] of differences) {
      const reason = CASR_DIFFERENCES[file.split('.')[1]!]
      console.log(`  differs: ${file}: ${what}: ${reason}`)
      expect(reason, `${file}: ${what}`).toBeDefined()
    }
    expect(files.length).toBeGreaterThan(15)
  })
})

/** Breakpad counts what the process could do (HIGH for an executable stack anywhere); we count what this crash did. */
const BREAKPAD_DIFFERENCES: Readonly<Record<string, string>> = {
  'linux_executable_heap.dmp': 'a null dereference in a process with an executable heap: noted beside it, it decides nothing',
  'linux_executable_stack.dmp': 'a null dereference in a process with an executable stack: noted beside it, it decides nothing',
  'linux_stack_pointer_in_module.dmp': 'a null dereference; that the stack pointer lies in a module is no rule of ours: coroutines and small systems keep stacks there',
  'linux_jmp_to_0.dmp': 'a call of a null function pointer: probably exploitable, as CASR has it',
  'linux_overflow.dmp': 'its C library has no symbols here: the function that found the overflow has no name',
  'linux_null_read_av.dmp': 'a read through a null pointer: not exploitable, as CASR has it',
}
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  EXPLOITABILITY_HIGH: ['exploitable', 'probably-exploitable'], EXPLOITABILITY_INTERESTING: ['probably-exploitable'], EXPLOITABILITY_LOW: ['not-exploitable'], EXPLOITABILITY_NONE: ['not-exploitable'],
}

suite(`severity beside Breakpad${missing}`, () => {
  test('the groups agree but for known reasons', async () => {
    const expected = JSON.parse(readFileSync(join(corpus, 'severity/breakpad-exploitability.json'), 'utf8')) as Record<string, string>
    const paths = dumpsUnder(join(corpus, 'minidump/breakpad')).filter((path) => path.split('/').at(-1)! in expected)
    let agreed = 0
    for (const path of paths) {
      const file = path.split('/').at(-1)!
      const { evidence } = await judge(path)
      const theirs = expected[file]!
      const same = GROUPS[theirs]!.includes(evidence.severity) && !(file in BREAKPAD_DIFFERENCES)
      if (same) { agreed++; continue }
      console.log(`  differs: ${file}: Breakpad ${theirs}, ours ${evidence.severity} (${evidence.for[0]?.slug}): ${BREAKPAD_DIFFERENCES[file]}`)
      expect(BREAKPAD_DIFFERENCES[file], `${file}: Breakpad ${theirs}, ours ${evidence.severity}`).toBeDefined()
    }
    console.log(`severity as Breakpad: ${agreed} of ${paths.length}`)
    expect(paths.length).toBeGreaterThan(15)
  })
})

const judge = (path: string) => analyse({ bytes: readFileSync(path), contentType: 'application/x-minidump', claims: {}, annotations: {} }, { symbols, maps: { find: async () => null } })

const known = new Map<string, ModuleSymbols>()
const symbols: SymbolSource = {
  async find({ debugFile, debugId }) {
    const name = debugFile?.split(/[\\/]/).at(-1)
    if (name === undefined || debugId === null) return { status: 'no-id', reason: 'no id' }
    const path = join(corpus, 'minidump/symbols', name, debugId, `${name}.sym`)
    if (!existsSync(path)) return { status: 'missing', reason: 'not in the store' }
    const parsed = known.get(path) ?? parseBreakpadSym(readFileSync(path))
    if ('slug' in parsed) return { status: 'corrupt', reason: parsed.reason }
    known.set(path, parsed)
    return { status: 'found', symbols: parsed }
  },
}

const dumpsUnder = (folder: string): string[] => readdirSync(folder, { withFileTypes: true })
  .flatMap((entry) => (entry.isDirectory() ? dumpsUnder(join(folder, entry.name)) : entry.name.endsWith('.dmp') ? [join(folder, entry.name)] : []))
