import { z } from 'zod'
import { ANALYSIS_STATUSES, CRASH_KINDS } from '../contract.ts'
import { access, count, evidenceShape, hexText, lineText, nameText, reportSchema, signatureSchema } from '../report-schema.ts'
import { REFUSALS, WireError, type Answer } from './wire.ts'

/**
 * The shape of everything that a parser's child may say. The child has read hostile bytes and is not trusted: a field
 * that is missing, of another type, too long or outside its closed list costs the child its life and nothing else.
 * Lengths are bounded here, the sum of them by the frame. Text stays text; that it is well-formed is wire.ts' part.
 */
const address = hexText.transform(BigInt)

export const analysisSchema = z.object({
  status: z.enum(ANALYSIS_STATUSES), statusReason: lineText, kind: z.enum(CRASH_KINDS), access,
  evidence: evidenceShape(address), signature: signatureSchema, report: reportSchema,
})

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'bytes expected')
const preparedSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.enum(['breakpad-sym', 'elf']), debugFile: nameText, debugId: z.string().regex(/^[0-9A-F]{33,40}$/), codeId: nameText.nullable(), arch: z.string().max(64),
    functions: count, lines: count, publics: count, cfiRules: count, digests: z.array(z.string().regex(/^[0-9a-f]{64,128}$/)).max(3), problems: z.array(lineText).max(64), bytes,
  }),
  z.object({ kind: z.literal('source-map'), debugId: z.string().max(64), file: nameText, sources: count }),
])

const answerSchema = z.discriminatedUnion('t', [
  z.object({ t: z.literal('ready') }),
  z.object({
    t: z.literal('symbols?'), debugFile: nameText.nullable(), debugId: nameText.nullable(), codeId: nameText.nullable(), elfSha256: nameText.nullable().optional(), linked: z.boolean().optional(),
  }),
  z.object({ t: z.literal('map?'), debugId: z.string().max(64) }),
  z.object({ t: z.literal('analysis'), analysis: analysisSchema }),
  z.object({ t: z.literal('prepared'), prepared: preparedSchema }),
  z.object({ t: z.literal('unusable'), reason: lineText }),
  z.object({ t: z.literal('refused'), status: z.enum(REFUSALS), reason: lineText }),
])

export function checkAnswer(message: unknown): Answer {
  const parsed = answerSchema.safeParse(message)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new WireError(`answer is not of the agreed shape: ${issue?.path.join('.') || 'value'}: ${issue?.message}`)
}
