/**
 * The report's shape, once: the sandbox's parent checks a child's answer with it (sandbox/answers.ts), the parts that fill it
 * keep to its limits (report.ts), and `overrun explain --schema` prints it as JSON Schema for those who read `--json`.
 *
 * Names are rust-minidump's (its json-schema.md); `x` in a description marks what is ours. As there, every address is a
 * hexadecimal string padded to the CPU's width, and what a dump doesn't say is null or absent.
 */
import { z } from 'zod'
import { ADDRESS_CLASSES, ANALYSIS_STATUSES, CRASH_KINDS, TRUSTS } from './contract.ts'
import { SYMBOL_STATUSES } from './symbols/source.ts'

/** Longest texts, most entries: whatever fills a report cuts to these. */
export const REPORT_LIMITS = { name: 4096, line: 16_384, threads: 4096, frames: 4096, inlines: 256, modules: 8192, unloaded: 1024, notes: 4096, macRecords: 20 } as const

const text = (max: number) => z.string().max(max)
export const nameText = text(REPORT_LIMITS.name)
export const lineText = text(REPORT_LIMITS.line)
export const count = z.int().nonnegative()
export const hexText = z.string().regex(/^0x[0-9a-f]{1,16}$/)
export const access = z.enum(['read', 'write', 'execute', 'free', 'unknown'])
export const note = z.object({ slug: text(64), text: lineText })

const frameSchema = z.object({
  frame: count.describe('Position in the real stack: folded and omitted frames count'),
  trust: z.enum(TRUSTS).describe('How the frame was found; x: `given` by a text format'),
  module: nameText.nullable(),
  module_offset: hexText.nullable(),
  offset: hexText.describe('The instruction; of a caller, inside of its call'),
  function: lineText.nullable().describe('As the symbol file has it, mangled where it is'),
  function_offset: hexText.nullable(),
  file: nameText.nullable(),
  line: count.nullable(),
  inlines: z.array(z.object({ function: lineText, file: nameText.nullable(), line: count.nullable() })).max(REPORT_LIMITS.inlines).nullable().describe('Calls that were inlined here, innermost first'),
  missing_symbols: z.boolean(),
  unloaded_modules: z.array(z.object({ module: nameText, offsets: z.array(hexText).max(64) })).max(64).optional().describe('Modules that once lay here; only where no loaded one does'),
  registers: z.record(text(16), hexText).optional().describe('Only in the first frame of crashing_thread'),
  approximate: z.boolean().describe('x: a far-away exported name, never part of a signature'),
  repeats: count.optional().describe('x: how often this frame occurs in a folded recursion'),
})

const threadSchema = z.object({
  threads_index: count.describe('Index in `threads`'),
  thread_id: count,
  thread_name: nameText.nullable(),
  frame_count: count.describe('With the omitted ones'),
  frames: z.array(frameSchema).max(REPORT_LIMITS.frames),
  frames_omitted: count.describe('x: folded recursion and what is past the cap'),
})

const moduleSchema = z.object({
  base_addr: hexText,
  end_addr: hexText,
  filename: nameText,
  code_id: nameText.nullable(),
  debug_file: nameText.nullable(),
  debug_id: nameText.nullable(),
  version: nameText.nullable(),
  elf_sha256: nameText.optional().describe('x: how the SHA-256 of its ELF file begins, where the dump names its build so'),
  symbol_status: z.enum([...SYMBOL_STATUSES, 'not-asked']).describe('x: what asking for its symbols gave'),
  symbol_reason: lineText.nullable().describe('x'),
})

const unloadedSchema = z.object({ base_addr: hexText, end_addr: hexText, code_id: nameText.nullable(), filename: nameText })

const macRecordSchema = z.object({
  thread: hexText, dialog_mode: hexText, abort_cause: hexText, module: lineText, message: lineText, signature_string: lineText, backtrace: lineText, message2: lineText,
})

const adjustedSchema = z.object({
  kind: z.enum(['non-canonical', 'operand']).describe('x: `operand`, an ordinary address that the processor did not say'),
  address: hexText,
}).describe('Where the processor does not say the address: the operand of the instruction that failed, from its bytes and the registers')

export const reportSchema = z.object({
  status: nameText.describe('OK, or why nothing could be read'),
  format: text(64).describe('x: which parser read it'),
  pid: z.int().nullable(),
  process_uptime: count.optional().describe('Seconds'),
  thread_count: count.optional(),
  system_info: z.object({
    os: z.enum(['linux', 'android', 'windows', 'macos', 'ios', 'zephyr', 'esp-idf', 'bare-metal', 'unknown']),
    os_ver: nameText.nullable(),
    cpu_arch: z.enum(['x86', 'x86-64', 'amd64', 'arm', 'arm64', 'riscv32', 'riscv64', 'xtensa', 'mips', 'mips64', 'unknown']),
    cpu_info: nameText.optional(),
    cpu_count: count.optional(),
    cpu_microcode_version: hexText.optional(),
  }),
  crash_info: z.object({
    type: lineText.nullable(),
    address: hexText.nullable().describe('As the dump has it'),
    adjusted_address: adjustedSchema.optional(),
    crashing_thread: count.nullable().describe('Index in `threads`'),
    assertion: lineText.nullable(),
    access: access.describe('x'),
  }),
  crashing_thread: threadSchema.nullable(),
  threads: z.array(threadSchema).max(REPORT_LIMITS.threads),
  main_module: count.nullable().describe('Index in `modules`'),
  modules: z.array(moduleSchema).max(REPORT_LIMITS.modules),
  unloaded_modules: z.array(unloadedSchema).max(REPORT_LIMITS.unloaded).optional(),
  lsb_release: z.object({ id: nameText, release: nameText, codename: nameText, description: nameText }).optional(),
  linux_memory_map_count: count.optional(),
  mac_crash_info: z.object({ num_records: count, records: z.array(macRecordSchema).max(REPORT_LIMITS.macRecords) }).optional(),
  mac_boot_args: lineText.optional(),
  annotations: z.record(nameText, lineText).describe('x: Crashpad\'s annotations, and what other formats say by name'),
  notes: z.array(note).max(REPORT_LIMITS.notes).describe('x: what was missing or lied'),
})

export const signatureSchema = z.object({
  ruleset: z.int().min(0).max(65_535),
  bucket: z.string().regex(/^[0-9a-f]{16}$/),
  text: lineText,
  title: lineText,
  frames: z.array(lineText).max(64),
  notes: z.array(z.object({ rule: text(64), from: lineText, to: lineText, why: lineText })).max(4096),
  provisional: z.boolean().describe('Too few frames have names: computed again when symbols arrive'),
})

/** Evidence, with its addresses as `Address` has them: numbers inside, text in JSON. */
export const evidenceShape = <Address extends z.ZodType>(address: Address) => z.object({
  class: z.union([z.literal(0), z.literal(1), z.literal(2), z.literal(3), z.literal(4)]).describe('0 environment, 1 robustness, 2 suspicious, 3 corruption, 4 control-flow evidence'),
  severity: z.enum(['exploitable', 'probably-exploitable', 'not-exploitable', 'unknown']),
  cwe: z.array(z.int().min(0).max(65_535)).max(32),
  for: z.array(note).max(256),
  against: z.array(note).max(256),
  addressClass: z.enum(ADDRESS_CLASSES),
  faultAddress: address.nullable(),
  pc: address.nullable(),
  sp: address.nullable(),
  pattern: z.enum(['cyclic', 'repeated', 'printable']).nullable(),
  pcOutsideModules: z.boolean(),
})

/** What `overrun explain --json` prints. */
export const explainSchema = reportSchema.extend({
  modules: z.array(moduleSchema.extend({ missing_symbols: z.boolean(), loaded_symbols: z.boolean(), corrupt_symbols: z.boolean() })).max(REPORT_LIMITS.modules),
  analysis: z.object({
    status: z.enum(ANALYSIS_STATUSES),
    status_reason: lineText,
    kind: z.enum(CRASH_KINDS),
    access,
    evidence: evidenceShape(hexText),
    signature: signatureSchema,
  }).describe('x: what it means, and which bucket it belongs to'),
  manifest: z.object({
    alg: z.string(),
    claims: z.record(z.string(), z.unknown()),
    content_type: z.string(),
    digest: z.string(),
    digest_matches: z.boolean().describe('The dump is the one that was signed'),
  }).optional().describe('x: only of a signed report'),
})

/** Draft 2020-12. Fields may be added: readers ignore what they don't know. */
export const explainJsonSchema = (): object => z.toJSONSchema(explainSchema, { io: 'input' })
