/**
 * What an exception record means, in the words of rust-minidump: `SIGSEGV / SEGV_MAPERR`, `EXCEPTION_ACCESS_VIOLATION_READ`,
 * `EXC_BAD_ACCESS / KERN_INVALID_ADDRESS`. The numbers are those of signal.h and siginfo.h (Linux), winnt.h and ntstatus.h
 * (Windows: windows-codes.ts), and mach/exception_types.h with its per-CPU codes (macOS, iOS).
 */
import type { Access, Cpu, Os } from './dump.ts'
import { FAST_FAIL, windowsName } from './windows-codes.ts'

export interface ExceptionRecord {
  code: number
  /** Linux: si_code. macOS: the Mach exception's code. Windows: flags. */
  flags: number
  address: bigint
  parameters: bigint[]
}

export interface Reason { type: string; subcode: number | null; address: bigint; access: Access }

export function crashReason(record: ExceptionRecord, os: Os, cpu: Cpu): Reason {
  const narrow = cpu === 'x86' || cpu === 'arm' || cpu === 'riscv32' || cpu === 'mips'
  const clip = (address: bigint): bigint => (narrow ? address & 0xffff_ffffn : address)
  switch (os) {
    case 'windows':
      return windowsReason(record, clip)
    case 'macos':
    case 'ios':
      return { type: machReason(record, cpu), subcode: record.flags, address: clip(record.address), access: 'unknown' }
    case 'linux':
    case 'android':
      return { type: linuxReason(record), subcode: record.flags | 0, address: clip(record.address), access: 'unknown' }
    default:
      return { type: `unknown ${hex32(record.code)} / ${hex32(record.flags)}`, subcode: record.flags, address: clip(record.address), access: 'unknown' }
  }
}

// ---- Linux

const SIGNALS: Record<number, string> = {
  1: 'SIGHUP', 2: 'SIGINT', 3: 'SIGQUIT', 4: 'SIGILL', 5: 'SIGTRAP', 6: 'SIGABRT', 7: 'SIGBUS', 8: 'SIGFPE', 9: 'SIGKILL', 10: 'SIGUSR1', 11: 'SIGSEGV',
  12: 'SIGUSR2', 13: 'SIGPIPE', 14: 'SIGALRM', 15: 'SIGTERM', 16: 'SIGSTKFLT', 17: 'SIGCHLD', 18: 'SIGCONT', 19: 'SIGSTOP', 20: 'SIGTSTP', 21: 'SIGTTIN',
  22: 'SIGTTOU', 23: 'SIGURG', 24: 'SIGXCPU', 25: 'SIGXFSZ', 26: 'SIGVTALRM', 27: 'SIGPROF', 28: 'SIGWINCH', 29: 'SIGIO', 30: 'SIGPWR', 31: 'SIGSYS',
  // Breakpad's own: a dump that the program asked for.
  0xffff_ffff: 'DUMP_REQUESTED',
}

/** si_code by signal, from 1 on. */
const SIGNAL_CODES: Record<number, string[]> = {
  4: ['ILL_ILLOPC', 'ILL_ILLOPN', 'ILL_ILLADR', 'ILL_ILLTRP', 'ILL_PRVOPC', 'ILL_PRVREG', 'ILL_COPROC', 'ILL_BADSTK', 'ILL_BADIADDR'],
  5: ['TRAP_BRKPT', 'TRAP_TRACE', 'TRAP_BRANCH', 'TRAP_HWBKPT', 'TRAP_UNK', 'TRAP_PERF'],
  7: ['BUS_ADRALN', 'BUS_ADRERR', 'BUS_OBJERR', 'BUS_MCEERR_AR', 'BUS_MCEERR_AO'],
  8: ['FPE_INTDIV', 'FPE_INTOVF', 'FPE_FLTDIV', 'FPE_FLTOVF', 'FPE_FLTUND', 'FPE_FLTRES', 'FPE_FLTINV', 'FPE_FLTSUB', '', '', '', '', '', 'FPE_FLTUNK', 'FPE_CONDTRAP'],
  11: ['SEGV_MAPERR', 'SEGV_ACCERR', 'SEGV_BNDERR', 'SEGV_PKUERR', 'SEGV_ACCADI', 'SEGV_ADIDERR', 'SEGV_ADIPERR', 'SEGV_MTEAERR', 'SEGV_MTESERR', 'SEGV_CPERR'],
  31: ['SYS_SECCOMP', 'SYS_USER_DISPATCH'],
}

/** si_code of any signal: who sent it. */
const SENDER_CODES: Record<number, string> = {
  [-1]: 'SI_QUEUE', [-2]: 'SI_TIMER', [-3]: 'SI_MESGQ', [-4]: 'SI_ASYNCIO', [-5]: 'SI_SIGIO', [-6]: 'SI_TKILL', [-7]: 'SI_DETHREAD', [-60]: 'SI_ASYNCNL', 0x80: 'SI_KERNEL',
}

function linuxReason({ code, flags }: ExceptionRecord): string {
  const signal = SIGNALS[code]
  if (signal === undefined) return `unknown ${hex32(code)} / ${hex32(flags)}`
  // 0 is SI_USER, and what clients that don't record si_code leave: it says nothing.
  if (flags === 0) return signal
  const detail = SIGNAL_CODES[code]?.[flags - 1] || SENDER_CODES[flags | 0]
  return `${signal} / ${detail ?? hex32(flags)}`
}

// ---- macOS and iOS

const MACH_EXCEPTIONS: Record<number, string> = {
  1: 'EXC_BAD_ACCESS', 2: 'EXC_BAD_INSTRUCTION', 3: 'EXC_ARITHMETIC', 4: 'EXC_EMULATION', 5: 'EXC_SOFTWARE', 6: 'EXC_BREAKPOINT', 7: 'EXC_SYSCALL',
  8: 'EXC_MACH_SYSCALL', 9: 'EXC_RPC_ALERT', 10: 'EXC_CRASH', 11: 'EXC_RESOURCE', 12: 'EXC_GUARD', 13: 'EXC_CORPSE_NOTIFY',
}

const KERN_CODES: Record<number, string> = {
  1: 'KERN_INVALID_ADDRESS', 2: 'KERN_PROTECTION_FAILURE', 3: 'KERN_NO_SPACE', 4: 'KERN_INVALID_ARGUMENT', 5: 'KERN_FAILURE', 6: 'KERN_RESOURCE_SHORTAGE',
  8: 'KERN_NO_ACCESS', 9: 'KERN_MEMORY_FAILURE', 10: 'KERN_MEMORY_ERROR', 14: 'KERN_ABORTED', 46: 'KERN_NOT_SUPPORTED', 49: 'KERN_OPERATION_TIMED_OUT', 50: 'KERN_CODESIGN_ERROR',
}

const MACH_CPU_CODES: Partial<Record<Cpu, Record<number, Record<number, string>>>> = {
  'x86-64': {
    1: { 13: 'EXC_I386_GPFLT' },
    2: { 1: 'EXC_I386_INVOP', 10: 'EXC_I386_INVTSSFLT', 11: 'EXC_I386_SEGNPFLT', 12: 'EXC_I386_STKFLT', 13: 'EXC_I386_GPFLT', 17: 'EXC_I386_ALIGNFLT' },
    3: { 1: 'EXC_I386_DIV', 2: 'EXC_I386_INTO', 3: 'EXC_I386_NOEXT', 4: 'EXC_I386_EXTOVR', 5: 'EXC_I386_EXTERR', 6: 'EXC_I386_EMERR', 7: 'EXC_I386_BOUND', 8: 'EXC_I386_SSEEXTERR' },
    6: { 1: 'EXC_I386_SGL', 2: 'EXC_I386_BPT' },
  },
  arm64: {
    1: { 0x101: 'EXC_ARM_DA_ALIGN', 0x102: 'EXC_ARM_DA_DEBUG', 0x103: 'EXC_ARM_SP_ALIGN', 0x104: 'EXC_ARM_SWP', 0x105: 'EXC_ARM_PAC_FAIL' },
    2: { 1: 'EXC_ARM_UNDEFINED' },
    6: { 1: 'EXC_ARM_BREAKPOINT' },
  },
}
MACH_CPU_CODES.x86 = MACH_CPU_CODES['x86-64']!
MACH_CPU_CODES.arm = MACH_CPU_CODES.arm64!

const MACH_SOFTWARE: Record<number, string> = {
  0x10000: 'EXC_UNIX_BAD_SYSCALL', 0x10001: 'EXC_UNIX_BAD_PIPE', 0x10002: 'EXC_UNIX_ABORT', 0x10003: 'SIGABRT', 0xdeadc0de: 'UNCAUGHT_NS_EXCEPTION',
  0xe06d7363: 'UNHANDLED_CPP_EXCEPTION', 0x43507378: 'SIMULATED',
}

/** EXC_RESOURCE: which resource (bits 63..61 of the 64-bit code, whose upper half clients store) and which limit (bits 60..58). */
const RESOURCES: [type: string, flavors: string[]][] = [
  ['', []], ['RESOURCE_TYPE_CPU', ['', 'FLAVOR_CPU_MONITOR', 'FLAVOR_CPU_MONITOR_FATAL']], ['RESOURCE_TYPE_WAKEUPS', ['', 'FLAVOR_WAKEUPS_MONITOR']],
  ['RESOURCE_TYPE_MEMORY', ['', 'FLAVOR_HIGH_WATERMARK']], ['RESOURCE_TYPE_IO', ['', 'FLAVOR_IO_PHYSICAL_WRITES', 'FLAVOR_IO_LOGICAL_WRITES']],
  ['RESOURCE_TYPE_THREADS', ['', 'FLAVOR_THREADS_HIGH_WATERMARK']],
]

/** EXC_GUARD: what was guarded (the same three bits) and what was done to it (a bit each from 32 on). */
const GUARDS: [type: string, flavors: string[]][] = [
  ['GUARD_TYPE_NONE', []], ['GUARD_TYPE_MACH_PORT', ['GUARD_EXC_DESTROY', 'GUARD_EXC_MOD_REFS', 'GUARD_EXC_SET_CONTEXT', 'GUARD_EXC_UNGUARDED', 'GUARD_EXC_INCORRECT_GUARD']],
  ['GUARD_TYPE_FD', ['GUARD_EXC_CLOSE', 'GUARD_EXC_DUP', 'GUARD_EXC_NOCLOEXEC', 'GUARD_EXC_SOCKET_IPC', 'GUARD_EXC_FILEPORT', 'GUARD_EXC_MISMATCH', 'GUARD_EXC_WRITE']],
  ['GUARD_TYPE_USER', []], ['GUARD_TYPE_VN', ['GUARD_EXC_RENAME_TO', 'GUARD_EXC_RENAME_FROM', 'GUARD_EXC_UNLINK', 'GUARD_EXC_WRITE_OTHER', 'GUARD_EXC_TRUNC_OTHER', 'GUARD_EXC_LINK', 'GUARD_EXC_EXCHDATA']],
  ['GUARD_TYPE_VIRT_MEMORY', ['GUARD_EXC_DEALLOC_GAP']],
]

function resourceDetail(code: number): string | undefined {
  const [type, flavors] = RESOURCES[code >>> 29] ?? ['', []]
  return type === '' ? undefined : `${type} / ${flavors[(code >>> 26) & 7] || hex32(code)}`
}

function guardDetail(code: number): string | undefined {
  const [type, flavors] = GUARDS[code >>> 29] ?? ['', []]
  const flavor = flavors.find((_, bit) => ((code >>> bit) & 1) === 1)
  return type === '' ? undefined : `${type} / ${flavor ?? hex32(code)}`
}

function machReason({ code, flags }: ExceptionRecord, cpu: Cpu): string {
  const name = MACH_EXCEPTIONS[code]
  if (name === undefined) return `unknown ${hex32(code)} / ${hex32(flags)}`
  if (code === 11 || code === 12) return `${name} / ${(code === 11 ? resourceDetail(flags) : guardDetail(flags)) ?? hex32(flags)}`
  const detail = (code === 1 ? KERN_CODES[flags] : code === 5 ? MACH_SOFTWARE[flags] : undefined) ?? MACH_CPU_CODES[cpu]?.[code]?.[flags]
  return `${name} / ${detail ?? hex32(flags)}`
}

// ---- Windows

const ACCESS_VIOLATION = 0xc000_0005
const IN_PAGE_ERROR = 0xc000_0006
const STACK_BUFFER_OVERRUN = 0xc000_0409

function windowsReason(record: ExceptionRecord, clip: (address: bigint) => bigint): Reason {
  const { code, flags, parameters } = record
  const reason: Reason = { type: windowsName(code), subcode: parameters.length > 0 ? Number(BigInt.asUintN(32, parameters[0]!)) : flags, address: clip(record.address), access: 'unknown' }
  if ((code === ACCESS_VIOLATION || code === IN_PAGE_ERROR) && parameters.length >= 2) {
    // Parameter 0: 0 read, 1 write, 8 execution prevented. Parameter 1: the address that was touched.
    const access = ({ 0: 'read', 1: 'write', 8: 'execute' } as const)[Number(BigInt.asUintN(32, parameters[0]!)) as 0 | 1 | 8]
    reason.address = clip(parameters[1]!)
    if (access) {
      reason.access = access
      reason.type += { read: '_READ', write: '_WRITE', execute: '_EXEC' }[access]
    }
    if (code === IN_PAGE_ERROR && parameters.length >= 3) reason.type += ` / ${windowsName(Number(BigInt.asUintN(32, parameters[2]!)))}`
  }
  if (code === STACK_BUFFER_OVERRUN && parameters.length >= 1) {
    const subcode = Number(BigInt.asUintN(32, parameters[0]!))
    reason.type += ` / ${FAST_FAIL[subcode] ?? hex32(subcode)}`
  }
  return reason
}

const hex32 = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, '0')}`
