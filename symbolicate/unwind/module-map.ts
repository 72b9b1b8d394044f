/** Which module holds an address: binary search on numbers. Modules above 2^53 (vsyscall) are never found. */
import type { Module } from '../formats/dump.ts'

export interface ModuleMap {
  /** Index of the module, or -1. */
  find(address: number): number
  base(module: number): number
}

const HIGHEST = BigInt(Number.MAX_SAFE_INTEGER)

export function createModuleMap(modules: readonly Module[]): ModuleMap {
  const low = modules.filter((module) => module.base + BigInt(module.size) <= HIGHEST)
  const starts = Float64Array.from(low, (module) => Number(module.base))
  const ends = Float64Array.from(low, (module) => Number(module.base) + module.size)

  function find(address: number): number {
    let from = 0
    let to = starts.length
    while (from < to) {
      const middle = (from + to) >>> 1
      if (starts[middle]! <= address) from = middle + 1
      else to = middle
    }
    return from > 0 && address < ends[from - 1]! ? from - 1 : -1
  }

  return { find, base: (module) => starts[module]! }
}
