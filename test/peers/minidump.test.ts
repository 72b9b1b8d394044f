/**
 * Our frames beside those of the two reference unwinders, over every minidump of the corpus that both walk: rust-minidump
 * (`minidump-stackwalk --json`) frame by frame and field by field, as far down as Google's `minidump_stackwalk -m` lists the
 * same functions. Fields: trust, module, offset in it, address, function, offset in it, file, line, inlines, and whether
 * symbols are missing. Every difference stands in minidump-differences.ts with its reason; one that doesn't, and an entry
 * that no longer happens, fail.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { ReportFrame } from '../../symbolicate/contract.ts'
import { analyseNative, type NativeAnalysis } from '../../symbolicate/native.ts'
import { createSource } from './breakpad-store.ts'
import { type Difference, DIFFERENCES, FARTHER, GOOGLE_DISAGREES } from './minidump-differences.ts'

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
  const disagree = new Set<string>()
  // What the oracle had for each: no more, or we would name what they couldn't.
  const own = createSource(corpus, ['symbols', 'breakpad/processor-testdata/symbols'])
  const rust = createSource(corpus, ['rust-minidump/testdata/symbols'])

  test.each(dumps)('%s', async (dump) => {
    const peer = JSON.parse(readFileSync(join(oracle, 'rust-minidump', `${dump}.dmp.json`), 'utf8')) as Peer
    const google = readFileSync(join(oracle, 'breakpad', `${dump}.dmp.txt`), 'utf8').split('\n').map((line) => line.split('|'))
    const ours = await analyseNative(readFileSync(findDump(dump)!), 'application/x-dmp', dump.startsWith('rust') ? rust : own)
    expect(ours.status).toBe('ok')
    const { type, address, crashing_thread: crashed } = peer.crash_info
    expect(ours.report.crash_info).toMatchObject({ type, address, crashing_thread: crashed })
    if (!saysTheSame(google.find(([kind]) => kind === 'Crash'), peer)) disagree.add(dump)

    const share: Share = { crashing: { ...NOTHING }, all: { ...NOTHING } }
    const unexplained: string[] = []
    peer.threads.forEach(({ frames: theirs }, thread) => {
      const compared = compare(dump, ours, thread, theirs, agreedDepth(theirs, google, thread), thread === crashed, used)
      unexplained.push(...compared.unexplained.map((text) => `thread ${thread}: ${text}`))
      add(share.all, compared)
      if (thread === crashed) add(share.crashing, compared)
    })
    shares.set(dump, share)
    expect(unexplained, `${dump}: add it to DIFFERENCES with its reason, or mend it`).toEqual([])
  })

  test('every listed difference still happens', () => {
    expect(DIFFERENCES.filter((difference) => !used.has(difference))).toEqual([])
    expect([...disagree].toSorted()).toEqual([...GOOGLE_DISAGREES.keys()].toSorted())
  })

  test('of the crashing threads\' frames that both peers agree on at least 99 % are equal in every field', () => {
    expect(ratio([...shares.values()].map(({ crashing }) => crashing))).toBeGreaterThanOrEqual(0.99)
    const wanted = [...shares].filter(([dump]) => /^own-(crashpad-x64|linux-arm64)__|^rust-minidump__/.test(dump) && !dump.endsWith('__test'))
    expect(ratio(wanted.map(([, { crashing }]) => crashing))).toBeGreaterThanOrEqual(0.95)
  })

  test('of all threads\' frames that both peers agree on at least 97 % are equal in every field', () => {
    expect(ratio([...shares.values()].map(({ all }) => all))).toBeGreaterThanOrEqual(0.97)
  })

  afterAll(() => {
    const row = ({ equal, agreed, explained, beyond }: Count): string => `${equal} of ${agreed}${explained ? `, ${explained} differ for a listed reason` : ''}${beyond ? `, ${beyond} of theirs lie past the program's entry` : ''}`
    const sum = { crashing: { ...NOTHING }, all: { ...NOTHING } }
    for (const share of shares.values()) { add(sum.crashing, share.crashing); add(sum.all, share.all) }
    console.log([
      ...[...shares].map(([dump, { crashing, all }]) => `${dump}: crashing thread ${row(crashing)}; all threads ${row(all)}`),
      `${shares.size} dumps that both walk: type, address and crashing thread equal in all that passed`,
      `frames of crashing threads ${percent(sum.crashing)}: ${row(sum.crashing)}`, `frames of all threads ${percent(sum.all)}: ${row(sum.all)}`,
    ].join('\n'))
  })
})

interface Count { equal: number; agreed: number; explained: number; /** Frames of theirs past the entry, which no caller has. */ beyond: number }
interface Share { crashing: Count; all: Count }

const NOTHING: Count = { equal: 0, agreed: 0, explained: 0, beyond: 0 }
const add = (sum: Count, { equal, agreed, explained, beyond }: Count): void => { sum.equal += equal; sum.agreed += agreed; sum.explained += explained; sum.beyond += beyond }
const ratio = (counts: Count[]): number => counts.reduce((sum, count) => sum + count.equal, 0) / counts.reduce((sum, count) => sum + count.agreed, 0)
const percent = (count: Count): string => `${(100 * ratio([count])).toFixed(2)} %`

/** Walks both lists side by side; where they part the list of differences must say how they meet again. */
function compare(dump: string, ours: NativeAnalysis, thread: number, theirs: PeerFrame[], agreed: number, crashed: boolean, used: Set<Difference>): Count & { unexplained: string[] } {
  const frames = ours.report.threads[thread]!.frames
  const counted = { ...NOTHING }
  const unexplained: string[] = []
  const known = crashed ? DIFFERENCES.filter((entry) => entry.dump === dump) : []
  let mine = 0
  for (let index = 0; index < agreed; index++) {
    // We end at the entry of the program; what the peers list behind it is argv, environment and stale memory.
    if (mine === frames.length && ours.stacks[thread]!.end === 'entry') { counted.beyond += agreed - index; break }
    for (const difference of known.filter((entry) => entry.frame === index && entry.kind === 'inserted' && entry.what === nameOf(frames[mine]))) {
      used.add(difference)
      counted.explained++
      mine++
    }
    counted.agreed++
    const listed = known.find((entry) => entry.frame === index && entry.kind !== 'inserted' && entry.what === nameOf(theirs[index]))
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
  if (unexplained.length === 0 && agreed === theirs.length && mine < frames.length && FARTHER.get(`${dump} ${thread}`) !== frames.length - mine) unexplained.push(`ours goes on with ${lineOf(frames[mine])}`)
  return { ...counted, unexplained }
}

/** How many of rust-minidump's frames Google's walker lists too: the same functions (or none) in the same modules, inlines as rows of their own. */
function agreedDepth(theirs: PeerFrame[], google: string[][], thread: number): number {
  const rows = google.filter((row) => row.length >= 7 && row[0] === String(thread)).map((row) => `${row[2]} ${row[3]}`)
  let at = 0
  for (const [depth, frame] of theirs.entries()) {
    for (const name of [...(frame.inlines ?? []).map((inline) => inline.function), frame.function]) if (rows[at++] !== `${frame.module ?? ''} ${name ?? ''}`) return depth
  }
  return theirs.length
}

/** `Crash|SIGSEGV /SEGV_MAPERR|0x10|2`: Google's names no sender of a signal, so the first word counts. */
function saysTheSame(row: string[] | undefined, { crash_info: theirs }: Peer): boolean {
  const first = (text: string | undefined): string => (text ?? '').split(' ')[0]!
  return row !== undefined && first(row[1]) === first(theirs.type) && BigInt(row[2] ?? '-1') === BigInt(theirs.address) && row[3] === String(theirs.crashing_thread)
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
