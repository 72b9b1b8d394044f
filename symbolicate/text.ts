/**
 * From the bytes of a text report to its frames and report: what native.ts is for dumps. The format is what the text
 * shows, the claimed content type only a hint.
 */
import type { AnalysisStatus, Report } from './contract.ts'
import type { Dump } from './formats/dump.ts'
import { parseJsStack } from './formats/js-stack.ts'
import { parseSanitizer, type SanitizerFacts } from './formats/sanitizer.ts'
import { sniff } from './formats/sniff.ts'
import { TEXT_BUDGET, type TextBudget } from './formats/text/lines.ts'
import { buildReport, emptyReport, type SymbolStatuses } from './report.ts'
import { MAP_BUDGET, mapFrames, type MapBudget, type MapSource } from './symbols/source-map.ts'

export interface TextReadBudget { text: TextBudget; maps: MapBudget }
export const TEXT_READ_BUDGET: TextReadBudget = { text: TEXT_BUDGET, maps: MAP_BUDGET }

export interface TextAnalysis {
  /** null when no parser could read it. */
  dump: Dump | null
  report: Report
  sanitizer: SanitizerFacts | null
  status: AnalysisStatus
  statusReason: string
}

export async function analyseText(bytes: Uint8Array, contentType: string, { maps }: { maps: MapSource }, budget: TextReadBudget = TEXT_READ_BUDGET): Promise<TextAnalysis> {
  const format = sniff(bytes, contentType)
  switch (format) {
    case 'empty': return refused(format, 'dump-empty', 'text report: no bytes')
    case 'sanitizer': return readSanitizer(bytes, budget)
    case 'js-stack': return readJsStack(bytes, maps, budget)
    default: return refused(format, 'format-unknown', `text report: neither a sanitizer's report nor a JavaScript stack (looks like ${format})`)
  }
}

function readSanitizer(bytes: Uint8Array, budget: TextReadBudget): TextAnalysis {
  const read = parseSanitizer(bytes, budget.text)
  if ('slug' in read) return refused('sanitizer', read.slug === 'dump-empty' ? 'dump-empty' : 'format-unknown', read.reason)
  return complete(read.dump, new Map(), read.facts)
}

async function readJsStack(bytes: Uint8Array, maps: MapSource, budget: TextReadBudget): Promise<TextAnalysis> {
  const read = parseJsStack(bytes, budget.text)
  if ('slug' in read) return refused('js-stack', read.slug, read.reason)
  const thread = read.dump.threads[0]!
  const { frames, statuses, notes } = await mapFrames(read.frames, read.debugIds, maps, budget.maps)
  const dump: Dump = { ...read.dump, threads: [{ ...thread, frames }], notes: [...read.dump.notes, ...notes] }
  const byModule: SymbolStatuses = new Map(dump.modules.flatMap(({ name }, index) => {
    const status = statuses.get(name)
    return status === undefined ? [] : [[index, status] as const]
  }))
  return complete(dump, byModule, null)
}

function complete(dump: Dump, symbols: SymbolStatuses, sanitizer: SanitizerFacts | null): TextAnalysis {
  const report = buildReport(dump, dump.threads.map(() => null), symbols)
  const cut = dump.notes.find(({ slug }) => slug === 'text-cut' || slug === 'frames-omitted')
  if (cut) return { dump, report, sanitizer, status: 'partial', statusReason: cut.text }
  if (report.crashing_thread === null || report.crashing_thread.frames.length === 0) {
    return { dump, report, sanitizer, status: 'partial', statusReason: 'text report: says what failed and has no stack' }
  }
  return { dump, report, sanitizer, status: 'ok', statusReason: '' }
}

function refused(format: string, status: AnalysisStatus, statusReason: string): TextAnalysis {
  return { dump: null, report: emptyReport(format, status), sanitizer: null, status, statusReason }
}
