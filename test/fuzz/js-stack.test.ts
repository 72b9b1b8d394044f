import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseJsStack } from '../../symbolicate/formats/js-stack.ts'
import { TEXT_BUDGET } from '../../symbolicate/formats/text/lines.ts'
import { mapFrames } from '../../symbolicate/symbols/source-map.ts'

const SLUGS = ['dump-empty', 'dump-malformed', 'budget-exceeded']
const piece = fc.constantFrom('    at ', 'async ', 'new ', 'f', ' (', ')', 'app.js:1:2', ':99999999999', 'address at ', 'native', '<anonymous>', 'eval at ', ', ', '@', '\n', 'TypeError: ', ' [as ', ']', '\\', '"', '{')
const stack = fc.array(fc.oneof({ weight: 5, arbitrary: piece }, fc.string({ maxLength: 10 })), { maxLength: 60 }).map((parts) => parts.join(''))
const envelope = fc.oneof(
  fc.uint8Array({ maxLength: 200 }).map((bytes) => bytes),
  stack.map((text) => new TextEncoder().encode(text)),
  fc.record({ error: fc.record({ name: fc.anything(), message: fc.anything(), stack }), debug_ids: fc.anything() }).map((value) => new TextEncoder().encode(JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v)))),
  fc.jsonValue().map((value) => new TextEncoder().encode(JSON.stringify(value))),
)

test('any bytes end as frames within the budget, or with one of our slugs', () => {
  fc.assert(fc.property(envelope, (bytes) => {
    const result = parseJsStack(bytes, { ...TEXT_BUDGET, frames: 8 })
    if ('slug' in result) { expect(SLUGS).toContain(result.slug); return }
    expect(result.dump.threads[0]!.frames!.length).toBeLessThanOrEqual(8)
  }), { numRuns: 1_500 })
})

const ID = 'a'.repeat(32)
const frame = { address: null, module: 'a.js', moduleOffset: null, function: 'f', file: 'a.js', line: 1, column: 3, column0: 2, inline: false }
const hostileMap = fc.oneof(
  fc.uint8Array({ maxLength: 100 }),
  fc.record({ version: fc.constantFrom(3, '3', 4, null), sources: fc.anything(), names: fc.anything(), mappings: fc.oneof(fc.string(), fc.stringMatching(/^[A-Za-z0-9+/,;]{0,60}$/)), sections: fc.option(fc.anything(), { nil: undefined }) })
    .map((map) => new TextEncoder().encode(JSON.stringify(map, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v)))),
)

test('any source map maps the frame or leaves it as it was', async () => {
  await fc.assert(fc.asyncProperty(hostileMap, async (bytes) => {
    const { frames, statuses } = await mapFrames([frame], new Map([['a.js', ID]]), { find: async () => bytes })
    expect(['found', 'corrupt', 'mismatched']).toContain(statuses.get('a.js')?.status)
    if (statuses.get('a.js')?.status !== 'found') expect(frames).toEqual([frame])
  }), { numRuns: 300 })
})
