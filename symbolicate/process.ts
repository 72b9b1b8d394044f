import type { AcceptedCrash } from '../ingest/contract.ts'
import type { Analysis } from './contract.ts'
import type { WorkerMetrics } from './metrics.ts'
import type { Pool } from './sandbox/pool.ts'
import type { Located } from './sandbox/wire.ts'
import type { ModuleIdentity } from './symbols/source.ts'
import { unreadable } from './unreadable.ts'

/**
 * One dump to one analysis, in a parser's child. Whatever the dump does to its parser, the crash keeps its place:
 * an analysis without frames, with the status and the reason.
 */
export interface DumpInput {
  contentType: AcceptedCrash['contentType']
  claims: AcceptedCrash['claims']
  annotations: Record<string, string>
  /** Asked once a parser is free; null when the store has lost the dump. */
  load(): Promise<Uint8Array | null>
}

/** Where a child's questions end up: symbols/store.ts for the worker, symbols/folder.ts for `overrun explain`. */
export interface SymbolFiles {
  /** Grows when locate() may say something else than before: what a parser heard earlier no longer holds. */
  generation(): number
  locate(module: ModuleIdentity): Promise<Located>
  locateMap(debugId: string): Promise<string | null>
}

export interface Processing { analysis: Promise<Analysis>; slow: Promise<void> }

export function createProcessor({ pool, symbols, inflateBytes, metrics }: { pool: Pool; symbols: SymbolFiles; inflateBytes: number; metrics: WorkerMetrics | null }) {
  return function process(input: DumpInput): Processing {
    const { contentType, claims, annotations } = input
    let began = performance.now()
    const ticket = pool.run(async () => {
      const bytes = await input.load()
      if (bytes === null) throw new DumpMissing()
      began = performance.now()
      return { t: 'analyse', bytes, contentType, claims, annotations, inflateBytes, generation: symbols.generation() }
    }, { symbols: (module) => symbols.locate(module).catch(costOfOneModule), map: (debugId) => symbols.locateMap(debugId) })
    return { analysis: conclude(), slow: ticket.slow }

    async function conclude(): Promise<Analysis> {
      const analysis = await ticket.end.then((end): Analysis => {
        switch (end.t) {
          case 'analysis': return end.analysis
          case 'refused': return unreadable(end.status, end.reason, input)
          case 'killed': return unreadable(end.why === 'time' || end.why === 'memory' ? 'budget-exceeded' : 'parser-killed', end.reason, input)
          case 'prepared':
          case 'unusable': return unreadable('parser-killed', `the parser answered ${end.t} where a dump was to be read`, input)
        }
      }, (error: unknown) => {
        if (error instanceof DumpMissing) return unreadable('dump-missing', 'the store has no such dump any more', input)
        throw error
      })
      const missing = analysis.report.crashing_thread?.frames.some((frame) => frame.missing_symbols) ?? false
      metrics?.analysis(analysis.status, analysis.report.format, (performance.now() - began) / 1000, missing)
      return analysis
    }
  }
}

/** A store that is away is asked again, with the dump. A look-up that can never work costs its module, not everybody's turn. */
function costOfOneModule(error: unknown): Located {
  if (error instanceof TypeError || error instanceof RangeError) return { status: 'corrupt', reason: `the look-up failed: ${error.message}` }
  throw error
}

class DumpMissing extends Error {}
