import type { Trust } from '../contract.ts'
import type { SymbolHit } from '../symbols/source.ts'

/** Inside, a frame is a module and an offset in it. */
export interface Frame {
  /** Position in the real stack: frames that were folded or left out count. */
  depth: number
  trust: Trust
  /** Index into the dump's modules; null when the instruction lies in none. */
  module: number | null
  /** From the module's base; 0 without a module. */
  offset: number
  /** The instruction: the program counter, or for a caller a byte inside of its call. */
  address: bigint
  symbol: SymbolHit | null
  /** How often this frame occurs in a folded recursion; 1 otherwise. */
  repeats: number
}

export interface Stack {
  frames: Frame[]
  /** Frames that were walked but are not in `frames`: folded, or past the cap. */
  omitted: number
  /** Why the walk ended. */
  end: 'no-registers' | 'no-caller' | 'entry' | 'frame-cap' | 'budget'
}

export interface UnwindBudget {
  /** Frames that are walked, over all threads of a dump. */
  walked: number
  /** Frames that are kept of each thread. */
  kept: number
  /** Candidates that scans may try, over all threads. */
  candidates: number
  /** Different places in modules that symbols are asked for, over all threads. */
  places: number
}

/** An 8 MB stack holds half a million smallest frames; a listing of more than some hundred says nothing new. */
export const UNWIND_BUDGET: UnwindBudget = { walked: 65_536, kept: 512, candidates: 262_144, places: 16_384 }
