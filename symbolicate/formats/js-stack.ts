/**
 * JavaScript stacks: application/vnd.overrun.js-stack+json, or the bare text of `error.stack`.
 *
 *   {
 *     "error": { "name": "TypeError", "message": "x is not a function", "stack": "TypeError: ...\n    at f (app.js:1:234)" },
 *     "engine": "v8" | "hermes" | "javascriptcore",                      optional
 *     "debug_ids": { "app.js": "85314830-023f-4cf1-a267-535f4e37bb17" }  optional: file as the stack names it -> debug id
 *   }
 *
 * `stack` may also stand at the top. The stack is read line by line:
 *
 *   V8      = '    at ' ['async '] ['new '] function [' [as ' name ']'] ' (' place ')' | '    at ' ['async '] place
 *   Hermes  = '    at ' function ' (address at ' file ':' line ':' offset ')'           offset from 0, the others from 1
 *   JSC     = [function] '@' place
 *   place   = file ':' line ':' column | 'native' | '<anonymous>' | 'eval at ' ... ', ' place
 *
 * Sources: V8's stack-trace-api, Hermes' JSError.cpp, ECMA-426 for debug ids. Nothing that a stack names is ever fetched.
 */
import type { Dump, Module, Note, TextFrame } from './dump.ts'
import { createMemory } from './memory.ts'
import { linesOf, TEXT_BUDGET, type TextBudget } from './text/lines.ts'

export interface JsStack {
  dump: Dump
  /** The frames of the dump's one thread, with what source maps need. */
  frames: JsFrame[]
  error: { name: string; message: string }
  /** File as the stack names it -> debug id, 32 lower-case hex digits. */
  debugIds: Map<string, string>
}
export type JsStackResult = JsStack | { slug: 'dump-empty' | 'dump-malformed' | 'budget-exceeded'; reason: string }

/** A place in a stack with the engine's column made to count from 0, as source maps do. */
export interface JsFrame extends TextFrame { column0: number | null }

export function parseJsStack(bytes: Uint8Array, budget: TextBudget = TEXT_BUDGET): JsStackResult {
  if (bytes.length === 0) return { slug: 'dump-empty', reason: 'js stack: no bytes' }
  if (bytes.length > budget.bytes) return { slug: 'budget-exceeded', reason: `js stack: ${bytes.length} bytes, at most ${budget.bytes} are read` }
  const read = readEnvelope(new TextDecoder().decode(bytes))
  if ('slug' in read) return read
  const { lines, notes } = linesOf(new TextEncoder().encode(read.stack), budget)
  const frames: JsFrame[] = []
  let omitted = 0
  for (const line of lines) {
    const frame = parseJsFrame(line)
    if (frame === null) continue
    if (frames.length < budget.frames) frames.push(frame)
    else omitted++
  }
  if (omitted > 0) notes.push({ slug: 'frames-omitted', text: `js stack: ${omitted} frames left out` })
  const error = errorOf(read, lines)
  return { dump: dumpOf(frames, error, read.debugIds, notes), frames, error, debugIds: read.debugIds }
}

interface Envelope { stack: string; name: string | null; message: string | null; debugIds: Map<string, string> }

function readEnvelope(text: string): Envelope | { slug: 'dump-malformed'; reason: string } {
  if (!/^\s*\{/.test(text)) return { stack: text, name: null, message: null, debugIds: new Map() }
  let value: Record<string, unknown>
  try {
    value = JSON.parse(text) as Record<string, unknown>
  } catch {
    return { slug: 'dump-malformed', reason: 'js stack: starts as JSON and is none' }
  }
  const error = isObject(value.error) ? value.error : value
  const stack = stringOf(error.stack) ?? stringOf(value.stack)
  if (stack === null) return { slug: 'dump-malformed', reason: 'js stack: no string "error.stack"' }
  const debugIds = new Map<string, string>()
  for (const [file, id] of Object.entries(isObject(value.debug_ids) ? value.debug_ids : {}).slice(0, 1_000)) {
    const digits = stringOf(id)?.toLowerCase().replaceAll('-', '')
    if (digits !== undefined && /^[0-9a-f]{32}$/.test(digits)) debugIds.set(file, digits)
  }
  return { stack, name: stringOf(error.name), message: stringOf(error.message), debugIds }
}

/** One line of a stack; null for the message and whatever else stands between. */
export function parseJsFrame(line: string): JsFrame | null {
  const text = line.trim()
  if (text.startsWith('at ')) return v8Frame(text.slice(3).replace(/^async /, ''))
  const at = text.lastIndexOf('@')
  if (at < 0) return null
  const place = placeOf(text.slice(at + 1))
  return place?.line == null ? null : frameOf(text.slice(0, at), place)
}

function v8Frame(text: string): JsFrame | null {
  const open = text.endsWith(')') ? text.indexOf(' (') : -1
  if (open < 0) {
    const place = placeOf(text)
    return place === null || place.line === null ? null : frameOf(null, place)
  }
  const place = placeOf(text.slice(open + 2, -1))
  return place === null ? null : frameOf(text.slice(0, open).replace(/ \[as [^\]]{0,200}\]$/, ''), place)
}

interface Place { file: string | null; line: number | null; column: number | null; column0: number | null }

function placeOf(text: string): Place | null {
  if (text === 'native' || text === '<anonymous>' || /^index \d+$/.test(text)) return { file: null, line: null, column: null, column0: null }
  const bytecode = text.startsWith('address at ')
  const rest = bytecode ? text.slice('address at '.length) : text.startsWith('eval at ') ? text.slice(text.lastIndexOf(', ') + 2) : text
  const position = /:(\d{1,9}):(\d{1,9})$/.exec(rest)
  if (!position) return null
  const line = Number(position[1])
  const column = Number(position[2])
  return { file: rest.slice(0, position.index), line, column, column0: bytecode ? column : Math.max(0, column - 1) }
}

function frameOf(name: string | null, { file, line, column, column0 }: Place): JsFrame {
  const known = name === null || name === '' || name === '<anonymous>' || name === 'anonymous' || name === '?anon_0_' ? null : name.replace(/^(?:new |async )/, '').slice(0, 500)
  return { address: null, module: file, moduleOffset: null, function: known, file, line, column, column0, inline: false }
}

/** The first line is `Name: message` where the envelope doesn't say. */
function errorOf({ name, message }: Envelope, lines: string[]): { name: string; message: string } {
  const first = lines.find((line) => line.trim() !== '' && parseJsFrame(line) === null) ?? ''
  const split = /^(?:Uncaught )?([A-Za-z_$][\w$.]{0,100}): (.*)$/.exec(first.trim())
  return { name: (name ?? split?.[1] ?? 'Error').slice(0, 100), message: (message ?? split?.[2] ?? (split ? '' : first.trim())).slice(0, 1_000) }
}

function dumpOf(frames: JsFrame[], error: { name: string; message: string }, debugIds: Map<string, string>, notes: Note[]): Dump {
  const files = [...new Set(frames.map(({ module }) => module).filter((file) => file !== null))]
  const modules = files.map((name): Module => ({ base: 0n, size: 0, name, codeId: null, debugId: debugIds.get(name) ?? null, debugFile: name, version: null }))
  return {
    format: 'js-stack', os: 'unknown', osVersion: null, cpu: 'unknown',
    exception: { type: error.name, code: 0, subcode: null, address: null, access: 'unknown' },
    crashingThread: 0, threads: [{ id: 0, name: null, registers: null, stack: null, frames }], modules, mainModule: modules.length > 0 ? 0 : null, unloadedModules: [],
    memory: createMemory([]), regions: [], annotations: {}, abortMessage: error.message === '' ? error.name : `${error.name}: ${error.message}`, pid: null, createdAt: null, notes,
  }
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)
const stringOf = (value: unknown): string | null => (typeof value === 'string' ? value : null)
