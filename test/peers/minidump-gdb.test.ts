/**
 * The same programs and bugs under gdb, which has their DWARF and the libraries': proof for where ours and the other
 * unwinders part. The stacks are those in CASR's reports (gdb on the running program), and what
 * `gdb -batch -ex bt programs/X X.core` printed for the Linux cores of elf-core (gdb 13.1; gdb-multiarch for ARM).
 *
 * Compared are the program's own functions with their lines, in order, as far down as gdb walks them, and the place in the
 * page of each (the programs are loaded elsewhere each time, but on whole pages).
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyseNative } from '../../symbolicate/native.ts'
import { createSource } from './breakpad-store.ts'

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'))
const here = existsSync(corpus)
test('the corpus is there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${corpus} is missing: set OVERRUN_CORPUS`).toBe(true))

/** null: gdb prints no address at the start of a line, the symbol file has no line for `run` in sensord-nofp. */
interface ProgramFrame { address: bigint | null; function: string; line: number | null }

describe.skipIf(!here)(`stacks of gdb over ${corpus}${here ? '' : ' (absent)'}`, () => {
  const symbols = createSource(join(corpus, 'minidump'), ['symbols'])
  const reports = here ? readdirSync(join(corpus, 'severity/casr')).map((file) => file.replace(/\.casrep$/, '')).filter((name) => existsSync(join(corpus, `minidump/crashpad-x64/${name}.dmp`))) : []

  test.each(reports)('%s', async (name) => {
    const { Stacktrace } = JSON.parse(readFileSync(join(corpus, `severity/casr/${name}.casrep`), 'utf8')) as { Stacktrace: string[] }
    const gdb = Stacktrace.flatMap(gdbFrame)
    const ours = await programFrames(`crashpad-x64/${name}.dmp`)
    // In that one the heap's own check fires elsewhere on CASR's machine: gdb lists libc alone.
    expect(gdb.length > 0).toBe(!name.endsWith('heap-overflow'))
    // Recursion is folded; gdb lists each of its frames.
    const theirs = name.endsWith('stack-exhaust') ? gdb.slice(0, 1) : gdb
    expect(ours.slice(0, theirs.length).map((frame) => frame.function)).toEqual(theirs.map((frame) => frame.function))
    for (const [index, { address, line }] of theirs.entries()) {
      const mine = ours[index]!
      if (address !== null) expect(mine.address! & 0xfffn, mine.function).toBe(address & 0xfffn)
      if (mine.line !== null) expect(mine.line, mine.function).toBe(line)
    }
  })

  // gdb-multiarch -batch -ex bt programs/sensord-thumb-static thumb.jump-4141.core
  const THUMB_JUMP = ['#0  0x41414140 in ?? ()', '#1  0x00010510 in dispatch (s=s@entry=0x3ee00600, v=v@entry=3) at sensord.c:9', '#2  0x000106aa in run (k=k@entry=0x40800fb5 "jump-4141") at sensord.c:19', '#3  0x000107e0 in worker (k=0x40800fb5) at sensord.c:32']

  test('sensord-thumb.jump-4141', async () => {
    const ours = await programFrames('linux-arm/sensord-thumb.jump-4141.dmp', 'sensord-thumb-static')
    const theirs = THUMB_JUMP.flatMap(gdbFrame).map(({ function: name, line }) => `${name}:${line}`)
    expect(ours.slice(0, theirs.length).map(({ function: name, line }) => `${name}:${line}`)).toEqual(theirs)
  })

  async function programFrames(file: string, module = file.includes('nofp') ? 'sensord-nofp' : 'sensord'): Promise<ProgramFrame[]> {
    const { report } = await analyseNative(readFileSync(join(corpus, 'minidump', file)), 'application/x-dmp', symbols)
    return report.crashing_thread!.frames.filter((frame) => frame.module === module && frame.function !== null).map((frame) => ({
      // gdb prints where a caller goes on, ours is inside of its call.
      address: BigInt(frame.offset) + (frame.frame === 0 ? 0n : 1n), function: frame.function!.replace(/\.cold$/, ''), line: frame.line,
    }))
  }
})

/** `#1  0x0000555555555402 in dispatch (s=..., v=3) at sensord.c:9`; none for libraries and for what has no name. */
function gdbFrame(text: string): ProgramFrame[] {
  const match = /^#\d+\s+(?:0x([0-9a-f]+) in )?(\w+) \(.*\) at \S*sensord\.c:(\d+)$/.exec(text)
  return match ? [{ address: match[1] === undefined ? null : BigInt(`0x${match[1]}`), function: match[2]!, line: Number(match[3]) }] : []
}
