/** mulberry32: small, seeded, good enough to draw fleets with; the same seed draws the same fleet on every machine. */
export interface Random {
  /** In [0, 1). */
  next(): number
  below(limit: number): number
  /** Knuth's method; fine for the small means used here. */
  poisson(mean: number): number
  exponential(mean: number): number
  pick<T>(items: readonly T[]): T
}

export function createRandom(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return {
    next,
    below: (limit) => Math.floor(next() * limit),
    poisson(mean) {
      if (mean > 30) return this.poisson(mean / 2) + this.poisson(mean / 2)
      const limit = Math.exp(-mean)
      let count = 0
      for (let product = next(); product > limit; product *= next()) count++
      return count
    },
    exponential: (mean) => -Math.log(1 - next()) * mean,
    pick(items) {
      const item = items[Math.floor(next() * items.length)]
      if (item === undefined) throw new RangeError('nothing to pick from')
      return item
    },
  }
}
