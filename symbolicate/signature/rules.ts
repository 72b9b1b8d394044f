/**
 * The rules from stack to signature, in order. Each takes the candidates and gives back the candidates that stay, and
 * notes what it changed, from what to what and why: so "why is this one bucket" has an answer by construction.
 * The shape is that of Mozilla's siggen; the knowledge is in lists/.
 */
import type { CrashKind, Report, ReportFrame, ReportModule } from '../contract.ts'
import { LISTS, type ListName } from './lists.ts'
import { normaliseName } from './normalise.ts'

export interface Candidate {
  /** What enters the signature; empty while a frame has no name. */
  name: string
  frame: ReportFrame
  /** No symbol names it: `name` is module, build and offset. */
  unresolved: boolean
  /** Shown, not counted. */
  prefix: boolean
}

export interface RuleContext {
  kind: CrashKind
  /** How many frames count. */
  depth: number
  modules: Map<string, ReportModule>
  note(from: string, to: string, why: string): void
}

export interface Rule { name: string; apply(candidates: Candidate[], context: RuleContext): Candidate[] }

/** Longer stacks say nothing more: frames beyond are neither read nor noted. */
const MAX_FRAMES = 256

/** One candidate for each call, the inlined ones included: an optimised build must not split a bucket. */
export function candidatesOf(report: Report): Candidate[] {
  const candidates: Candidate[] = []
  for (const frame of report.crashing_thread?.frames.slice(0, MAX_FRAMES) ?? []) {
    for (const inline of frame.inlines?.slice(0, 64) ?? []) {
      candidates.push({ name: inline.function, frame: { ...frame, function: inline.function, file: inline.file, line: inline.line, approximate: false }, unresolved: false, prefix: false })
    }
    candidates.push({ name: frame.function ?? '', frame, unresolved: frame.function === null, prefix: false })
  }
  return candidates
}

const COUNTED = new Set(['context', 'cfi', 'frame_pointer', 'given'])

const countedTrust: Rule = {
  name: 'counted-trust',
  apply: (candidates, { note }) => candidates.filter(({ name, frame }) => {
    if (COUNTED.has(frame.trust)) return true
    note(name || frame.offset, '', `found by ${frame.trust}: a guess, it may be an old return address`)
    return false
  }),
}

const approximateName: Rule = {
  name: 'approximate-name',
  apply: (candidates, { note }) => candidates.map((candidate) => {
    if (!candidate.frame.approximate) return candidate
    note(candidate.name, '', 'a public name far below this address: it may be any function after it')
    return { ...candidate, name: '', unresolved: true }
  }),
}

const normalisedName: Rule = {
  name: 'normalised-name',
  apply: (candidates, { note }) => candidates.map((candidate) => {
    if (candidate.unresolved) return candidate
    const name = normaliseName(candidate.name)
    if (name !== candidate.name) note(candidate.name, name, 'without what compilers and rebuilds add')
    return { ...candidate, name }
  }),
}

/** Module, its build and the offset: never the module alone, which would put a whole firmware into one bucket. */
const unresolvedName: Rule = {
  name: 'unresolved-name',
  apply: (candidates, { note, modules }) => candidates.flatMap((candidate) => {
    if (!candidate.unresolved) return [candidate]
    const { module, module_offset: offset } = candidate.frame
    if (module === null || offset === null) {
      note(candidate.frame.offset, '', 'in no module: an address alone names nothing, and may differ every time')
      return []
    }
    const known = modules.get(module)
    const build = known?.debug_id ?? known?.code_id ?? known?.elf_sha256 ?? 'no-build-id'
    return [{ ...candidate, name: `${module}/${build.slice(0, 16)}+${offset.replace(/^0x0+(?=[0-9a-f])/, '0x')}` }]
  }),
}

const sentinel: Rule = {
  name: 'sentinel',
  apply: (candidates, { note }) => {
    const last = candidates.findLastIndex(({ name, unresolved }) => !unresolved && LISTS.sentinel(name) !== null)
    if (last < 0) return candidates
    const entry = LISTS.sentinel(candidates[last]!.name)!
    note(candidates.slice(0, last + 1).map(({ name }) => name).join(' | '), '', `${entry.pattern}: ${entry.why}`)
    return candidates.slice(last + 1)
  },
}

/** Leading frames that only carry out an abort or an allocation, and unnamed frames of the C library among them. */
const wrappers: Rule = {
  name: 'wrappers',
  apply: (candidates, { note }) => {
    let start = 0
    for (; start < candidates.length; start++) {
      const candidate = candidates[start]!
      const entry = candidate.unresolved ? inCLibrary(candidate) : LISTS.wrappers(candidate.name) ?? LISTS['c-library'](candidate.name)
      if (entry === null) break
      note(candidate.name, '', `${entry.pattern}: ${entry.why}`)
    }
    return candidates.slice(start)
  },
}

/** Lower in the stack an unnamed frame of the C library is the start of the thread, or a callback's way through it. */
const cLibrary: Rule = {
  name: 'c-library',
  apply: (candidates, { note }) => {
    if (candidates.every((candidate) => candidate.unresolved && inCLibrary(candidate))) return candidates
    return candidates.filter((candidate) => {
      const entry = candidate.unresolved ? inCLibrary(candidate) : null
      if (entry !== null) note(candidate.name, '', `${entry.pattern}: ${entry.why}`)
      return entry === null
    })
  },
}

/** `size`, `operator->`, `__emplace`: inlined from a library's headers, where the name alone can't tell. */
const librarySource: Rule = {
  name: 'library-source',
  apply: (candidates, { note }) => candidates.filter(({ name, frame, prefix: isPrefix }) => {
    const entry = frame.file === null || isPrefix ? null : LISTS['library-source'](frame.file.replaceAll('\\', '/'))
    if (entry !== null) note(name, '', `${entry.pattern}: ${entry.why}`)
    return entry === null
  }),
}

/**
 * A stack that overflowed ended wherever it happened to: the functions of the cycle are what stays the same, in an order
 * that doesn't depend on where it was cut.
 */
const cycle: Rule = {
  name: 'cycle',
  apply: (candidates, { kind, note }) => {
    if (kind !== 'stack-exhaustion') return candidates
    const times = new Map<string, number>()
    for (const { name, frame } of candidates) times.set(name, (times.get(name) ?? 0) + (frame.repeats ?? 1))
    const repeated = [...new Map(candidates.filter(({ name }) => times.get(name)! >= MIN_REPEATS).map((candidate) => [candidate.name, candidate])).values()]
    if (repeated.length === 0) return candidates
    const sorted = repeated.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
    note(`${candidates.length} frames`, sorted.map(({ name }) => name).join(' | '), 'the functions of the recursion, sorted')
    return sorted
  },
}
const MIN_REPEATS = 3

const irrelevant: Rule = { name: 'irrelevant', apply: (candidates, { note }) => withoutListed('irrelevant', candidates, note) }

/** `f f f g` is `f g`, and `f g f g h` is `f g h`: how deep a recursion went is chance. */
const recursion: Rule = {
  name: 'recursion',
  apply: (candidates, { note }) => {
    const kept: Candidate[] = []
    for (let i = 0; i < candidates.length;) {
      let folded = false
      for (let period = 1; period <= MAX_PERIOD && !folded; period++) {
        const cycle = kept.slice(-period)
        if (cycle.length < period || !cycle.every(({ name }, at) => candidates[i + at]?.name === name)) continue
        note(cycle.map(({ name }) => name).join(' | '), '', 'repeats the frames above it')
        i += period
        folded = true
      }
      if (!folded) kept.push(candidates[i++]!)
    }
    return kept
  },
}
const MAX_PERIOD = 6

const prefix: Rule = {
  name: 'prefix',
  apply: (candidates, { note }) => candidates.map((candidate) => {
    const entry = candidate.unresolved ? null : LISTS.prefix(candidate.name)
    if (entry === null) return candidate
    note(candidate.name, candidate.name, `not counted. ${entry.pattern}: ${entry.why}`)
    return { ...candidate, prefix: true }
  }),
}

/** Prefix frames stand in the signature only above the last frame that counts. */
const depth: Rule = {
  name: 'depth',
  apply: (candidates, { depth: wanted, note }) => {
    let counted = 0
    let end = 0
    while (end < candidates.length && counted < wanted) if (!candidates[end++]!.prefix) counted++
    const kept = candidates.slice(0, end)
    while (kept.length > 0 && counted > 0 && kept.at(-1)!.prefix) kept.pop()
    if (end < candidates.length) note(`${candidates.length} frames`, `${kept.length} frames`, `the first ${wanted} that count`)
    return kept
  },
}

export const RULES: readonly Rule[] = [
  countedTrust, approximateName, normalisedName, unresolvedName, sentinel, librarySource, irrelevant, wrappers, cLibrary, cycle, recursion, prefix, depth,
]

export const inCLibrary = ({ frame }: Pick<Candidate, 'frame'>) => (frame.module === null ? null : LISTS['c-library'](frame.module))

function withoutListed(list: ListName, candidates: Candidate[], note: RuleContext['note']): Candidate[] {
  return candidates.filter(({ name, unresolved }) => {
    const entry = unresolved ? null : LISTS[list](name)
    if (entry !== null) note(name, '', `${entry.pattern}: ${entry.why}`)
    return entry === null
  })
}
