import { z } from 'zod'
import { ADDRESS_CLASSES, ANALYSIS_STATUSES, CRASH_KINDS, TRUSTS } from '../contract.ts'
import { SYMBOL_STATUSES } from '../symbols/source.ts'
import { REFUSALS, WireError, type Answer } from './wire.ts'

/**
 * The shape of everything that a parser's child may say. The child has read hostile bytes and is not trusted: a field
 * that is missing, of another type, too long or outside its closed list costs the child its life and nothing else.
 * Lengths are bounded here, the sum of them by the frame. Text stays text; that it is well-formed is wire.ts' part.
 */
const text = (max: number) => z.string().max(max)
const name = text(4096)
const line = text(16_384)
const count = z.int().nonnegative()
const hex = z.string().regex(/^0x[0-9a-f]{1,16}$/)
const address = hex.transform(BigInt)
const access = z.enum(['read', 'write', 'execute', 'free', 'unknown'])
const note = z.object({ slug: z.string().max(64), text: line })

const frameSchema = z.object({
  frame: count, trust: z.enum(TRUSTS), module: name.nullable(), module_offset: hex.nullable(), offset: hex,
  function: line.nullable(), function_offset: hex.nullable(), file: name.nullable(), line: count.nullable(),
  inlines: z.array(z.object({ function: line, file: name.nullable(), line: count.nullable() })).max(256).nullable(),
  missing_symbols: z.boolean(), approximate: z.boolean(), repeats: count.optional(),
  registers: z.record(z.string().max(16), hex).optional(),
})

const threadSchema = z.object({
  threads_index: count, thread_id: count, thread_name: name.nullable(), frame_count: count,
  frames: z.array(frameSchema).max(4096), frames_omitted: count,
})

const moduleSchema = z.object({
  base_addr: hex, end_addr: hex, filename: name, code_id: name.nullable(), debug_file: name.nullable(), debug_id: name.nullable(),
  version: name.nullable(), symbol_status: z.enum([...SYMBOL_STATUSES, 'not-asked']), symbol_reason: line.nullable(),
})

const reportSchema = z.object({
  status: name, format: z.string().max(64), pid: z.int().nullable(),
  system_info: z.object({
    os: z.enum(['linux', 'android', 'windows', 'macos', 'ios', 'zephyr', 'esp-idf', 'bare-metal', 'unknown']), os_ver: name.nullable(),
    cpu_arch: z.enum(['x86', 'x86-64', 'amd64', 'arm', 'arm64', 'riscv32', 'riscv64', 'xtensa', 'mips', 'mips64', 'unknown']),
  }),
  crash_info: z.object({ type: line.nullable(), address: hex.nullable(), crashing_thread: count.nullable(), assertion: line.nullable(), access }),
  crashing_thread: threadSchema.nullable(),
  threads: z.array(threadSchema).max(4096),
  modules: z.array(moduleSchema).max(8192),
  main_module: count.nullable(),
  annotations: z.record(name, line),
  notes: z.array(note).max(4096),
})

const evidenceSchema = z.object({
  class: z.union([z.literal(0), z.literal(1), z.literal(2), z.literal(3), z.literal(4)]),
  severity: z.enum(['exploitable', 'probably-exploitable', 'not-exploitable', 'unknown']),
  cwe: z.array(z.int().min(0).max(65_535)).max(32),
  for: z.array(note).max(256), against: z.array(note).max(256),
  addressClass: z.enum(ADDRESS_CLASSES),
  faultAddress: address.nullable(), pc: address.nullable(), sp: address.nullable(),
  pattern: z.enum(['cyclic', 'repeated', 'printable']).nullable(), pcOutsideModules: z.boolean(),
})

const signatureSchema = z.object({
  ruleset: z.int().min(0).max(65_535), bucket: z.string().regex(/^[0-9a-f]{16}$/), text: line, title: line,
  frames: z.array(line).max(64), notes: z.array(z.object({ rule: z.string().max(64), from: line, to: line, why: line })).max(4096),
  provisional: z.boolean(),
})

export const analysisSchema = z.object({
  status: z.enum(ANALYSIS_STATUSES), statusReason: line, kind: z.enum(CRASH_KINDS), access,
  evidence: evidenceSchema, signature: signatureSchema, report: reportSchema,
})

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'bytes expected')
const preparedSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('breakpad-sym'), debugFile: name, debugId: z.string().regex(/^[0-9A-F]{33,40}$/), codeId: name.nullable(), arch: z.string().max(64),
    functions: count, publics: count, cfiRules: count, problems: z.array(line).max(64), bytes,
  }),
  z.object({ kind: z.literal('source-map'), debugId: z.string().max(64), file: name, sources: count }),
])

const answerSchema = z.discriminatedUnion('t', [
  z.object({ t: z.literal('ready') }),
  z.object({ t: z.literal('symbols?'), debugFile: name.nullable(), debugId: name.nullable(), codeId: name.nullable() }),
  z.object({ t: z.literal('map?'), debugId: z.string().max(64) }),
  z.object({ t: z.literal('analysis'), analysis: analysisSchema }),
  z.object({ t: z.literal('prepared'), prepared: preparedSchema }),
  z.object({ t: z.literal('unusable'), reason: line }),
  z.object({ t: z.literal('refused'), status: z.enum(REFUSALS), reason: line }),
])

export function checkAnswer(message: unknown): Answer {
  const parsed = answerSchema.safeParse(message)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new WireError(`answer is not of the agreed shape: ${issue?.path.join('.') || 'value'}: ${issue?.message}`)
}
