/**
 * ELF cores beside gdb, run here on the same core and program: every thread's return addresses, and the names of the program's
 * own functions with inlined calls. x86-64 from a kernel; ARM, Thumb and ARM64 from qemu-user, which writes no file map.
 *
 * What differs by intent: gdb stops at main, and goes on through smashed memory, where we list the first wild address. Left out
 * are the frames that gdb infers for functions which ended in a jump (tail calls): nothing of theirs is on the stack.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import type { Report, ReportFrame } from '../../symbolicate/contract.ts'
import { analyseNative } from '../../symbolicate/native.ts'
import { elfSymbols } from './elf-symbols.ts'

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'), 'elf-core')
const gdb = ['gdb-multiarch', 'gdb'].find((program) => {
  try {
    return /aarch64/.test(execFileSync(program, ['-batch', '-nx', '-ex', 'set architecture aarch64', '-ex', 'show architecture'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
  } catch {
    return false
  }
})
const here = existsSync(corpus) && gdb !== undefined
test('the corpus and gdb-multiarch are there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${corpus} is missing, or gdb-multiarch is`).toBe(true))

/** The longer stack is ours; why gdb gives up. */
const LONGER: Record<string, string> = {
  'armhf.heap-overflow': 'gdb ends at free; on the ARM64 core of the same bug it has __malloc_arena_thread_freeres and start_thread too',
}

interface Place { pc: string; names: string[] }

describe.skipIf(!here)(`stacks of gdb over ${corpus}${here ? '' : ' (absent)'}`, () => {
  const cores = here ? readdirSync(corpus).filter((file) => file.endsWith('.core.zst')) : []
  let compared = 0

  test.each(cores)('%s', async (file) => {
    const name = file.replace(/\.core\.zst$/, '')
    const program = join(corpus, 'programs', PROGRAMS[name.split('.')[0]!]!)
    const core = zstdDecompressSync(readFileSync(join(corpus, file)))
    const libraries = name.startsWith('x64') ? ['libc.so.6', 'ld-linux-x86-64.so.2'].map((library) => `/usr/lib/x86_64-linux-gnu/${library}`).filter((path) => existsSync(path)) : []
    const { report, status } = await analyseNative(core, '', elfSymbols([program, ...libraries]))
    expect(status).toBe('ok')
    expect(report.crash_info).toMatchObject({ crashing_thread: 0, type: expect.stringMatching(/^SIG(?:SEGV|ABRT)/) })

    const theirs = await stacksOf(core, program)
    expect(report.threads.map(({ thread_id: id }) => id).toSorted()).toEqual([...theirs.keys()].toSorted())
    for (const { thread_id: id, frames } of report.threads) {
      // Where this machine's C library is of another build, neither knows it: then what lies above it is compared.
      const unknown = frames.findIndex((frame) => frame.module !== null && report.modules.find(({ filename }) => filename === frame.module)!.symbol_status !== 'found')
      const ours = shown(ourPlaces(frames, report), report).slice(0, unknown < 0 ? undefined : unknown)
      const gdbs = shown(theirs.get(id)!, report).slice(0, unknown < 0 ? undefined : unknown)
      compared += gdbs.length
      expect(ours.slice(0, gdbs.length), `${name}, thread ${id}`).toEqual(gdbs)
      if (ours.length > gdbs.length) expect(LONGER[name], `${name}, thread ${id}: ours goes on with ${JSON.stringify(ours.slice(gdbs.length))}`).toBeDefined()
    }
  })

  test('the share', () => void process.stdout.write(`elf-core: ${compared} frames of ${cores.length} cores equal gdb's\n`))
})

const PROGRAMS: Record<string, string> = { x64: 'sensord', arm64: 'sensord-arm64-static', armhf: 'sensord-armhf-static', thumb: 'sensord-thumb-static' }
const CALL_SIZES: Record<string, bigint> = { amd64: 1n, arm64: 4n, arm: 2n }

/** gdb's pc: the return address, without the bit that says Thumb. */
function ourPlaces(frames: readonly ReportFrame[], { system_info: { cpu_arch: cpu } }: Report): Place[] {
  return frames.map((frame, index) => {
    const pc = BigInt(frame.offset) + (index === 0 ? 0n : CALL_SIZES[cpu]!)
    return { pc: (cpu === 'arm' ? pc & ~1n : pc).toString(16), names: [...(frame.inlines ?? []).map((inline) => plain(inline.function)), plain(frame.function ?? '??')] }
  })
}

/** To main, or to the first address that is in no module; of libraries the address, as they have no lines here. */
function shown(places: readonly Place[], { modules, main_module: main }: Report): Place[] {
  const moduleOf = (pc: string): number => modules.findIndex(({ base_addr: base, end_addr: end }) => BigInt(`0x${pc}`) >= BigInt(base) && BigInt(`0x${pc}`) < BigInt(end))
  const end = places.findIndex(({ names, pc }, index) => names.at(-1) === 'main' || (index > 0 && moduleOf(pc) < 0))
  return places.slice(0, end < 0 ? undefined : end + 1).map(({ pc, names }) => (moduleOf(pc) < 0 ? { pc: 'in no module', names: [] } : { pc, names: moduleOf(pc) === main ? names : [] }))
}

/** One address has many names (`__GI_raise`, `raise`; `sleep`, `__sleep`; `__stack_chk_fail_local`): which is shown is taste. */
const plain = (name: string): string => name.replace(/^_+(?:GI_+)?/, '').replace(/_local$/, '')

const SCRIPT = `
import gdb
for thread in gdb.selected_inferior().threads():
  thread.switch()
  print('T', thread.ptid[1])
  frame = gdb.newest_frame()
  while frame is not None:
    if frame.type() != gdb.TAILCALL_FRAME:
      print('F', '%x' % frame.pc(), int(frame.type() == gdb.INLINE_FRAME), frame.name() or '??')
    frame = frame.older()
`

async function stacksOf(core: Uint8Array, program: string): Promise<Map<number, Place[]>> {
  const directory = await mkdtemp(join(tmpdir(), 'overrun-gdb-'))
  try {
    writeFileSync(join(directory, 'core'), core)
    writeFileSync(join(directory, 'stacks.py'), SCRIPT)
    const commands = ['-iex', 'set debuginfod enabled off', '-ex', 'set backtrace limit 64', '-ex', `source ${join(directory, 'stacks.py')}`]
    const out = execFileSync(gdb!, ['-batch', '-nx', ...commands, program, join(directory, 'core')], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 2 ** 24 })
    const threads = new Map<number, Place[]>()
    let names: string[] = []
    for (const line of out.split('\n')) {
      const [kind, first, inlined, name] = line.split(' ')
      if (kind === 'T') threads.set(Number(first), [])
      if (kind !== 'F') continue
      names.push(plain(name!))
      if (inlined === '1') continue
      threads.get([...threads.keys()].at(-1)!)!.push({ pc: first!, names })
      names = []
    }
    return threads
  } finally {
    await rm(directory, { recursive: true })
  }
}
