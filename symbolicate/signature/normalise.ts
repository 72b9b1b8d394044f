/**
 * One function, one name: whatever a compiler, a linker or an optimisation level adds to a name goes, so that a rebuild
 * doesn't split a bucket. The steps in order, each on the result of the one before:
 *
 *   demangle                    _ZN3foo3barEi                     foo::bar(int)
 *   clone and version suffixes  run.constprop.0.cold              run
 *   hashes                      write::h0123456789abcdef          write
 *   unnamed scopes              (anonymous namespace)::f          (anon)::f
 *   Swift's sentences         protocol witness for A.f() -> Int     A.f
 *   lambdas and closures        main::{lambda(int)#2}, $_0        main::{lambda}
 *   parameters                  foo::bar(int) const               foo::bar
 *   template arguments          map<int, char>::at                map<T>::at
 *   return types                void foo<T>                       foo<T>
 *   CPU variants                __memmove_avx_unaligned_erms      memmove
 */
import { demangle } from '../symbols/demangle.ts'

const MAX_LENGTH = 240
/** What is beyond is template arguments, which go anyway. */
const MAX_INPUT = 2_048

/** Fleets crash in the same functions, and each name is asked for by evidence and signature. */
const remembered = new Map<string, string>()
const MOST_REMEMBERED = 8_192
const LONGEST_REMEMBERED = 512

export function normaliseName(raw: string): string {
  const before = remembered.get(raw)
  if (before !== undefined) return before
  const name = normalise(raw)
  if (raw.length > LONGEST_REMEMBERED) return name
  if (remembered.size >= MOST_REMEMBERED) remembered.clear()
  remembered.set(raw, name)
  return name
}

function normalise(raw: string): string {
  const name = STEPS.reduce((text, step) => step(text), demangle(raw).slice(0, MAX_INPUT)).replace(/\s+/g, ' ').trim()
  return (name === '' ? raw : name).slice(0, MAX_LENGTH).replaceAll(' | ', '|')
}

const STEPS: readonly ((name: string) => string)[] = [
  stripSuffixes, stripHashes, plainSwift, nameScopes, stripParameters, stripTemplates, stripReturnType, stripSuffixes, foldCpuVariants,
]

const SUFFIX = /(?:\.(?:isra|part|constprop|cold|lto_priv|llvm|localalias|cfi|cfi_jt|str|__uniq)(?:\.\d+)*|\$[0-9a-f]{32}|@{1,2}[A-Za-z][\w.]*|\s?\[clone [^\][]{1,80}\]|\s?\[inlined\]|\+0x[0-9a-fA-F]+)$/

function stripSuffixes(name: string): string {
  for (let rounds = 0; rounds < 8; rounds++) {
    const tail = SUFFIX.exec(name.slice(-120))
    if (!tail || tail[0].length >= name.length) return name
    name = name.slice(0, name.length - tail[0].length)
  }
  return name
}

function stripHashes(name: string): string {
  return name.replace(/::h[0-9a-f]{16}(?=$|\W)/g, '')
}

/** Swift demangles to sentences: what kind of thunk, the name, ` throws -> ` its result, ` in conformance ` whose. */
function plainSwift(name: string): string {
  if (!/ -> |^(?:protocol witness|partial apply|closure #\d|specialized|generic specialization|function signature specialization) /.test(name)) return name
  const inner = /^(?:closure #\d|partial apply|(?:generic|function signature) specialization)/.test(name) ? name.slice(Math.max(0, name.lastIndexOf(' in ') + 4, name.lastIndexOf(' of ') + 4)) : name
  return inner.replace(/^(?:protocol witness for|specialized) /, '').replace(/ in conformance .*$/, '').replace(/\((\w+) in _[0-9A-F]{32}\)/g, '$1').replace(/(?: throws)? -> .*$/, '')
}

function nameScopes(name: string): string {
  return name
    .replaceAll('(anonymous namespace)', '(anon)').replaceAll("`anonymous namespace'", '(anon)').replaceAll('`anonymous-namespace\'', '(anon)').replaceAll('{anonymous}', '(anon)')
    .replace(/\{lambda\([^{}]{0,400}\)#\d+\}/g, '{lambda}').replace(/'lambda\d*'/g, '{lambda}').replace(/\$_\d+/g, '{lambda}').replace(/<lambda_[0-9a-f]+>/g, '{lambda}')
    .replace(/\{\{closure\}\}/g, '{closure}').replace(/\{(closure|impl|shim|vtable\.shim)(?::\w+)?#\d+\}/g, '{$1}')
}

/** Removes each balanced (...), but `(anon)`, `operator()` and Go's receivers `(*T)`. */
function stripParameters(name: string): string {
  let out = ''
  for (let i = 0; i < name.length; i++) {
    const c = name[i]!
    if (c !== '(') { out += c; continue }
    const kept = name.startsWith('(anon)', i) ? 6 : out.endsWith('operator') && name[i + 1] === ')' ? 2 : out.endsWith('.') && name[i + 1] === '*' ? closing(name, i, '(', ')') - i + 1 : 0
    if (kept > 0) { out += name.slice(i, i + kept); i += kept - 1; continue }
    i = closing(name, i, '(', ')')
  }
  return out.replace(/(?: (?:const|volatile|noexcept|&{1,2}))+(?=$|::)/g, '')
}

/** `<...>` becomes `<T>`. Rust's `<A as B>::f` starts with one that is the name itself: its inside is kept. */
function stripTemplates(name: string): string {
  if (name[0] === '<' && name.includes('>')) {
    const end = closing(name, 0, '<', '>')
    return `<${replaceTemplates(name.slice(1, end))}>${replaceTemplates(name.slice(end + 1))}`
  }
  return replaceTemplates(name)
}

function replaceTemplates(name: string): string {
  let out = ''
  for (let i = 0; i < name.length; i++) {
    const c = name[i]!
    if (/operator[<>=-]*$/.test(out.slice(-12)) && '<>=-'.includes(c)) { out += c; continue }
    if (c !== '<') { out += c; continue }
    out += '<T>'
    i = closing(name, i, '<', '>')
  }
  // Rust writes generic arguments of a function as `f::<T>`, and older compilers leave them out.
  return out.replace(/::<T>/g, '')
}

/** What stands before the last blank, unless it belongs to `operator new`, `operator bool` or Objective-C's brackets. */
function stripReturnType(name: string): string {
  if (/^[-+]\[/.test(name) || name.startsWith('<')) return name
  const operator = name.search(/\boperator\b/)
  const space = name.lastIndexOf(' ', operator < 0 ? undefined : operator)
  return space < 0 ? name : name.slice(space + 1).replace(/^[*&]+/, '')
}

/** glibc picks one of these by the CPU at start: the same bug must not depend on it. */
function foldCpuVariants(name: string): string {
  return /^_{0,2}(mem\w{2,8}?|str\w{2,9}?|wcs\w{2,9}?|wmem\w{2,8}?|bcopy|bzero)_(?:(?:sse\d?|sse\d_\d|ssse3|avx\d*|evex\d*|erms|unaligned|no_vzeroupper|rtm|generic|neon|a64fx|falkor|thunderx\d?|mops|sve|asimd|back|l|pclmul|x86|bsf|chk)_?)+$/.exec(name)?.[1] ?? name
}

function closing(text: string, open: number, opener: string, closer: string): number {
  let depth = 0
  for (let i = open; i < text.length; i++) {
    if (text[i] === opener) depth++
    else if (text[i] === closer && text[i - 1] !== '-') { if (--depth === 0) return i }
  }
  return text.length
}

/** A message without what changes from crash to crash: numbers, addresses, hashes, paths and quoted text. */
export const parameteriseMessage = (message: string): string => message.slice(0, 1_000)
  .replace(/(["'`])(?:(?!\1).){1,200}\1/g, 'TEXT')
  .replace(/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, 'ID')
  .replace(/\b(?:https?|file):\/\/\S+/g, 'URL')
  .replace(/(?:[A-Za-z]:)?(?:[\\/][\w.+@~-]{1,100}){2,40}/g, 'PATH')
  .replace(/\b0x[0-9a-fA-F]+\b/g, 'ADDRESS')
  .replace(/\b(?=\w*\d)[0-9a-fA-F]{12,}\b/g, 'HASH')
  .replace(/\d+(?:\.\d+)?/g, 'NUMBER')
  .replace(/[^\x20-\x7e]+/g, ' ').replaceAll(' | ', '|').replace(/\s+/g, ' ').trim().slice(0, 120)
