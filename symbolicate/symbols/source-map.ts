/**
 * JavaScript frames through source maps (ECMA-426), found by debug id and by nothing else: a file or URL that a crash
 * names is never fetched.
 *
 * A mapping names the token at a position, not the function around it. The token at a call is the function that was
 * called: so frame n takes its name from the place where frame n+1 called it, if the map has a name there, and keeps the
 * engine's own name if not. Each consumer lives in WebAssembly memory and is destroyed when its frames are done.
 */
import { SourceMapConsumer } from 'source-map'
import { messageOf } from '../../infra/service/errors.ts'
import type { Note } from '../formats/dump.ts'
import type { JsFrame } from '../formats/js-stack.ts'
import type { SymbolStatus } from './source.ts'

export interface MapSource { find(debugId: string): Promise<Uint8Array | null> }

/** The bundles of one stack; real ones are below 100 MiB each and few. */
export interface MapBudget { mapBytes: number; totalBytes: number; maps: number; sections: number }
export const MAP_BUDGET: MapBudget = { mapBytes: 128 * 1024 * 1024, totalBytes: 256 * 1024 * 1024, maps: 16, sections: 10_000 }

export interface MappedFrames {
  frames: JsFrame[]
  /** By file as the stack names it. */
  statuses: Map<string, { status: SymbolStatus; reason: string | null }>
  notes: Note[]
}

interface Position { file: string; line: number; column: number | null; name: string | null }

export async function mapFrames(frames: readonly JsFrame[], debugIds: ReadonlyMap<string, string>, maps: MapSource, budget: MapBudget = MAP_BUDGET): Promise<MappedFrames> {
  const statuses: MappedFrames['statuses'] = new Map()
  const positions = new Array<Position | null>(frames.length).fill(null)
  let bytesLeft = budget.totalBytes
  for (const file of new Set(frames.map(({ file }) => file).filter((name) => name !== null))) {
    const debugId = debugIds.get(file)
    if (debugId === undefined) { statuses.set(file, { status: 'no-id', reason: `${file}: the report names no debug id for it` }); continue }
    if (statuses.size >= budget.maps) { statuses.set(file, { status: 'missing', reason: `not looked for: a stack may use ${budget.maps} maps` }); continue }
    const bytes = await maps.find(debugId)
    if (bytes === null) { statuses.set(file, { status: 'missing', reason: `no source map for debug id ${debugId}` }); continue }
    if (bytes.length > Math.min(budget.mapBytes, bytesLeft)) { statuses.set(file, { status: 'corrupt', reason: `source map of ${bytes.length} bytes: more than is read` }); continue }
    bytesLeft -= bytes.length
    const wanted = frames.flatMap((frame, index) => (frame.file === file && frame.line !== null && frame.column0 !== null ? [{ index, line: frame.line, column: frame.column0 }] : []))
    const outcome = await lookUp(bytes, debugId, wanted, budget)
    if ('status' in outcome) { statuses.set(file, outcome); continue }
    statuses.set(file, { status: 'found', reason: null })
    for (const [index, position] of outcome.found) positions[index] = position
  }
  const notes = [...statuses].flatMap(([, { status, reason }]) => (status === 'found' ? [] : [{ slug: `source-map-${status}`, text: reason ?? status }]))
  return { frames: frames.map((frame, index) => mapped(frame, positions[index] ?? null, positions[index + 1] ?? null)), statuses, notes }
}

function mapped(frame: JsFrame, position: Position | null, caller: Position | null): JsFrame {
  if (position === null) return frame
  return { ...frame, function: caller?.name ?? frame.function, file: position.file, line: position.line, column: position.column }
}

async function lookUp(bytes: Uint8Array, debugId: string, wanted: { index: number; line: number; column: number }[], { sections }: MapBudget):
  Promise<{ found: Map<number, Position> } | { status: 'corrupt' | 'mismatched'; reason: string }> {
  let consumer: SourceMapConsumer | null = null
  try {
    // Some tools put )]}' before the JSON, against inclusion as a script.
    const raw: unknown = JSON.parse(new TextDecoder().decode(bytes).replace(/^\)\]\}'?[^\n]{0,100}\n/, ''))
    if (!isObject(raw)) return { status: 'corrupt', reason: 'source map: not a JSON object' }
    const carried = [raw.debugId, raw.debug_id].find((id) => typeof id === 'string')?.toLowerCase().replaceAll('-', '')
    if (carried !== undefined && carried !== debugId) return { status: 'mismatched', reason: `the source map carries debug id ${carried.slice(0, 64)}` }
    const problem = mapProblem(raw, sections)
    if (problem !== null) return { status: 'corrupt', reason: problem }
    consumer = await new SourceMapConsumer(raw as unknown as ConstructorParameters<typeof SourceMapConsumer>[0])
    const found = new Map<number, Position>()
    for (const { index, line, column } of wanted) {
      if (line < 1) continue
      const hit = consumer.originalPositionFor({ line, column })
      if (hit.source !== null && hit.line !== null) found.set(index, { file: hit.source, line: hit.line, column: hit.column === null ? null : hit.column + 1, name: hit.name })
    }
    return { found }
  } catch (error) {
    return { status: 'corrupt', reason: `source map: ${messageOf(error).slice(0, 200)}` }
  } finally {
    consumer?.destroy()
  }
}

/**
 * What the library would trip over. It reads the sections of an index map side by side, and where one throws at once the
 * failures of the others reach nobody and end the process; an index map within an index map is none (ECMA-426, 9).
 */
export function mapProblem(raw: Record<string, unknown>, mostSections: number): string | null {
  if (raw.sections === undefined) return plainProblem(raw)
  if (Number(raw.version) !== 3) return 'source map: the version is not 3'
  if (!Array.isArray(raw.sections)) return 'source map: "sections" is no list'
  if (raw.sections.length > mostSections) return `source map with ${raw.sections.length} sections, at most ${mostSections} are read`
  let last = [-1, 0]
  for (const [index, section] of (raw.sections as unknown[]).entries()) {
    const offset = isObject(section) ? section.offset : null
    if (!isObject(section) || !isObject(offset) || !isObject(section.map)) return `source map: section ${index} has no offset or no map`
    const [line, column] = [offset.line, offset.column]
    if (!Number.isSafeInteger(line) || !Number.isSafeInteger(column)) return `source map: section ${index} has no place`
    const place = [line as number, column as number]
    if (place[0]! < last[0]! || (place[0] === last[0] && place[1]! < last[1]!)) return `source map: section ${index} lies before the one before it`
    if (section.url !== undefined || section.map.sections !== undefined) return `source map: section ${index} is elsewhere or has sections of its own`
    const problem = plainProblem(section.map)
    if (problem !== null) return `${problem} (section ${index})`
    last = place
  }
  return null
}

function plainProblem(map: Record<string, unknown>): string | null {
  if (Number(map.version) !== 3) return 'source map: the version is not 3'
  if (typeof map.mappings !== 'string') return 'source map: no "mappings"'
  if (!Array.isArray(map.sources) || !isText(map.sources)) return 'source map: "sources" is no list of names'
  if (map.names !== undefined && (!Array.isArray(map.names) || !isText(map.names))) return 'source map: "names" is no list of names'
  if (map.sourceRoot != null && typeof map.sourceRoot !== 'string') return 'source map: "sourceRoot" is no text'
  return null
}

const isText = (list: unknown[]): boolean => list.every((item) => item === null || typeof item === 'string')
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)
