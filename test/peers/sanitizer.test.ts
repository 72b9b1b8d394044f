import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyse } from '../../symbolicate/analyse.ts'
import type { Analysis, CrashKind } from '../../symbolicate/contract.ts'
import { normaliseName } from '../../symbolicate/signature/normalise.ts'

// ClusterFuzz's stack analyzer is the reference for sanitizer reports: crash type, address, state (three frames), security flag.
const folder = join(process.env.OVERRUN_CORPUS ?? join(import.meta.dirname, '../../../shared/corpus'), 'text/clusterfuzz')
const present = existsSync(folder)

interface Case { test: string; file?: string; expected?: { type?: string; address?: string; state?: string; security_flag?: boolean } }

/** A program's own check, another language's panic, or a hook: ClusterFuzz reads what was printed before, the sanitizer only adds the stack. */
const NOT_THE_SANITIZERS = /^(?:CHECK failure|Security DCHECK failure|ASSERT|Fatal error|Index out of range|Slice bounds out of range|Uncaught exception|Command injection|)$/
const PRINTED_BY_THE_PROGRAM = new Set(['test_v8_process_oom', 'test_rust_oom', 'test_centipede_stack_limit_exceeded', 'test_golang_new_crash_type_and_asan_abrt'])

const KINDS: readonly (readonly [type: RegExp, kinds: readonly CrashKind[]])[] = [
  [/^Null-dereference|^Upcast-of-null/, ['null-dereference']],
  [/^UNKNOWN/, ['wild-read', 'wild-write', 'abort', 'assertion']],
  [/^Heap-buffer-overflow|^Tag-mismatch/, ['heap-buffer-overflow']],
  [/^Stack-buffer-overflow/, ['stack-buffer-overflow']],
  [/^Container-overflow|^Object-size/, ['buffer-overflow']],
  [/^Heap-use-after-free/, ['use-after-free']],
  [/^Heap-double-free/, ['double-free']],
  [/^Invalid-free/, ['invalid-free']],
  [/^Bad-cast|^Pointer-overflow/, ['undefined-behaviour', 'cfi-violation']],
  [/^Divide-by-zero/, ['divide-by-zero']],
  [/^Stack-overflow/, ['stack-exhaustion']],
  [/^Out-of-memory/, ['out-of-memory']],
  [/^Direct-leak/, ['memory-leak']],
  [/^Breakpoint/, ['trap']],
  [/^Ill$/, ['illegal-instruction']],
  [/^Abrt/, ['abort', 'assertion']],
]

/** Where we differ on purpose, and why. A difference that is not listed fails. */
const DIFFERENCES: Readonly<Record<string, string>> = {
  'test_asan_stack_overflow state': 'the functions of the recursion in sorted order, which does not depend on where the stack ended',
  'test_asan_stack_overflow_2 state': 'the functions of the recursion in sorted order, which does not depend on where the stack ended',
  'test_gsignal_at_first_stack_frame state': '"New" is an inlined helper of Chromium\'s that ClusterFuzz lists by path',
  'test_sanitizer_signal_abrt_unknown state': 'ClusterFuzz leaves the fuzz target out, and has no frame then',
  'test_miracle_ptr_protected state': 'ClusterFuzz goes on with the frames of the stack that freed the object',
  'test_miracle_ptr_protected security': 'Chromium\'s MiraclePtr protects it, as the log says; a use after free all the same',
  'test_asan_gsignal security': 'raise() sent the signal: the address holds user and process id, nothing was accessed',
  'test_gsignal_at_first_stack_frame type': 'raise() sent the signal after a failed check',
}

describe.skipIf(!present && process.env.CI !== 'true')(`sanitizer reports as ClusterFuzz reads them${present ? '' : ' (skipped: no corpus)'}`, () => {
  test('type, address, state and security flag agree in at least nine of ten reports', async () => {
    const cases = readFileSync(join(folder, 'cases.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Case)
    const tally = { type: [0, 0], address: [0, 0], state: [0, 0], security: [0, 0] }
    const unexpected: string[] = []
    const unused = new Set(Object.keys(DIFFERENCES))
    for (const { test: name, file, expected } of cases) {
      if (file === undefined || expected?.type === undefined) continue
      const type = expected.type.split('\n')[0]!
      if (NOT_THE_SANITIZERS.test(type) || PRINTED_BY_THE_PROGRAM.has(name)) continue
      const analysis = await read(file)
      if (analysis.report.format !== 'sanitizer') continue
      const agrees = {
        type: KINDS.some(([pattern, kinds]) => pattern.test(type) && kinds.includes(analysis.kind)),
        // ClusterFuzz leaves the address of UBSan's object-size check out, and one that holds a pid in.
        address: !expected.address || BigInt(expected.address) === BigInt(analysis.report.crash_info.address ?? '0x0'),
        state: stateAgrees(expected.state ?? '', analysis),
        security: expected.security_flag === (analysis.evidence.class >= 2 && analysis.kind !== 'stack-exhaustion'),
      }
      for (const [what, agreed] of Object.entries(agrees) as [keyof typeof tally, boolean][]) {
        tally[what][1]!++
        if (agreed) { tally[what][0]!++; continue }
        const key = `${name} ${what}`
        unused.delete(key)
        if (!(key in DIFFERENCES)) unexpected.push(`${key}: expected ${JSON.stringify(expected)}, got ${analysis.kind} ${analysis.report.crash_info.address} E${analysis.evidence.class} ${analysis.signature.text}`)
      }
    }
    console.log('agreement with ClusterFuzz: ' + Object.entries(tally).map(([what, [same, all]]) => `${what} ${same} of ${all}`).join(', '))
    for (const [key, why] of Object.entries(DIFFERENCES)) if (!unused.has(key)) console.log(`  differs: ${key}: ${why}`)
    expect(unexpected).toEqual([])
    expect(tally.type[1]).toBeGreaterThan(30)
    for (const what of ['type', 'address', 'state', 'security'] as const) expect(tally[what][0]! / tally[what][1]!, what).toBeGreaterThanOrEqual(0.9)
  })
})

async function read(file: string): Promise<Analysis> {
  const symbols = { find: async () => ({ status: 'missing' as const, reason: 'none here' }) }
  return analyse({ bytes: readFileSync(join(folder, 'logs', file)), contentType: 'text/plain', claims: {}, annotations: {} }, { symbols, maps: { find: async () => null } })
}

/** Each frame of ClusterFuzz's state is among ours; a fuzz target's frame it names by its source file, an unnamed one by its module. */
function stateAgrees(state: string, { signature, report }: Analysis): boolean {
  const frames = report.crashing_thread?.frames ?? []
  const targets = frames.filter(({ function: name }) => name?.startsWith('LLVMFuzzerTestOneInput')).map(({ file }) => file?.split(/[\\/]/).at(-1) ?? '')
  const ours = [...signature.frames.map(comparable), ...targets]
  // ClusterFuzz cuts names at the first parenthesis: `Test::Ex::operator()` and Swift's `BinaryDecoder.(decodeFullGroup in _5FB1...)`.
  return state.trim().split('\n').filter((line) => !line.startsWith('Bad-cast to ')).every((line) => {
    const wanted = comparable(line)
    return ours.some((name) => name === wanted || (wanted.length > 12 && name.startsWith(wanted)))
  })
}

function comparable(name: string): string {
  if (name.includes('/') && !name.includes('::')) return name.replace(/\/(?:no-build-id|[0-9a-f]{16})\+0x[0-9a-f]+$/, '').split('/').at(-1)!
  return normaliseName(name).replaceAll('(anon)::', '').replace(/<.*$/, '').slice(0, 60)
}
