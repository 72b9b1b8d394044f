/**
 * Dump: the one type that every format parser fills and everything after it reads.
 *
 * Addresses may be any 64-bit value (0x4141414141414141 is the interesting one). At this edge they are bigint; inside
 * the unwinder a frame is a module and a numeric offset, and no look-up touches a bigint (they cost ten times a number).
 */
export type Cpu = 'x86' | 'x86-64' | 'arm' | 'arm64' | 'riscv32' | 'riscv64' | 'xtensa' | 'mips' | 'mips64' | 'unknown'
export type Os = 'linux' | 'android' | 'windows' | 'macos' | 'ios' | 'zephyr' | 'esp-idf' | 'bare-metal' | 'unknown'

export interface Dump {
  /** Which parser read it. */
  format: 'minidump' | 'microdump' | 'elf-core' | 'zephyr-coredump' | 'esp-coredump' | 'esp-panic' | 'sanitizer' | 'js-stack' | 'text'
  os: Os
  osVersion: string | null
  cpu: Cpu
  /** What the dump itself says went wrong; null when it says nothing. */
  exception: Exception | null
  /** Index into `threads`; null when the dump doesn't say. */
  crashingThread: number | null
  threads: DumpThread[]
  /** Sorted by base, not overlapping (the first of two that overlap stays). */
  modules: Module[]
  /** Index into `modules` of the program itself. */
  mainModule: number | null
  unloadedModules: Module[]
  memory: Memory
  /** Permissions where the dump knows them (Linux maps, memory info), sorted by base. */
  regions: MemoryRegion[]
  /** Crashpad annotations, Breakpad strings, abort messages: hostile text. */
  annotations: Record<string, string>
  abortMessage: string | null
  pid: number | null
  /** Seconds since the epoch as the dump claims. */
  createdAt: number | null
  /** Zephyr's kernel structure as the dump has it: how it is laid out, the firmware's symbols say. */
  kernel?: Uint8Array
  /** What only some formats and clients say beside all that. */
  facts?: DumpFacts
  /** What was missing or lied; half a dump is a result. */
  notes: Note[]
}

export interface DumpFacts {
  /** `family 6 model 63 stepping 2`. */
  cpuInfo: string | null
  cpuCount: number | null
  cpuMicrocode: string | null
  /** Seconds from the start of the process to the dump. */
  uptime: number | null
  /** Lines of /proc/self/maps. */
  memoryMapCount: number | null
  distribution: Distribution | null
  macCrashInfo: MacCrashRecord[]
  macBootArguments: string | null
}

/** /etc/lsb-release or os-release; '' where it doesn't say. */
export interface Distribution { id: string; release: string; codename: string; description: string }

/** A library's last words on macOS and iOS: `abort() called`, `BUG IN CLIENT OF LIBDISPATCH: ...`. */
export interface MacCrashRecord {
  thread: bigint
  dialogMode: bigint
  abortCause: bigint
  module: string
  message: string
  signature_string: string
  backtrace: string
  message2: string
}

export interface Note { slug: string; text: string }

export interface Exception {
  /** As the peers print it, e.g. `SIGSEGV / SEGV_MAPERR`, `EXCEPTION_ACCESS_VIOLATION_READ`, `heap-buffer-overflow`. */
  type: string
  /** Signal number, or the platform's exception code. */
  code: number
  /** si_code, Mach subcode or the first exception parameter. */
  subcode: number | null
  address: bigint | null
  access: Access
}
export type Access = 'read' | 'write' | 'execute' | 'free' | 'unknown'

export interface DumpThread {
  id: number
  name: string | null
  /** By the architecture's own names, in its usual order; null without a context. */
  registers: Map<string, bigint> | null
  /** The thread's stack memory: base address, and bytes from `memory`. */
  stack: { base: bigint; size: number } | null
  /** Frames that the format already brings (text formats); native formats leave null and are unwound. */
  frames: TextFrame[] | null
  /** Instructions that the device listed itself, innermost first: they are named, and nothing is unwound. */
  given?: bigint[]
}

/** A frame as a text format prints it. */
export interface TextFrame {
  address: bigint | null
  module: string | null
  moduleOffset: number | null
  function: string | null
  file: string | null
  line: number | null
  column: number | null
  inline: boolean
}

export interface Module {
  base: bigint
  size: number
  /** Path or name as the dump gives it. */
  name: string
  /** Lower-case hex build id (ELF) or the platform's code identifier. */
  codeId: string | null
  /** Breakpad's form: 32 upper-case hex digits of the GUID, and the age. */
  debugId: string | null
  debugFile: string | null
  version: string | null
  /** How the SHA-256 of the ELF file itself begins, lower-case hex: ESP-IDF's name for a build. */
  elfSha256?: string | null
  /** Runs where it was linked (firmware): `base` plus an offset is the address in its symbols, whatever range the dump gives it. */
  linked?: true
}

export interface MemoryRegion { base: bigint; size: bigint; read: boolean; write: boolean; execute: boolean; name: string | null }

/** Reads of the dumped memory; `null` where the dump has no such bytes. Little-endian unless the format says otherwise. */
export interface Memory {
  bytes(address: bigint, length: number): Uint8Array | null
  u8(address: bigint): number | null
  u32(address: bigint): number | null
  u64(address: bigint): bigint | null
  /** The dumped ranges, sorted. */
  ranges(): readonly { base: bigint; size: number }[]
}
