/** The last of `ranges`, which are sorted by their start, that starts at or before `offset`. */
export function lastStartingBy<R extends { start: number }>(ranges: readonly R[], offset: number): R | undefined {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (ranges[middle]!.start <= offset) low = middle + 1
    else high = middle
  }
  return ranges[low - 1]
}
