/**
 * Mangled name -> the name that people wrote (Itanium C++, Rust legacy and v0, MSVC, Swift names stay as they are).
 *
 * The demanglers are Rust's, compiled to WebAssembly (gecko-profiler-demangle). Names come from symbol files and crash
 * logs, so they are hostile: longer ones are left alone, the memory that one instance may grow into is bounded by starting
 * a fresh one, and a name that makes it trap is returned as it was.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { LRUCache } from 'lru-cache'
// The package's index.js imports the .wasm as a module, which not every runtime and test runner can.
import * as glue from 'gecko-profiler-demangle/index_bg.js'

/** Chromium's longest names have about 5,000 characters; demangled text can be exponentially longer than its input. */
const MAX_NAME = 4_096
const MAX_RESULT = 16_384
const MAX_MEMORY = 64 * 1024 * 1024

const module = new WebAssembly.Module(readFileSync(createRequire(import.meta.url).resolve('gecko-profiler-demangle/index_bg.wasm')))
const cache = new LRUCache<string, string>({ max: 20_000 })
let instance: { memory: WebAssembly.Memory } | null = null

export function demangle(name: string): string {
  if (!isMangled(name) || name.length > MAX_NAME) return name
  const known = cache.get(name)
  if (known !== undefined) return known
  const plain = run(name)
  cache.set(name, plain)
  return plain
}

const isMangled = (name: string): boolean => /^(?:_{1,4}Z|_R|\?)/.test(name)

function run(name: string): string {
  if (instance === null || instance.memory.buffer.byteLength > MAX_MEMORY) start()
  try {
    const plain = glue.demangle_any(name)
    // What it can't read it gives back without its first underscore.
    return plain.length > MAX_RESULT || plain === '' || plain === name.slice(1) ? name : plain
  } catch {
    // A trap leaves the instance in an unknown state.
    instance = null
    return name
  }
}

function start(): void {
  const { exports } = new WebAssembly.Instance(module, { './index_bg.js': glue })
  glue.__wbg_set_wasm(exports)
  instance = exports as unknown as { memory: WebAssembly.Memory }
  ;(exports.__wbindgen_start as (() => void) | undefined)?.()
}
