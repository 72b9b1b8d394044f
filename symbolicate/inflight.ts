/**
 * What a partition has under way, and how far its written prefix reaches.
 *
 * Promise: `position` never passes an offset that is not finished. Slow dumps finish long after the batches that follow
 * them; the position waits for the first of them, so that a worker that dies reads it again. What was written behind it
 * is then read again too, and lands on the same keys.
 */
export interface Inflight {
  /** Offsets below `end` have been read; those in `unfinished` are not written yet. */
  read(end: number, unfinished: readonly number[]): void
  finish(offset: number): void
  /** First offset that a successor must read; null before the first read(). */
  readonly position: number | null
  readonly size: number
}

export function createInflight(): Inflight {
  const open = new Set<number>()
  let end: number | null = null
  return {
    read(to, unfinished) {
      end = Math.max(end ?? 0, to)
      for (const offset of unfinished) open.add(offset)
    },
    finish: (offset) => void open.delete(offset),
    get position() {
      let lowest = end
      for (const offset of open) if (lowest !== null && offset < lowest) lowest = offset
      return lowest
    },
    get size() { return open.size },
  }
}
