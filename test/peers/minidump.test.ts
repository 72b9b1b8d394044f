/**
 * Our frames beside those of the two reference unwinders, over every minidump of the corpus that both walk: rust-minidump
 * (`minidump-stackwalk --json`) frame by frame and field by field, as far down as Google's `minidump_stackwalk -m` lists the
 * same functions. Every difference stands in DIFFERENCES with its reason; one that doesn't, and an entry that no longer
 * happens, fail.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { ReportFrame } from '../../symbolicate/contract.ts'
import { analyseNative, type NativeAnalysis } from '../../symbolicate/native.ts'
import { openPrepared, parseBreakpadSym } from '../../symbolicate/symbols/breakpad-sym.ts'
import type { SymbolLookup, SymbolSource } from '../../symbolicate/symbols/source.ts'

interface Difference {
  dump: string
  /** Index in their crashing thread; for `inserted`, of the frame of theirs that ours stands before. */
  frame: number
  /** inserted: only we have it. left-out: only they have it. trust: found by other means, the same otherwise. */
  kind: 'inserted' | 'left-out' | 'trust'
  /** The function, or the module and offset, that is ours alone or theirs alone. */
  what: string
  why: string
}

const CALLER_OF_WILD_JUMP = 'the function that called the wild address; gdb on the core of the same program and bug has it (0x41414141, dispatch, run, worker), both peers go by the frame pointer and lose it'
const ENTRY_RULE = 'found by the rule of every function\'s first instruction (return address at [sp] or in lr), confirmed by the symbols; the peers find the same word by scanning'
const NEXT = 'the frame after the one that they miss: found by that one\'s CFI'
const DATA = '_fini is 9 bytes long and the place is 75,355 bytes behind its start, in .bss (readelf -S): a word that points at data'

const DIFFERENCES: Difference[] = [
  { dump: 'own-crashpad-x64__sensord.jump-4141', frame: 1, kind: 'inserted', what: 'dispatch', why: CALLER_OF_WILD_JUMP },
  { dump: 'own-crashpad-x64__sensord.exec-stack', frame: 1, kind: 'inserted', what: 'run', why: 'sensord.c line 28: run() itself calls the bytes on its stack; without frame pointers both peers list it' },
  { dump: 'own-crashpad-x64__sensord.jump-4141', frame: 1, kind: 'trust', what: 'run', why: NEXT },
  { dump: 'own-crashpad-x64__sensord.exec-stack', frame: 1, kind: 'trust', what: 'worker', why: NEXT },
  { dump: 'own-crashpad-x64__sensord-nofp.jump-4141', frame: 1, kind: 'trust', what: 'dispatch', why: ENTRY_RULE },
  { dump: 'own-crashpad-x64__sensord-nofp.exec-stack', frame: 1, kind: 'trust', what: 'run', why: ENTRY_RULE },
  { dump: 'own-crashpad-x64__sensord.stack-smash', frame: 9, kind: 'left-out', what: '_fini', why: DATA },
  { dump: 'own-linux-arm__sensord-thumb.jump-4141', frame: 1, kind: 'inserted', what: 'dispatch', why: CALLER_OF_WILD_JUMP },
  { dump: 'own-linux-arm__sensord-thumb.jump-4141', frame: 1, kind: 'trust', what: 'run', why: NEXT },
  { dump: 'breakpad__processor-testdata__exec_av_on_stack', frame: 1, kind: 'inserted', what: 'crashme1.exe+0x000010ad', why: 'code on the stack was called from there: the word at [esp] lies in the program; shown as a scan, because neither symbols nor bytes confirm it' },
]

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'), 'minidump')
const oracle = join(corpus, 'oracle')

interface Peer { crash_info: { type: string; address: string; crashing_thread: number }; threads: { thread_id: number; frames: PeerFrame[] }[] }
type PeerFrame = Omit<ReportFrame, 'approximate' | 'repeats'>

const here = existsSync(oracle)
test('the corpus is there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${oracle} is missing: set OVERRUN_CORPUS`).toBe(true))

describe.skipIf(!here)(`frames of the peers over ${corpus}${here ? '' : ' (absent)'}`, () => {
  const dumps = here ? readdirSync(join(oracle, 'rust-minidump')).map((file) => file.replace(/\.dmp\.json$/, '')).filter((dump) => findDump(dump) !== null) : []
  const shares = new Map<string, Share>()
  const used = new Set<Difference>()
  // What the oracle had for each: no more, or we would name what they couldn't.
  const own = createSource(['symbols', 'breakpad/processor-testdata/symbols'])
  const rust = createSource(['rust-minidump/testdata/symbols'])

  test.each(dumps)('%s', async (dump) => {
    const peer = JSON.parse(readFileSync(join(oracle, 'rust-minidump', `${dump}.dmp.json`), 'utf8')) as Peer
    const ours = await analyseNative(readFileSync(findDump(dump)!), 'application/x-dmp', dump.startsWith('rust') ? rust : own)
    expect(ours.status).toBe('ok')
    expect(ours.report.crash_info).toMatchObject(peer.crash_info.crashing_thread === null ? {} : { type: peer.crash_info.type, address: peer.crash_info.address, crashing_thread: peer.crash_info.crashing_thread })

    const index = peer.crash_info.crashing_thread
    const theirs = peer.threads[index]!.frames
    const agreed = agreedDepth(theirs, readFileSync(join(oracle, 'breakpad', `${dump}.dmp.txt`), 'utf8'), index)
    const share = compare(dump, ours, index, theirs, agreed, used)
    shares.set(dump, { ...share, all: allThreads(ours, peer) })
    expect(share.unexplained, `${dump}: add it to DIFFERENCES with its reason, or mend it`).toEqual([])
  })

  test('every listed difference still happens', () => {
    expect(DIFFERENCES.filter((difference) => !used.has(difference))).toEqual([])
  })

  test('of the frames that both peers agree on at least 95 % are equal in the own x86-64 and ARM64 dumps and in rust-minidump\'s, and 99 % in all', () => {
    const wanted = [...shares].filter(([dump]) => /^own-(crashpad-x64|linux-arm64)__|^rust-minidump__/.test(dump) && !dump.endsWith('__test'))
    expect(ratio(wanted.map(([, share]) => share))).toBeGreaterThanOrEqual(0.95)
    expect(ratio([...shares.values()])).toBeGreaterThanOrEqual(0.99)
  })

  test('of all threads\' frames, as far as the program\'s entry, at least 97 % are equal', () => {
    expect(ratio([...shares.values()].map((share) => share.all))).toBeGreaterThanOrEqual(0.97)
  })

  afterAll(() => {
    const rows = [...shares].map(([dump, share]) => `${String(share.equal).padStart(4)} of ${String(share.agreed).padStart(3)} frames${share.explained ? `, ${share.explained} differ for a listed reason` : ''}; all threads ${share.all.equal} of ${share.all.agreed}  ${dump}`)
    const sum = [...shares.values()]
    console.log([...rows, `crashing threads ${(100 * ratio(sum)).toFixed(2)} %, all threads ${(100 * ratio(sum.map((share) => share.all))).toFixed(2)} %`].join('\n'))
  })
})

interface Count { equal: number; agreed: number }
interface Share extends Count { explained: number; all: Count }

const ratio = (counts: Count[]): number => counts.reduce((sum, count) => sum + count.equal, 0) / counts.reduce((sum, count) => sum + count.agreed, 0)

/** Walks both lists side by side; where they part the list of differences must say how they meet again. */
function compare(dump: string, ours: NativeAnalysis, thread: number, theirs: PeerFrame[], agreed: number, used: Set<Difference>): Count & { explained: number; unexplained: string[] } {
  const frames = ours.report.threads[thread]!.frames
  const counted = { equal: 0, agreed: 0, explained: 0 }
  const unexplained: string[] = []
  let mine = 0
  for (let index = 0; index < agreed; index++) {
    // We end at the entry of the program; what the peers list behind it is argv, environment and stale memory.
    if (mine === frames.length && ours.stacks[thread]!.end === 'entry') break
    for (const difference of DIFFERENCES.filter((entry) => entry.dump === dump && entry.frame === index && entry.kind === 'inserted' && entry.what === nameOf(frames[mine]))) {
      used.add(difference)
      counted.explained++
      mine++
    }
    counted.agreed++
    const listed = DIFFERENCES.find((entry) => entry.dump === dump && entry.frame === index && entry.kind !== 'inserted' && entry.what === nameOf(theirs[index]))
    if (lineOf(frames[mine]) === lineOf(theirs[index])) {
      counted.equal++
    } else if (listed?.kind === 'left-out') {
      used.add(listed)
      counted.explained++
      mine--
    } else if (listed?.kind === 'trust' && lineOf(frames[mine], false) === lineOf(theirs[index], false)) {
      used.add(listed)
      counted.explained++
    } else {
      unexplained.push(`frame ${index}: ours ${lineOf(frames[mine])}, theirs ${lineOf(theirs[index])}`)
      break
    }
    mine++
  }
  if (unexplained.length === 0 && agreed === theirs.length && mine < frames.length && !EXTRA.has(dump)) unexplained.push(`ours goes on with ${lineOf(frames[mine])}`)
  return { ...counted, unexplained }
}

/** Google's walker and ours go one frame farther than rust-minidump, or only ours does. */
const EXTRA = new Map([['own-linux-arm__sensord-armhf.heap-overflow', '__clone, which does call start_thread']])

function allThreads(ours: NativeAnalysis, peer: Peer): Count {
  const count = { equal: 0, agreed: 0 }
  peer.threads.forEach((thread, index) => {
    const frames = ours.report.threads[index]!.frames
    const upTo = ours.stacks[index]!.end === 'entry' ? Math.min(frames.length, thread.frames.length) : thread.frames.length
    for (let at = 0; at < upTo; at++) if (lineOf(frames[at]) === lineOf(thread.frames[at])) count.equal++
    count.agreed += upTo
  })
  return count
}

/** How many of rust-minidump's frames Google's walker lists too: the same functions (or none) in the same modules, inlines as rows of their own. */
function agreedDepth(theirs: PeerFrame[], machine: string, thread: number): number {
  const rows = machine.split('\n').map((line) => line.split('|')).filter((row) => row.length >= 7 && row[0] === String(thread)).map((row) => `${row[2]} ${row[3]}`)
  let at = 0
  for (const [depth, frame] of theirs.entries()) {
    for (const name of [...(frame.inlines ?? []).map((inline) => inline.function), frame.function]) if (rows[at++] !== `${frame.module ?? ''} ${name ?? ''}`) return depth
  }
  return theirs.length
}

function lineOf(frame: PeerFrame | undefined, withTrust = true): string {
  if (!frame) return '(none)'
  const inlines = (frame.inlines ?? []).map((inline) => `${inline.function} ${inline.file}:${inline.line}`)
  return [withTrust ? frame.trust : '', frame.module, frame.module_offset, frame.offset, frame.function, frame.function_offset, `${frame.file}:${frame.line}`, ...inlines, frame.missing_symbols].join(' | ')
}

const nameOf = (frame: PeerFrame | undefined): string => frame?.function ?? `${frame?.module}+${frame?.module_offset}`

/** `own-crashpad-x64__sensord.abort` is crashpad-x64/sensord.abort.dmp; third parties keep their inner folder's name. */
function findDump(dump: string): string | null {
  const [folder, ...rest] = dump.split('__')
  const path = join(corpus, folder!.replace(/^own-/, ''), `${rest.at(-1)}.dmp`)
  return existsSync(path) ? path : null
}

/** Symbols as a worker has them: prepared once, opened from the prepared bytes. */
function createSource(folders: string[]): SymbolSource {
  const known = new Map<string, SymbolLookup>()
  function read(name: string, debugId: string): SymbolLookup {
    for (const folder of folders) {
      const directory = join(corpus, folder, name, debugId)
      if (!existsSync(directory)) continue
      const parsed = parseBreakpadSym(readFileSync(join(directory, readdirSync(directory)[0]!)))
      if ('slug' in parsed) return { status: 'corrupt', reason: parsed.reason }
      return { status: 'found', symbols: openPrepared(parsed.serialize())! }
    }
    return { status: 'missing', reason: `no symbols for ${name} ${debugId}` }
  }
  return {
    async find({ debugFile, debugId }) {
      if (debugFile === null || debugId === null) return { status: 'no-id', reason: 'the module names no build' }
      const name = debugFile.split(/[/\\]/).at(-1)!
      const found = known.get(`${name} ${debugId}`) ?? read(name, debugId)
      known.set(`${name} ${debugId}`, found)
      return found
    },
  }
}
