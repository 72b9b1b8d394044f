/**
 * analyse: one dump from bytes to bucket. Format, frames and symbols (native.ts, text.ts); what it means (evidence/); how it
 * is counted (signature/). Same bytes, claims and symbols, same analysis. Bytes that no parser reads are an analysis too.
 */
import type { Claims } from '../ingest/contract.ts'
import { assess } from './evidence/assess.ts'
import type { Analysis } from './contract.ts'
import { analyseStorm, STORM_TYPE } from './crash-storm.ts'
import { sniff } from './formats/sniff.ts'
import { analyseNative, NATIVE_BUDGET, type NativeBudget } from './native.ts'
import { withAdjustedAddress } from './report.ts'
import { makeSignature } from './signature/signature.ts'
import type { MapSource } from './symbols/source-map.ts'
import type { SymbolSource } from './symbols/source.ts'
import { analyseText, TEXT_READ_BUDGET, type TextReadBudget } from './text.ts'
import { unreadable } from './unreadable.ts'

export interface AnalyseInput {
  /** Decompressed. */
  bytes: Uint8Array
  contentType: string
  claims: Claims
  /** Unsigned, from a multipart upload. */
  annotations: Record<string, string>
}
export interface AnalyseDeps { symbols: SymbolSource; maps: MapSource }
export interface AnalyseBudget { native: NativeBudget; text: TextReadBudget }
export const ANALYSE_BUDGET: AnalyseBudget = { native: NATIVE_BUDGET, text: TEXT_READ_BUDGET }

/** No dump and no text begins like one: the claim of a storm hides nothing. */
const isCborMap = (bytes: Uint8Array): boolean => bytes.length > 0 && bytes[0]! >> 5 === 5

const TEXT_FORMATS: ReadonlySet<string> = new Set(['sanitizer', 'js-stack', 'text'])

export async function analyse({ bytes, contentType, claims, annotations }: AnalyseInput, { symbols, maps }: AnalyseDeps, budget: AnalyseBudget = ANALYSE_BUDGET): Promise<Analysis> {
  if (contentType === STORM_TYPE && isCborMap(bytes)) return analyseStorm(bytes, claims)
  const read = TEXT_FORMATS.has(sniff(bytes, contentType))
    ? await analyseText(bytes, contentType, { maps }, budget.text)
    : { ...await analyseNative(bytes, contentType, symbols, budget.native, claims), sanitizer: null }
  const { dump, status, statusReason, sanitizer } = read
  if (dump === null) return unreadable(status, statusReason, { contentType, claims })
  // What the dump itself carries goes before what the upload said beside it.
  const report = { ...read.report, annotations: { ...annotations, ...read.report.annotations } }
  const { kind, access, ...evidence } = assess({ dump, report, claims, sanitizer })
  report.crash_info = withAdjustedAddress(report.crash_info, dump, evidence.faultAddress)
  const signature = makeSignature({ kind, addressClass: evidence.addressClass, report })
  return { status, statusReason, kind, access, evidence, signature, report }
}
