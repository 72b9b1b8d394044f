import fc from 'fast-check'
import { expect, test } from 'vitest'
import { unreadable } from '../../../symbolicate/unreadable.ts'
import { checkAnswer } from '../../../symbolicate/sandbox/answers.ts'
import { inflate } from '../../../symbolicate/sandbox/inflate.ts'
import { createFrameReader, frame, WireError } from '../../../symbolicate/sandbox/wire.ts'
import { deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'

const u32 = (n: number) => Buffer.from([n >>> 24, n >>> 16, n >>> 8, n].map((b) => b & 0xff))
/** A frame by hand: the length of all, that of the text, the text, the bytes. */
const byHand = (text: string, bytes: Uint8Array = Buffer.alloc(0)) => {
  const utf8 = Buffer.from(text)
  return Buffer.concat([u32(4 + utf8.length + bytes.length), u32(utf8.length), utf8, bytes])
}
/** The stream cut at any places. */
const cut = (bytes: Uint8Array, places: readonly number[]) => {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b)
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end))
}

test('frames come out whole, in order, however the stream is cut', () => {
  fc.assert(fc.property(fc.array(fc.dictionary(fc.string(), fc.oneof(fc.integer(), fc.string(), fc.boolean())), { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 30 }), (messages, places) => {
    const reader = createFrameReader(2 ** 16)
    const out = cut(Buffer.concat(messages.map((message) => byHand(JSON.stringify(message)))), places).flatMap((chunk) => reader.push(chunk))
    expect(out).toEqual(messages)
  }), { numRuns: 200 })
})

test('any bytes end in messages or in our error, and no length makes it allocate', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(), { maxLength: 5 }), (bytes, places) => {
    const reader = createFrameReader(100)
    try {
      for (const chunk of cut(bytes, places)) for (const message of reader.push(chunk)) checkAnswer(message)
    } catch (error) {
      expect(error).toBeInstanceOf(WireError)
    }
  }), { numRuns: 500 })
  expect(() => createFrameReader(100).push(u32(0xffff_ffff))).toThrow('at most 100')
  expect(() => createFrameReader(100).push(u32(3))).toThrow(WireError)
  expect(() => createFrameReader(100).push(Buffer.concat([u32(8), u32(5), Buffer.from('true')]))).toThrow(WireError)
})

test('bytes travel beside the text, none of them included', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.array(fc.nat(), { maxLength: 9 }), (bytes, places) => {
    const order = { t: 'prepare', name: 'a.sym', bytes } as const
    const prepared = { t: 'prepared', prepared: { kind: 'source-map', debugId: '', file: '', sources: 0, bytes } } as const
    const stream = Buffer.concat([frame(order), byHand(JSON.stringify({ ...order, bytes: bytes.length }), bytes), frame(prepared)])
    const reader = createFrameReader(2 ** 16)
    const [first, second, third] = cut(stream, places).flatMap((chunk) => reader.push(chunk)) as [typeof order, typeof order, typeof prepared]
    for (const heard of [first.bytes, second.bytes, third.prepared.bytes]) expect(Buffer.compare(heard, bytes)).toBe(0)
  }), { numRuns: 200 })
})

test('deep nesting in a frame is our error, not a broken stack', () => {
  expect(() => createFrameReader(2 ** 20).push(byHand('['.repeat(500_000)))).toThrow(WireError)
  expect(() => createFrameReader(2 ** 21).push(byHand(`${'['.repeat(500_000)}"\\ud800"${']'.repeat(500_000)}`))).toThrow(WireError)
})

const analysis = unreadable('dump-truncated', 'cut', { contentType: 'text/plain', claims: {} })
const heard = (message: unknown) => checkAnswer(createFrameReader(2 ** 20).push(frame(message as never))[0])

test('an analysis survives the wire as it was, 64-bit addresses included', () => {
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (pc) => {
    const said = { ...analysis, evidence: { ...analysis.evidence, pc, sp: 0n } }
    expect(heard({ t: 'analysis', analysis: said })).toEqual({ t: 'analysis', analysis: said })
  }), { numRuns: 100 })
})

test.each([
  ['an unknown status', { ...analysis, status: 'fine' }],
  ['an address of 65 bits', { ...analysis, evidence: { ...analysis.evidence, pc: 2n ** 64n } }],
  ['a negative address', { ...analysis, evidence: { ...analysis.evidence, pc: -1n } }],
  ['a bucket that is none', { ...analysis, signature: { ...analysis.signature, bucket: '../../x' } }],
  ['a title beyond measure', { ...analysis, signature: { ...analysis.signature, title: 'x'.repeat(20_000) } }],
  ['a class beyond E4', { ...analysis, evidence: { ...analysis.evidence, class: 5 } }],
  ['frames without end', { ...analysis, signature: { ...analysis.signature, frames: Array<string>(65).fill('f') } }],
] as const)('an answer is not believed: %s', (_, said) => {
  expect(() => checkAnswer({ t: 'analysis', analysis: said })).toThrow(WireError)
})

test('lone surrogates are replaced, since no UTF-8 holds them', () => {
  expect(heard({ t: 'refused', status: 'dump-malformed', reason: 'a\ufffdb' })).toMatchObject({ reason: 'a\ufffdb' })
  expect(heard({ t: 'refused', status: 'dump-malformed', reason: 'a\ud800b' })).toMatchObject({ reason: 'a\ufffdb' })
  expect(heard({ t: 'refused', status: 'dump-malformed', reason: '\ud83d\ude00 \\ud800' })).toMatchObject({ reason: '\ud83d\ude00 \\ud800' })
})

test('what was compressed comes out, a bomb within its budget, and a wrong claim with its reason', () => {
  const plain = Buffer.from('crash '.repeat(100))
  expect(inflate(plain, undefined, 10)).toEqual({ bytes: plain })
  expect(inflate(gzipSync(plain), 'gzip', 1000)).toEqual({ bytes: plain })
  expect(inflate(zstdCompressSync(plain), 'zstd', 1000)).toEqual({ bytes: plain })
  expect(inflate(gzipSync(Buffer.alloc(10_000_000)), 'gzip', 1_000_000)).toMatchObject({ status: 'budget-exceeded' })
  expect(inflate(zstdCompressSync(Buffer.alloc(10_000_000)), 'zstd', 1_000_000)).toMatchObject({ status: 'budget-exceeded' })
  expect(inflate(deflateRawSync(plain), 'gzip', 1000)).toMatchObject({ status: 'encoding-invalid' })
  expect(inflate(gzipSync(plain), 'zstd', 1000)).toMatchObject({ status: 'encoding-invalid' })
  expect(inflate(gzipSync(plain).subarray(0, 20), 'gzip', 1000)).toMatchObject({ status: 'encoding-invalid' })
})

test('any bytes under any claim end in bytes within the budget or in a status', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom('gzip' as const, 'zstd' as const), (bytes, encoding) => {
    const result = inflate(bytes, encoding, 500)
    if ('bytes' in result) expect(result.bytes.length).toBeLessThanOrEqual(500)
    else expect(result.status).toMatch(/^(encoding-invalid|budget-exceeded)$/)
  }), { numRuns: 300 })
})
