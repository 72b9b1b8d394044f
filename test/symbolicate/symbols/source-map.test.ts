import { SourceMapGenerator } from 'source-map'
import { expect, test } from 'vitest'
import type { JsFrame } from '../../../symbolicate/formats/js-stack.ts'
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
