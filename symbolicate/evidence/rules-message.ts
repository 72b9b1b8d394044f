/**
 * Mitigations and checks that caught the fault and said so: by the words they print (glibc, bionic, Scudo, newlib,
 * ESP-IDF, LLVM), or, where the dump lost the words, by the functions that stand above the program on the stack.
 */
import type { Situation } from './situation.ts'
import type { EvidenceRule, Verdict } from './verdict.ts'

interface Phrase extends Pick<Verdict, 'kind' | 'class' | 'severity' | 'cwe'> { contains: string; means: string }

const STACK: Pick<Verdict, 'kind' | 'class' | 'severity' | 'cwe'> = { kind: 'stack-guard', class: 3, severity: 'probably-exploitable', cwe: [121] }
const HEAP: Pick<Verdict, 'kind' | 'class' | 'severity' | 'cwe'> = { kind: 'heap-corruption', class: 3, severity: 'probably-exploitable', cwe: [122, 787] }
const DOUBLE: Pick<Verdict, 'kind' | 'class' | 'severity' | 'cwe'> = { kind: 'double-free', class: 3, severity: 'exploitable', cwe: [415] }
const FORTIFY: Pick<Verdict, 'kind' | 'class' | 'severity' | 'cwe'> = { kind: 'buffer-overflow', class: 3, severity: 'probably-exploitable', cwe: [120, 787] }
const FORMAT: Pick<Verdict, 'kind' | 'class' | 'severity' | 'cwe'> = { kind: 'format-string', class: 4, severity: 'exploitable', cwe: [134] }
const CONTROL: Pick<Verdict, 'kind' | 'class' | 'severity' | 'cwe'> = { kind: 'control-flow', class: 4, severity: 'exploitable', cwe: [119] }
const CFI: Pick<Verdict, 'kind' | 'class' | 'severity' | 'cwe'> = { kind: 'cfi-violation', class: 4, severity: 'exploitable', cwe: [843, 787] }

/** The first that the message contains decides. */
export const PHRASES: readonly Phrase[] = [
  { contains: '%n in writable segment detected', ...FORMAT, means: 'a format string in writable memory holds %n: hardly any honest program does this' },
  { contains: 'invalid %N$ use detected', ...FORMAT, means: 'a format string skips arguments: hardly any honest program does this' },
  { contains: 'longjmp causes uninitialized stack frame', ...CONTROL, means: 'a saved jump buffer was changed' },
  { contains: 'stack smashing detected', ...STACK, means: 'the stack protector found its canary overwritten' },
  { contains: 'stack corruption detected', ...STACK, means: 'the stack protector found its canary overwritten' },
  { contains: 'Stack smashing protect failure', ...STACK, means: 'the stack protector found its canary overwritten' },
  { contains: 'buffer overflow detected', ...FORTIFY, means: 'FORTIFY_SOURCE stopped a write past the end of a buffer' },
  { contains: 'FORTIFY: ', ...FORTIFY, means: 'FORTIFY_SOURCE stopped an access past the end of a buffer' },
  { contains: 'CFI: Most likely a control flow integrity violation', ...CFI, means: 'an indirect call went to a function of another type' },
  { contains: 'double free', ...DOUBLE, means: 'the allocator was handed the same block twice' },
  { contains: 'invalid chunk state when deallocating', ...DOUBLE, means: 'the allocator was handed a block that is not in use' },
  { contains: 'free(): invalid pointer', ...HEAP, means: 'the allocator was handed an address that it never gave out' },
  { contains: 'invalid size', ...HEAP, means: 'the allocator found a block size that can not be' },
  { contains: 'invalid next size', ...HEAP, means: 'the allocator found the block after this one overwritten' },
  { contains: 'corrupted top size', ...HEAP, means: 'the allocator found the end of its heap overwritten' },
  { contains: 'corrupted size vs. prev_size', ...HEAP, means: 'the allocator found two block sizes that disagree' },
  { contains: 'corrupted double-linked list', ...HEAP, means: 'the allocator found its list of free blocks overwritten' },
  { contains: 'corrupted unsorted chunks', ...HEAP, means: 'the allocator found its list of free blocks overwritten' },
  { contains: 'unaligned tcache chunk', ...HEAP, means: 'the allocator found its list of free blocks overwritten' },
  { contains: 'unaligned fastbin chunk', ...HEAP, means: 'the allocator found its list of free blocks overwritten' },
  { contains: 'mismatching next->prev_size', ...HEAP, means: 'the allocator found two block sizes that disagree' },
  { contains: 'corrupted chunk header', ...HEAP, means: 'the allocator found a block header overwritten' },
  { contains: 'CORRUPT HEAP', ...HEAP, means: 'the allocator found a block\'s guard words overwritten' },
]

const CANARY = new Set(['__stack_chk_fail', '__stack_chk_fail_local', '__report_gsfailure'])
const FORTIFIED = new Set(['__chk_fail', '__fortify_chk_fail', '__fortify_fatal', '__fortify_fail'])
const ASSERTS = /^(?:__assert(?:_fail(?:_base)?|_rtn|_func|2)?|_assert|_wassert|__GI___assert_fail|__android_log_assert)$/
const PANICS = /^(?:rust_begin_unwind|rust_panic|core::panicking::|std::panicking::|panic_abort::|__rust_start_panic)/
const UNCAUGHT = /^(?:std::terminate|std::__terminate|__cxxabiv1::__terminate|__gnu_cxx::__verbose_terminate_handler|abort_message)$/
export const ALLOCATOR = /^(?:(?:__libc_)?(?:free|malloc|calloc|realloc|memalign)|cfree|posix_memalign|_int_(?:free|malloc|realloc)|malloc_consolidate|unlink_chunk|unmap_chunk|get_meta|nontrivial_free|operator (?:new|delete)(?:\[\])?)$/

/** Above the program's own frames: as far as an abort's own machinery reaches. */
const ABORT_FRAMES = 12

export const MESSAGE_RULES: readonly EvidenceRule[] = [
  { slug: 'mitigation-message', judge: ({ message, sanitizer }) => {
    const phrase = sanitizer === null ? PHRASES.find(({ contains }) => message.includes(contains)) : undefined
    return phrase === undefined ? null : { ...phrase, text: `"${phrase.contains}": ${phrase.means}` }
  } },
  { slug: 'canary-function', judge: (situation) => above(situation, (name) => CANARY.has(name), (name) => ({ ...STACK, text: `${name} ended the program: the stack protector found its canary overwritten` })) },
  { slug: 'fortify-function', judge: (situation) => above(situation, (name) => FORTIFIED.has(name), (name) => ({ ...FORTIFY, text: `${name} ended the program: FORTIFY_SOURCE stopped an access past the end of a buffer` })) },
  { slug: 'cfi-function', judge: (situation) => above(situation, (name) => name.startsWith('__cfi_check_fail') || name.startsWith('__cfi_slowpath'), (name) => ({ ...CFI, text: `${name} ended the program: an indirect call went to a function of another type` })) },
  { slug: 'fast-fail', judge: ({ signal, code }) => (signal === 'EXCEPTION_STACK_BUFFER_OVERRUN' ? fastFail(code) : signal === 'EXCEPTION_HEAP_CORRUPTION' || signal === 'STATUS_HEAP_CORRUPTION' ? { ...HEAP, text: 'Windows found its heap damaged' } : null) },
  { slug: 'assert-function', judge: (situation) => above(situation, (name) => ASSERTS.test(name), (name) => ({ kind: 'assertion', class: 1, severity: 'not-exploitable', cwe: [617], text: `${name} ended the program: one of its own checks failed` })) },
  { slug: 'panic-function', judge: (situation) => above(situation, (name) => PANICS.test(name), (name) => ({ kind: 'panic', class: 1, severity: 'not-exploitable', cwe: [617], text: `${name}: the program panicked` })) },
  { slug: 'uncaught-exception', judge: (situation) => above(situation, (name) => UNCAUGHT.test(name), (name) => ({ kind: 'exception', class: 1, severity: 'not-exploitable', cwe: [248], text: `${name}: no handler for an exception` })) },
  // malloc and free call abort through functions that symbol tables don't name: only damage makes them.
  { slug: 'allocator-abort', judge: (situation) => (isAbort(situation) ? above(situation, (name) => ALLOCATOR.test(name), (name) => ({ ...HEAP, text: `${name} ended the program itself: the allocator found its heap damaged` })) : null) },
  { slug: 'allocator-fault', judge: (situation) => {
    const name = situation.functions[0] ?? ''
    const stopped = situation.instruction?.does === 'privileged' || situation.instruction?.does === 'undefined' || /^SIGILL|^SIGTRAP/.test(situation.signal)
    // A null pointer handed to the allocator is legal; one that it met inside is not its caller's.
    const fault = situation.memoryFault && (situation.addressClass !== 'null' || situation.access === 'write')
    if (!ALLOCATOR.test(name) || !(stopped || fault) || situation.sanitizer !== null) return null
    return { ...HEAP, text: stopped ? `${name} stopped itself (as musl's a_crash does, without a word): the allocator found its heap damaged` : `the fault is inside ${name}: the allocator followed a damaged pointer` }
  } },
]

const isAbort = ({ signal, functions }: Situation): boolean => signal === 'SIGABRT' || functions.slice(0, 6).includes('abort')

/** The first of the top frames that is one of these decides; a program's own frame between doesn't matter at this depth. */
function above({ functions, sanitizer }: Situation, is: (name: string) => boolean, verdict: (name: string) => Verdict): Verdict | null {
  const name = sanitizer === null ? functions.slice(0, ABORT_FRAMES).find(is) : undefined
  return name === undefined ? null : verdict(name)
}

/** winnt.h, FAST_FAIL_*: one exception code for many checks. */
function fastFail(code: string): Verdict {
  if (/COOKIE|LEGACY_GS/.test(code)) return { ...STACK, text: `${code}: the stack cookie was overwritten` }
  if (/ICALL|VTGUARD|GUARD_JUMPTABLE|GUARD_EXPORT|GUARD_WRITE|LONGJUMP|SHADOW_STACK|CONTROL_INVALID_RETURN/.test(code)) return { ...CFI, text: `${code}: control went where the program never sends it` }
  if (/HEAP|LIST_ENTRY|RBTREE/.test(code)) return { ...HEAP, text: `${code}: a list or the heap was overwritten` }
  return { kind: 'abort', class: 1, severity: 'not-exploitable', cwe: [617], text: `${code || 'fast fail'}: the program ended itself` }
}
