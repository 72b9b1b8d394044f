import { openTables, SECTIONS } from '../symbols/tables.ts'
import { parseBreakpadSym } from '../symbols/breakpad-sym.ts'
import { messageOf } from '../../infra/service/errors.ts'
import type { Answer } from './wire.ts'

/**
 * A symbol file, told by its first bytes, read once: who it is for, what it holds, and the form that needs no parsing.
 *
 *   Breakpad text:  MODULE os cpu DEBUGID name ...
 *   source map:     a JSON object with "mappings" and "debugId" (or "debug_id", as older tools write it)
 */
export function prepare(bytes: Uint8Array, name: string): Extract<Answer, { t: 'prepared' | 'unusable' }> {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 4096)).toString('latin1')
  if (head.startsWith('MODULE ')) return prepareBreakpad(bytes, head)
  if (/^\s*\{/.test(head)) return prepareSourceMap(bytes)
  return { t: 'unusable', reason: `neither a Breakpad symbol file (MODULE ...) nor a source map (${bytes.length} bytes, ${name.slice(0, 200)})` }
}

function prepareBreakpad(bytes: Uint8Array, head: string): Extract<Answer, { t: 'prepared' | 'unusable' }> {
  const parsed = parseBreakpadSym(bytes)
  if ('slug' in parsed) return { t: 'unusable', reason: parsed.reason }
  const { identity, skipped } = parsed
  if (!/^[0-9A-F]{33,40}$/.test(identity.debugId)) return { t: 'unusable', reason: `MODULE record: ${JSON.stringify(identity.debugId.slice(0, 64))} is no debug id of 33 to 40 hex digits` }
  const form = parsed.serialize()
  const tables = openTables(form)
  if (tables === null) return { t: 'unusable', reason: 'the prepared form can not be read back, which is a defect to report' }
  const functions = tables.functions.length / SECTIONS.functions
  const publics = tables.publics.length / SECTIONS.publics
  const cfiRules = tables.cfi.length / SECTIONS.cfi
  const problems = []
  if (skipped > 0) problems.push(`${skipped} lines could not be read and were skipped`)
  if (functions === 0) problems.push('no FUNC records: function names are guessed from exported ones; was the binary stripped before dump_syms?')
  if (cfiRules === 0) problems.push('no STACK CFI records: stacks are walked by frame pointer and scanning')
  if (functions + publics + cfiRules === 0) return { t: 'unusable', reason: `no function, no public name and no unwind rule (${skipped} lines skipped)` }
  return {
    t: 'prepared',
    prepared: {
      kind: 'breakpad-sym', debugFile: identity.name.slice(0, 512), debugId: identity.debugId, codeId: /^INFO CODE_ID ([0-9A-Fa-f]{1,80})/m.exec(head)?.[1]?.toLowerCase() ?? null,
      arch: identity.arch.slice(0, 64), functions, publics, cfiRules, problems, bytes: form,
    },
  }
}

function prepareSourceMap(bytes: Uint8Array): Extract<Answer, { t: 'prepared' | 'unusable' }> {
  let map: { mappings?: unknown; sections?: unknown; sources?: unknown; file?: unknown; debugId?: unknown; debug_id?: unknown }
  try {
    map = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')) as typeof map
  } catch (error) {
    return { t: 'unusable', reason: `source map: not JSON: ${messageOf(error).slice(0, 200)}` }
  }
  if (typeof map.mappings !== 'string') return { t: 'unusable', reason: Array.isArray(map.sections) ? 'source map: an index of sections carries no debug id; upload the maps that it names' : 'source map: no "mappings"' }
  const id = [map.debugId, map.debug_id].find((value): value is string => typeof value === 'string')?.toLowerCase().replaceAll('-', '')
  if (id === undefined || !/^[0-9a-f]{32}$/.test(id)) return { t: 'unusable', reason: 'source map: no "debugId" (a UUID); let the bundler write one' }
  const sources = Array.isArray(map.sources) ? map.sources.length : 0
  return { t: 'prepared', prepared: { kind: 'source-map', debugId: id, file: typeof map.file === 'string' ? map.file.slice(0, 512) : '', sources } }
}
