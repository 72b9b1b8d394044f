/**
 * Folds recursion: a cycle of up to PERIOD frames that occurs at least TIMES times in a row is kept once, each of its
 * frames with the number of its repeats. So a stack exhausted by 8 MB of recursion is a dozen rows, and one level more
 * or less doesn't make another signature. Ordinary stacks repeat a frame a few times at most and stay as they are.
 */
import type { Frame } from './frame.ts'

const PERIOD = 8
const TIMES = 8

export function foldRecursion(frames: Frame[]): { frames: Frame[]; omitted: number } {
  const folded: Frame[] = []
  let at = 0
  while (at < frames.length) {
    const cycle = cycleAt(frames, at)
    if (cycle === null) {
      folded.push(frames[at++]!)
      continue
    }
    for (let index = 0; index < cycle.period; index++) folded.push({ ...frames[at + index]!, repeats: cycle.times })
    at += cycle.period * cycle.times
  }
  return { frames: folded, omitted: frames.length - folded.length }
}

function cycleAt(frames: Frame[], at: number): { period: number; times: number } | null {
  for (let period = 1; period <= PERIOD; period++) {
    let end = at + period
    while (end < frames.length && same(frames[end]!, frames[end - period]!)) end++
    const times = Math.floor((end - at) / period)
    if (times >= TIMES) return { period, times }
  }
  return null
}

function same(a: Frame, b: Frame): boolean {
  return a.module === b.module && a.offset === b.offset && (a.module !== null || a.address === b.address)
}
