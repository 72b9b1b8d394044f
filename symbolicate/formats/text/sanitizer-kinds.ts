/**
 * What each sanitizer calls a bug, and which of our kinds it is. Names as compiler-rt prints them
 * (asan_errors.cpp, hwasan_report.cpp, ubsan_diag.cpp and ubsan_handlers.cpp, tsan_report.cpp, msan_report.cpp).
 * `segv` stays open here: which memory fault it was depends on address, access and program counter (evidence/).
 */
import type { CrashKind } from '../../contract.ts'
import type { Access } from '../dump.ts'

export const TOOLS = ['asan', 'hwasan', 'msan', 'tsan', 'ubsan', 'lsan', 'gwp-asan'] as const
export type SanitizerTool = (typeof TOOLS)[number]

export type SanitizerKind = CrashKind | 'segv'

/** First words of a report's header line after the sanitizer's name -> the type as it is printed in SUMMARY. */
export const HEADER_TYPES: readonly (readonly [starts: string, type: string])[] = [
  ['allocator is out of memory', 'out-of-memory'],
  ['allocation-size-too-big', 'allocation-size-too-big'],
  ['attempting double-free', 'double-free'],
  ['attempting free on address which was not', 'bad-free'],
  ['attempting to call malloc_usable_size', 'bad-malloc_usable_size'],
  ['data race', 'data-race'],
  ['detected memory leaks', 'memory-leak'],
  ['double lock of a mutex', 'mutex-misuse'],
  ['heap-use-after-free (virtual call', 'heap-use-after-free'],
  ['lock-order-inversion', 'lock-order-inversion'],
  ['out of memory', 'out-of-memory'],
  ['requested allocation size', 'allocation-size-too-big'],
  ['signal-unsafe call', 'signal-unsafe-call'],
  ['thread leak', 'thread-leak'],
  ['unlock of an unlocked mutex', 'mutex-misuse'],
]

export const KIND_OF_TYPE: Readonly<Record<string, SanitizerKind>> = {
  'ABRT': 'abort',
  'BUS': 'segv',
  'FPE': 'divide-by-zero',
  'ILL': 'illegal-instruction',
  'SEGV': 'segv',
  'TRAP': 'trap',
  'access-violation': 'segv',
  'alloc-dealloc-mismatch': 'invalid-free',
  'allocation-size-too-big': 'out-of-memory',
  'bad-free': 'invalid-free',
  'bad-malloc_usable_size': 'invalid-free',
  'breakpoint': 'trap',
  'calloc-overflow': 'out-of-memory',
  'container-overflow': 'buffer-overflow',
  'data-race': 'data-race',
  'double-free': 'double-free',
  'dynamic-stack-buffer-overflow': 'stack-buffer-overflow',
  'float-divide-by-zero': 'divide-by-zero',
  'global-buffer-overflow': 'global-buffer-overflow',
  'heap-buffer-overflow': 'heap-buffer-overflow',
  'heap-buffer-underflow': 'heap-buffer-overflow',
  'heap-use-after-free': 'use-after-free',
  'illegal-instruction': 'illegal-instruction',
  'initialization-order-fiasco': 'undefined-behaviour',
  'int-divide-by-zero': 'divide-by-zero',
  'intra-object-overflow': 'buffer-overflow',
  'invalid-free': 'invalid-free',
  'invalid-pointer-pair': 'undefined-behaviour',
  'lock-order-inversion': 'data-race',
  'memcpy-param-overlap': 'buffer-overflow',
  'memory-leak': 'memory-leak',
  'mutex-misuse': 'data-race',
  'negative-size-param': 'buffer-overflow',
  'new-delete-type-mismatch': 'invalid-free',
  'odr-violation': 'undefined-behaviour',
  'out-of-memory': 'out-of-memory',
  'rss-limit-exceeded': 'out-of-memory',
  'signal-unsafe-call': 'data-race',
  'stack-buffer-overflow': 'stack-buffer-overflow',
  'stack-buffer-underflow': 'stack-buffer-overflow',
  'stack-overflow': 'stack-exhaustion',
  'stack-use-after-return': 'use-after-free',
  'stack-use-after-scope': 'use-after-free',
  'strcat-param-overlap': 'buffer-overflow',
  'strcpy-param-overlap': 'buffer-overflow',
  'tag-mismatch': 'memory-tag',
  'thread-leak': 'memory-leak',
  'unknown-crash': 'segv',
  'use-after-poison': 'use-after-free',
  'use-of-uninitialized-value': 'uninitialised-value',
}

/** UndefinedBehaviorSanitizer prints sentences. The first that is contained decides; `type` is our name for the check. */
export const UBSAN_CHECKS: readonly { contains: string; type: string; kind: SanitizerKind; access?: Access }[] = [
  { contains: 'control flow integrity check', type: 'cfi-check', kind: 'cfi-violation', access: 'execute' },
  { contains: 'through pointer to incorrect function type', type: 'function-type-mismatch', kind: 'cfi-violation', access: 'execute' },
  { contains: 'which does not point to an object of type', type: 'bad-cast', kind: 'undefined-behaviour' },
  { contains: 'applying ', type: 'pointer-overflow', kind: 'undefined-behaviour' },
  { contains: 'overflowed to', type: 'pointer-overflow', kind: 'undefined-behaviour' },
  { contains: 'null pointer', type: 'null-pointer', kind: 'null-dereference' },
  { contains: 'division by zero', type: 'divide-by-zero', kind: 'divide-by-zero' },
  { contains: 'out of bounds for type', type: 'index-out-of-bounds', kind: 'buffer-overflow' },
  { contains: 'with insufficient space for an object', type: 'object-size', kind: 'buffer-overflow' },
  { contains: 'misaligned address', type: 'misaligned-address', kind: 'misaligned-access' },
  { contains: 'integer overflow', type: 'integer-overflow', kind: 'integer-overflow' },
  { contains: 'negation of', type: 'integer-overflow', kind: 'integer-overflow' },
  { contains: 'implicit conversion', type: 'implicit-conversion', kind: 'integer-overflow' },
  { contains: 'pointer index expression', type: 'pointer-overflow', kind: 'undefined-behaviour' },
  { contains: 'shift', type: 'shift', kind: 'undefined-behaviour' },
  { contains: '', type: 'undefined-behaviour', kind: 'undefined-behaviour' },
]

/** GWP-ASan's own words (gwp_asan/common.cpp ErrorToString). */
export const GWP_TYPES: readonly (readonly [starts: string, type: string, kind: CrashKind])[] = [
  ['Buffer Overflow', 'heap-buffer-overflow', 'heap-buffer-overflow'],
  ['Buffer Underflow', 'heap-buffer-underflow', 'heap-buffer-overflow'],
  ['Double Free', 'double-free', 'double-free'],
  ['Double free', 'double-free', 'double-free'],
  ['Invalid (Wild) Free', 'bad-free', 'invalid-free'],
  ['Invalid (wild) free', 'bad-free', 'invalid-free'],
  ['Use After Free', 'heap-use-after-free', 'use-after-free'],
  ['Use after free', 'heap-use-after-free', 'use-after-free'],
]
