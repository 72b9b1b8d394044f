import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Figure } from './bench.ts'
import { cpuSeconds, median } from './symbolicate/cpu.ts'
import { findPeer, HINT, PEER } from './symbolicate/peer.ts'
import { openPipeline, type Pipeline } from './symbolicate/pipeline.ts'

/**
 * From a dump's bytes to its JSON report, beside the peer, in processor time: both sides alternate in every round, so that
 * a busy machine slows both, and the ratio is the median of the rounds' ratios. Both read the same symbol files, from the
 * page cache.
 *
 *   warm: a worker that has been running. All of its processes count, the sandbox hop too.
 *   cold: the same with an empty symbol store: each of the files is another than before, and is fetched and prepared first.
 *   started: parsers that have read nothing yet, so that their code is interpreted, and the store is empty; with the start
 *         of the parser that prepares symbol files.
 *   The peer reads the text of the symbol files for each dump, as it always does.
 *
 * From the peer's cost of an Electron dump that of a process that only says its version is taken off.
 */
export const name = 'symbolicate'
export const describe = `dumps to reports, dumps a second of processor time, against ${PEER} --json; median of 5 rounds`

const ROUNDS = 5
const AIMS = { warm: 10, cold: 2, electron: 1, perSecond: 300 }
const STARTS = 200
/** As long as compilers still work on its code, a parser has not been running: some 2,000 dumps. */
const WARM_UP = 200
const COLD_PASSES = 5

const OWN = join(import.meta.dirname, '../corpus')
const CORPUS = resolve(process.env.OVERRUN_CORPUS ?? join(import.meta.dirname, '../../../shared/corpus'), 'minidump')
/** Not in the repository. */
const OTHERS = [
  { what: 'crashpad, 8 MB of recursion', folder: 'crashpad-x64', file: 'sensord.stack-exhaust.dmp', passes: { ours: 30, peer: 3 }, aim: AIMS.warm, startApart: false },
  { what: 'Electron, Linux, 187 modules', folder: 'node-minidump', file: 'linux.dmp', passes: { ours: 200, peer: 50 }, aim: AIMS.electron, startApart: true },
  { what: 'Electron, macOS, 217 modules', folder: 'node-minidump', file: 'mac.dmp', passes: { ours: 200, peer: 50 }, aim: AIMS.electron, startApart: true },
  { what: 'Electron, Windows, 58 modules', folder: 'node-minidump', file: 'windows.dmp', passes: { ours: 200, peer: 50 }, aim: AIMS.electron, startApart: true },
]

interface Dumps { paths: string[]; bytes: Uint8Array[] }
/** Processor seconds for one dump. */
type Cost = () => Promise<number>

export async function run(print: (figure: Figure) => void): Promise<void> {
  const peer = findPeer()
  if (peer === null) console.error(`  symbolicate: no comparison: ${HINT}`)
  const directory = await mkdtemp(join(tmpdir(), 'bench-symbolicate-'))
  const symbols = join(OWN, 'symbols')
  const warm = await openPipeline(directory)
  await warm.upload(symbols, '')

  const ourCost = (dumps: Dumps, passes: number): Cost => () => costOf(warm, dumps, passes)
  const peerCost = (dumps: Dumps, passes: number, start = 0): Cost | null => peer && (async () => await peer.walk(dumps.paths, symbols, passes) / (passes * dumps.paths.length) - start)
  let uploads = 0
  async function coldCost(dumps: Dumps): Promise<number> {
    const costs = await repeated(COLD_PASSES, async () => {
      await warm.upload(symbols, String(++uploads))
      return costOf(warm, dumps, 1)
    })
    return costs.reduce((sum, cost) => sum + cost, 0) / COLD_PASSES
  }
  async function startedCost(dumps: Dumps): Promise<number> {
    const started = await openPipeline(directory)
    try {
      return await costOf(started, dumps, 1)
    } finally {
      await started.stop()
    }
  }

  try {
    const crashpad = dumpsAt(readdirSync(join(OWN, 'crashpad-x64')).map((file) => join(OWN, 'crashpad-x64', file)))
    await costOf(warm, crashpad, WARM_UP)
    const what = `crashpad, ${crashpad.paths.length} dumps`
    const perSecond = await compare(`${what}, warm`, ourCost(crashpad, 100), peerCost(crashpad, 10), AIMS.warm, print)
    print({ name: '  the same against its aim', value: perSecond, unit: 'dumps/s', baseline: AIMS.perSecond, ratio: perSecond / AIMS.perSecond, aim: 1 })
    await compare(`${what}, cold`, () => coldCost(crashpad), peerCost(crashpad, 10), AIMS.cold, print)
    await compare(`${what}, started`, () => startedCost(crashpad), peerCost(crashpad, 10), null, print)
    const start = peer === null ? 0 : median(await repeated(ROUNDS, () => peer.start(STARTS)))
    for (const { what, folder, file, passes, aim, startApart } of OTHERS) {
      const path = join(CORPUS, folder, file)
      if (!existsSync(path)) {
        console.error(`  symbolicate: no figure for ${what}: ${path} is missing (OVERRUN_CORPUS names the folder of the corpora)`)
        continue
      }
      const dumps = dumpsAt([path])
      await costOf(warm, dumps, passes.ours)
      await compare(what, ourCost(dumps, passes.ours), peerCost(dumps, passes.peer, startApart ? start : 0), aim, print)
    }
  } finally {
    await warm.stop()
    await rm(directory, { recursive: true })
  }
}

const dumpsAt = (paths: string[]): Dumps => ({ paths, bytes: paths.map((path) => readFileSync(path)) })

async function costOf(pipeline: Pipeline, { bytes }: Dumps, passes: number): Promise<number> {
  const before = cpuSeconds()
  for (let pass = 0; pass < passes; pass++) await pipeline.run(bytes)
  return (cpuSeconds() - before) / (passes * bytes.length)
}

/** Prints dumps a second of processor time; returns ours. */
async function compare(what: string, ours: Cost, theirs: Cost | null, aim: number | null, print: (figure: Figure) => void): Promise<number> {
  const rounds = await repeated(ROUNDS, async () => ({ theirs: theirs && await theirs(), ours: await ours() }))
  const perSecond = 1 / median(rounds.map((round) => round.ours))
  const beside = theirs && { baseline: 1 / median(rounds.map((round) => round.theirs!)), ratio: median(rounds.map((round) => round.theirs! / round.ours)), ...(aim !== null && { aim }) }
  print({ name: what, value: perSecond, unit: 'dumps/s', ...beside })
  return perSecond
}

async function repeated<T>(times: number, work: () => Promise<T>): Promise<T[]> {
  const results: T[] = []
  for (let time = 0; time < times; time++) results.push(await work())
  return results
}
