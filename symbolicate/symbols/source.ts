/**
 * Where symbols come from. A missing, corrupt or mismatched symbol file is a status on the module, never a failure.
 * `find` is asked once per module and dump; the implementation prepares and caches.
 */
export interface ModuleIdentity {
  debugFile: string | null
  /** Breakpad's form: 32 upper-case hex digits and the age. */
  debugId: string | null
  codeId: string | null
  /** Lower-case hex: how the SHA-256 of the ELF file itself begins. ESP-IDF's dumps name their firmware so. */
  elfSha256?: string | null
  /** Firmware: its dump may name no build at all, and there is no other program on the device. */
  linked?: boolean
}

/** `ambiguous`: what the dump names the build by fits several files. */
export const SYMBOL_STATUSES = ['found', 'missing', 'corrupt', 'mismatched', 'ambiguous', 'no-id'] as const
export type SymbolStatus = (typeof SYMBOL_STATUSES)[number]

export type SymbolLookup = { status: 'found'; symbols: ModuleSymbols } | { status: Exclude<SymbolStatus, 'found'>; reason: string }

export interface SymbolSource {
  find(module: ModuleIdentity): Promise<SymbolLookup>
}

/** All offsets are from the module's load base, unsigned, below 2^53. */
export interface ModuleSymbols {
  /**
   * The address that offsets are counted from in the file's own numbering, its lowest segment's: an ELF file knows it. A
   * microcontroller runs its firmware there and its dump names no load base, so for such a module (Module.linked) the reader
   * of a dump goes from addresses to offsets by this.
   */
  linkBase?: number
  /** The innermost function that holds `offset`, with its inline calls; null where nothing covers it. */
  lookup(offset: number): SymbolHit | null
  /** The call-frame rules in force at `offset`; null where there are none. */
  cfi(offset: number): CfiRules | null
  /** Windows' x86 frame data in force at `offset`; sources that have none leave it out. */
  windowsFrame?(offset: number): WindowsFrame | null
  /** The code's bytes from `offset` on, at most `length`; null where the file has none, or sources don't keep them. */
  code?(offset: number, length: number): Uint8Array | null
  /** Where Zephyr keeps its threads, when this is its firmware and was built to say so. */
  threadInfo?: ThreadInfo
}

/** Offsets in the kernel's structures (CONFIG_DEBUG_THREAD_INFO); null where the firmware has no such field. */
export interface ThreadInfo {
  /** The address of the kernel's structure. */
  kernel: number | null
  width: 4 | 8
  currentThread: number
  threads: number
  nextThread: number
  stackPointer: number | null
  name: number | null
  /** Of the byte that says how the thread was interrupted: the low one of EXC_RETURN. */
  exceptionReturn: number | null
}

export interface SymbolHit {
  /** As the symbol file has it; demangling is for the reader. */
  function: string
  /** Offset of the function's first byte. */
  functionOffset: number
  file: string | null
  line: number | null
  /** Outermost last: what the peers list as inlines of the frame. */
  inlines: { function: string; file: string | null; line: number | null }[]
  /** A PUBLIC name or symbol-table entry without a size: it may be any function after it. */
  approximate: boolean
}

/** Register -> Breakpad postfix expression; `.cfa` and `.ra` included. */
export type CfiRules = ReadonlyMap<string, string>

/** A STACK WIN record: sizes in bytes, and either a program (frame data) or the fixed layout of FPO. */
export interface WindowsFrame {
  parameters: number
  savedRegisters: number
  locals: number
  program: string | null
  /** Without a program: ebp is among the saved registers. */
  savesBasePointer: boolean
}
