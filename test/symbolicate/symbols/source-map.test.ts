import { SourceMapGenerator } from 'source-map'
import { expect, test } from 'vitest'
import type { JsFrame } from '../../../symbolicate/formats/js-stack.ts'
import { prepare } from '../../../symbolicate/sandbox/prepare.ts'
import { MAP_BUDGET, mapFrames } from '../../../symbolicate/symbols/source-map.ts'

const ID = 'b'.repeat(32)
const frame = (column0: number, extra: Partial<JsFrame> = {}): JsFrame =>
  ({ address: null, module: 'a.js', moduleOffset: null, function: 'x', file: 'a.js', line: 1, column: column0 + 1, column0, inline: false, ...extra })

function map(): Uint8Array {
  const generator = new SourceMapGenerator({ file: 'a.js' })
  generator.addMapping({ generated: { line: 1, column: 10 }, original: { line: 5, column: 2 }, source: 'src/a.ts' })
  generator.addMapping({ generated: { line: 1, column: 20 }, original: { line: 9, column: 0 }, source: 'src/a.ts', name: 'load' })
  return new TextEncoder().encode(generator.toString())
}

test('each map is asked for once by its debug id, and a file without one is never asked for', async () => {
  const asked: string[] = []
  const { statuses } = await mapFrames([frame(10), frame(20), frame(3, { file: 'https://example.com/evil.js' })], new Map([['a.js', ID]]), { find: async (id) => { asked.push(id); return map() } })
  expect(asked).toEqual([ID])
  expect(statuses.get('https://example.com/evil.js')?.status).toBe('no-id')
})

test('a frame takes its name from the place that called it, and keeps its own where the map has none', async () => {
  const { frames } = await mapFrames([frame(10), frame(20), frame(10)], new Map([['a.js', ID]]), { find: async () => map() })
  expect(frames.map(({ function: name, file, line, column }) => [name, file, line, column])).toEqual([['load', 'src/a.ts', 5, 3], ['x', 'src/a.ts', 9, 1], ['x', 'src/a.ts', 5, 3]])
})

test('maps past the budget are not parsed, and the status says so', async () => {
  const read = (budget: Partial<typeof MAP_BUDGET>) => mapFrames([frame(10)], new Map([['a.js', ID]]), { find: async () => map() }, { ...MAP_BUDGET, ...budget })
  expect((await read({ mapBytes: 10 })).statuses.get('a.js')).toMatchObject({ status: 'corrupt', reason: expect.stringContaining('more than is read') })
  expect((await read({ maps: 0 })).statuses.get('a.js')?.status).toBe('missing')
  expect((await read({})).statuses.get('a.js')?.status).toBe('found')
})

test.each<[string, object, string]>([
  ['a version of the future', { version: 4, sources: [], mappings: '', debugId: ID }, 'the version is not 3'],
  ['no mappings', { version: 3, sources: [], debugId: ID }, 'no "mappings"'],
  ['sections out of order', { version: 3, debugId: ID, sections: [[2, 0], [1, 0]].map(([line, column]) => ({ offset: { line, column }, map: { version: 3, sources: [], mappings: '' } })) }, 'section 1 lies before the one before it'],
  ['a section of a wrong version beside one that throws', { version: 3, debugId: ID, sections: [{ offset: { line: 0, column: 0 }, map: { version: 0, sources: [], mappings: '' } }, { offset: {}, map: {} }] }, 'the version is not 3 (section 0)'],
  ['sections that lie elsewhere', { version: 3, debugId: ID, sections: [{ offset: { line: 0, column: 0 }, url: 'https://example.com/a.map', map: { version: 3, sources: [], mappings: '' } }] }, 'is elsewhere'],
])('%s is said when it is uploaded, and when it is read', async (_, broken, reason) => {
  const bytes = new TextEncoder().encode(JSON.stringify(broken))
  expect(prepare(bytes, 'a.map')).toEqual({ t: 'unusable', reason: expect.stringContaining(reason) })
  expect((await mapFrames([frame(10)], new Map([['a.js', ID]]), { find: async () => bytes })).statuses.get('a.js')).toEqual({ status: 'corrupt', reason: expect.stringContaining(reason) })
})

test('an index map that carries a debug id is kept by it', () => {
  const index = { version: 3, debug_id: ID, sections: [{ offset: { line: 0, column: 0 }, map: JSON.parse(new TextDecoder().decode(map())) as object }] }
  expect(prepare(new TextEncoder().encode(JSON.stringify(index)), 'a.map')).toMatchObject({ t: 'prepared', prepared: { kind: 'source-map', debugId: ID } })
})
