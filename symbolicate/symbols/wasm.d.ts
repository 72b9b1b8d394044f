/** Types of what demangle.ts loads: the demangler's glue has none, and the compiler's libraries keep WebAssembly in DOM's. */
declare module 'gecko-profiler-demangle/index_bg.js' {
  export function __wbg_set_wasm(exports: WebAssembly.Exports): void
  export function demangle_any(name: string): string
}

declare namespace WebAssembly {
  type Exports = Record<string, unknown>
  class Module { constructor(bytes: Uint8Array) }
  class Instance {
    constructor(module: Module, imports: Record<string, object>)
    readonly exports: Exports
  }
  interface Memory { readonly buffer: ArrayBuffer }
}
