import { messageOf } from '../../infra/service/errors.ts'
import { parseBreakpadSym } from '../symbols/breakpad-sym.ts'
import { isElf } from '../symbols/elf/elf.ts'
import { prepareElf, type ElfFile } from '../symbols/elf/prepare.ts'
import { MAP_BUDGET, mapProblem } from '../symbols/source-map.ts'
import { openTables, SECTIONS, writeTables } from '../symbols/tables.ts'
import type { Answer, Prepared } from './wire.ts'

/**
 * A symbol file, told by its first bytes, read once: who it is for, what it holds, and the form that needs no parsing.
 *
 *   Breakpad text:  MODULE os cpu DEBUGID name ...
 *   ELF:            7F 'ELF', a program, a library or their debug file; others that belong to it behind it
 *   source map:     a JSON object with "mappings" or "sections", and "debugId" (or "debug_id", as older tools write it)
 */
type Outcome = Extract<Answer, { t: 'prepared' | 'unusable' }>
type NativeSymbols = Extract<Prepared, { bytes: Uint8Array }>

export function prepare(bytes: Uint8Array, name: string, others: readonly { name: string; size: number }[] = []): Outcome {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 4096)).toString('latin1')
  if (head.startsWith('MODULE ')) return prepareBreakpad(bytes, head)
  if (isElf(bytes)) return prepareProgram(bytes, name, others)
  if (/^\s*\{/.test(head)) return prepareSourceMap(bytes)
  return { t: 'unusable', reason: `neither a Breakpad symbol file (MODULE ...), an ELF file nor a source map (${bytes.length} bytes, ${name.slice(0, 200)})` }
}

function prepareBreakpad(bytes: Uint8Array, head: string): Outcome {
  const parsed = parseBreakpadSym(bytes)
  if ('slug' in parsed) return { t: 'unusable', reason: parsed.reason }
  const { identity, skipped } = parsed
  if (!/^[0-9A-F]{33,40}$/.test(identity.debugId)) return { t: 'unusable', reason: `MODULE record: ${JSON.stringify(identity.debugId.slice(0, 64))} is no debug id of 33 to 40 hex digits` }
  const problems = skipped > 0 ? [`${skipped} lines could not be read and were skipped`] : []
  const counted = counts(parsed.serialize())
  if (counted === null) return UNREADABLE
  if (counted.functions === 0) problems.push('no FUNC records: function names are guessed from exported ones; was the binary stripped before dump_syms?')
  if (counted.cfiRules === 0) problems.push('no STACK CFI records: stacks are walked by frame pointer and scanning')
  const codeId = /^INFO CODE_ID ([0-9A-Fa-f]{1,80})/m.exec(head)?.[1]?.toLowerCase() ?? null
  return usable({ kind: 'breakpad-sym', debugFile: identity.name.slice(0, 512), debugId: identity.debugId, codeId, arch: identity.arch.slice(0, 64), digests: [], problems, ...counted })
}

function prepareProgram(bytes: Uint8Array, name: string, others: readonly { name: string; size: number }[]): Outcome {
  const files: ElfFile[] = []
  let end = bytes.length
  for (const other of others.toReversed()) {
    files.unshift({ name: other.name, bytes: bytes.subarray(Math.max(0, end - other.size), end) })
    end -= other.size
  }
  const debugFile = name.split(/[\\/]/).at(-1)!.slice(0, 512)
  const prepared = prepareElf({ name: debugFile, bytes: bytes.subarray(0, Math.max(0, end)) }, files)
  if ('reason' in prepared) return { t: 'unusable', reason: prepared.reason }
  const counted = counts(writeTables(prepared.tables))
  if (counted === null) return UNREADABLE
  return usable({ kind: 'elf', debugFile, debugId: prepared.debugId, codeId: prepared.buildId, arch: prepared.arch, digests: prepared.digests, problems: prepared.problems.slice(0, 64), ...counted })
}

const UNREADABLE: Outcome = { t: 'unusable', reason: 'the prepared form can not be read back, which is a defect to report' }

function counts(form: Uint8Array): Pick<NativeSymbols, 'functions' | 'lines' | 'publics' | 'cfiRules' | 'bytes'> | null {
  const tables = openTables(form)
  const rows = (section: 'functions' | 'lines' | 'publics' | 'cfi'): number => (tables === null ? 0 : tables[section].length / SECTIONS[section])
  return tables && { functions: rows('functions'), lines: rows('lines'), publics: rows('publics'), cfiRules: rows('cfi'), bytes: form }
}

function usable(prepared: NativeSymbols): Outcome {
  const { functions, publics, cfiRules, problems } = prepared
  if (functions + publics + cfiRules > 0) return { t: 'prepared', prepared }
  return { t: 'unusable', reason: ['no function, no public name and no unwind rule', ...problems].join('; ') }
}

function prepareSourceMap(bytes: Uint8Array): Outcome {
  let map: Record<string, unknown>
  try {
    map = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')) as typeof map
  } catch (error) {
    return { t: 'unusable', reason: `source map: not JSON: ${messageOf(error).slice(0, 200)}` }
  }
  const problem = mapProblem(map, MAP_BUDGET.sections)
  if (problem !== null) return { t: 'unusable', reason: problem }
  const id = [map.debugId, map.debug_id].find((value): value is string => typeof value === 'string')?.toLowerCase().replaceAll('-', '')
  if (id === undefined || !/^[0-9a-f]{32}$/.test(id)) return { t: 'unusable', reason: 'source map: no "debugId" (a UUID); let the bundler write one' }
  const sources = Array.isArray(map.sections) ? map.sections.length : (map.sources as unknown[]).length
  return { t: 'prepared', prepared: { kind: 'source-map', debugId: id, file: typeof map.file === 'string' ? map.file.slice(0, 512) : '', sources } }
}
