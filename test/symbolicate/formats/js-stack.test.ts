import { SourceMapGenerator } from 'source-map'
import { describe, expect, test } from 'vitest'
import { analyse } from '../../../symbolicate/analyse.ts'
import { parseJsFrame, parseJsStack } from '../../../symbolicate/formats/js-stack.ts'

const ID = '85314830-023f-4cf1-a267-535f4e37bb17'
const bytesOf = (value: unknown) => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value))

describe('lines of a stack', () => {
  test.each([
    ['    at run (app.js:3:14)', { function: 'run', file: 'app.js', line: 3, column: 14, column0: 13 }],
    ['    at /srv/app/index.js:10:5', { function: null, file: '/srv/app/index.js', line: 10, column0: 4 }],
    ['    at async Promise.all (index 0)', { function: 'Promise.all', file: null }],
    ['    at new Server (node:net:12:3)', { function: 'Server', file: 'node:net', line: 12 }],
    ['    at Object.get [as value] (a.js:1:2)', { function: 'Object.get', file: 'a.js' }],
    ['    at eval (eval at run (app.js:3:14), <anonymous>:1:1)', { function: 'eval', file: '<anonymous>', line: 1 }],
    ['    at Array.map (<anonymous>)', { function: 'Array.map', file: null }],
    ['    at apply (native)', { function: 'apply', file: null }],
    ['    at anonymous (address at index.android.bundle:1:2468)', { function: null, file: 'index.android.bundle', line: 1, column0: 2468 }],
    ['render@main.jsbundle:4:1020', { function: 'render', file: 'main.jsbundle', line: 4, column0: 1019 }],
  ])('%s', (line, frame) => {
    expect(parseJsFrame(line)).toMatchObject(frame)
  })

  test.each(['TypeError: x is not a function', '', 'at', 'somebody@example.com', '    at '])('%j is no frame', (line) => {
    expect(parseJsFrame(line)).toBeNull()
  })
})

test('the envelope is read, and its refusals have slugs', () => {
  const read = parseJsStack(bytesOf({ error: { name: 'RangeError', message: 'no', stack: 'RangeError: no\n    at f (a.js:1:1)' }, debug_ids: { 'a.js': ID, 'b.js': 'nonsense' } }))
  if ('slug' in read) throw new Error(read.reason)
  expect(read.error).toEqual({ name: 'RangeError', message: 'no' })
  expect([...read.debugIds]).toEqual([['a.js', ID.replaceAll('-', '')]])
  expect(parseJsStack(bytesOf(''))).toMatchObject({ slug: 'dump-empty' })
  expect(parseJsStack(bytesOf('{"error":'))).toMatchObject({ slug: 'dump-malformed' })
  expect(parseJsStack(bytesOf({ error: {} }))).toMatchObject({ slug: 'dump-malformed' })
  expect(parseJsStack(new Uint8Array(100), { bytes: 10, lines: 1, lineLength: 1, frames: 1 })).toMatchObject({ slug: 'budget-exceeded' })
})

describe('through a source map', () => {
  const report = { error: { name: 'TypeError', message: "Cannot read properties of undefined (reading 'id')", stack: "TypeError: Cannot read ...\n    at a (app.js:1:31)\n    at b (app.js:1:61)\n    at app.js:1:91" }, debug_ids: { 'app.js': ID } }
  const asked: string[] = []
  const run = (map: object | string | null) => analyse({ bytes: bytesOf(report), contentType: 'application/vnd.overrun.js-stack+json', claims: {}, annotations: {} }, {
    symbols: { find: async () => ({ status: 'missing', reason: 'native' }) },
    maps: { find: async (id) => { asked.push(id); return map === null ? null : bytesOf(map) } },
  })

  function mapOf(extra: object): object {
    const generator = new SourceMapGenerator({ file: 'app.js' })
    const add = (column: number, line: number, name: string) => generator.addMapping({ generated: { line: 1, column }, original: { line, column: 4 }, source: 'src/cart.ts', name })
    add(30, 12, 'item')
    add(60, 40, 'priceOf')
    add(90, 77, 'checkout')
    return { ...(JSON.parse(generator.toString()) as object), ...extra }
  }

  test('frames get their source, their line, and the name by which the caller called them', async () => {
    const analysis = await run(mapOf({ debugId: ID }))
    expect(asked.at(-1)).toBe(ID.replaceAll('-', ''))
    expect(analysis.report.crashing_thread?.frames.map(({ function: name, file, line }) => [name, file, line])).toEqual([['priceOf', 'src/cart.ts', 12], ['checkout', 'src/cart.ts', 40], [null, 'src/cart.ts', 77]])
    expect(analysis).toMatchObject({ status: 'ok', kind: 'exception', evidence: { class: 1, cwe: [248] } })
    expect(analysis.signature.text).toBe('1 | exception | TypeError: Cannot read properties of undefined (reading TEXT) | priceOf | checkout')
    expect(analysis.report.modules[0]).toMatchObject({ filename: 'app.js', debug_id: ID.replaceAll('-', ''), symbol_status: 'found' })
  })

  test('Hermes\' offsets into its bytecode are looked up as they are', async () => {
    // hermesc's map, composed with the bundler's: one line, its columns are offsets of instructions, from 0.
    const generator = new SourceMapGenerator({ file: 'main.jsbundle' })
    const add = (column: number, line: number, name: string) => generator.addMapping({ generated: { line: 1, column }, original: { line, column: 2 }, source: 'src/screen.tsx', name })
    add(5400, 7, 'throwIt')
    add(5433, 8, 'none')
    add(90, 31, 'onPress')
    const stack = 'Error: boom\n    at throwIt (address at main.jsbundle:1:5432)\n    at anonymous (address at main.jsbundle:1:99)\n    at global (address at main.jsbundle:1:1)\n    at apply (native)'
    const analysis = await analyse({ bytes: bytesOf({ error: { name: 'Error', message: 'boom', stack }, engine: 'hermes', debug_ids: { 'main.jsbundle': ID } }), contentType: 'application/vnd.overrun.js-stack+json', claims: {}, annotations: {} }, {
      symbols: { find: async () => ({ status: 'missing', reason: 'native' }) }, maps: { find: async () => bytesOf({ ...(JSON.parse(generator.toString()) as object), debugId: ID }) },
    })
    expect(analysis.report.crashing_thread?.frames.map(({ function: name, file, line }) => [name, file, line])).toEqual([['onPress', 'src/screen.tsx', 7], [null, 'src/screen.tsx', 31], ['global', 'main.jsbundle', 1], ['apply', null, null]])
  })

  test('an older tool\'s debug_id and an index of sections are read too', async () => {
    expect((await run(mapOf({ debug_id: ID }))).report.modules[0]).toMatchObject({ symbol_status: 'found' })
    const sections = { version: 3, sections: [{ offset: { line: 0, column: 0 }, map: mapOf({}) }], debugId: ID }
    expect((await run(sections)).report.crashing_thread?.frames[0]).toMatchObject({ function: 'priceOf', line: 12 })
  })

  test.each([
    ['no map', null, 'missing'], ['another file\'s map', mapOf({ debugId: '00000000-0000-0000-0000-000000000000' }), 'mismatched'], ['no JSON', 'oops', 'corrupt'],
    ['broken mappings', { version: 3, sources: ['a'], names: [], mappings: '!!!!', debugId: ID }, 'corrupt'], ['a map of the future', { version: 9, sources: [], names: [], mappings: '' }, 'corrupt'],
  ])('%s leaves the frames as they were, and says so', async (_, map, status) => {
    const analysis = await run(map)
    expect(analysis.report.modules[0]?.symbol_status).toBe(status)
    expect(analysis.report.crashing_thread?.frames[0]).toMatchObject({ function: 'a', file: 'app.js', line: 1 })
    expect(analysis.report.notes.map(({ slug }) => slug)).toContain(`source-map-${status}`)
  })
})
