import { encode, rfc8949EncodeOptions } from 'cborg'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { analyse } from '../../symbolicate/analyse.ts'
import { analyseStorm, parseStorm, STORM_TYPE } from '../../symbolicate/crash-storm.ts'
import { bstr, head, int, list, table, tstr } from '../ingest/forge.ts'

const wide = (value: bigint) => {
  const bytes = Buffer.alloc(9, 0x1b)
  bytes.writeBigUInt64BE(value, 1)
  return bytes
}
type Entry = [number, Buffer]
const drawn = (...changes: [number, Buffer | null][]): Buffer => {
  const entries = new Map<number, Buffer | null>([
    [1, int(4211)], [2, int(60)], [3, int(780)], [4, int(3100)], [5, int(1)], [6, int(0x1000)], [7, wide(0xffff_ffff_ffff_f123n)],
    [8, table([tstr('abort'), int(11)], [tstr('wild-read'), int(4200)])], [9, list(list(wide(0x7f00_dead_beefn), int(0x401000)))], ...changes,
  ])
  return table(...[...entries].filter((entry): entry is Entry => entry[1] !== null).map(([key, value]): [Buffer, Buffer] => [int(key), value]))
}
const claims = { compartment: 'httpd' }

test('a digest is one report with its kind and its facts, in the bucket of its program', () => {
  const analysis = analyseStorm(drawn(), claims)
  expect(analysis).toMatchObject({
    status: 'ok', kind: 'crash-storm', evidence: { class: 2, pc: null, faultAddress: null, against: [] }, signature: { title: 'crash storm in httpd', text: '1 | crash-storm | httpd' },
    report: { status: 'OK', format: 'crash-storm', threads: [] },
  })
  expect(analysis.evidence.for.map(({ text }) => text)).toEqual([
    '4211 crashes between 60 s and 780 s of uptime',
    '3100 different page offsets, 1 different program counters, fault addresses from 0x1000 to 0xfffffffffffff123',
    '11 times abort, 4200 times wild-read',
    'sample: 0x7f00deadbeef at 0x401000',
    '3100 different page offsets in 4211 crashes: addresses that somebody guesses look like this',
  ])
  expect(analyseStorm(drawn([1, int(5000)]), claims).signature.bucket).toBe(analysis.signature.bucket)
  expect(analyseStorm(drawn(), { compartment: 'sensord' }).signature.bucket).not.toBe(analysis.signature.bucket)
})

test('a crash loop speaks against guessing', () => {
  const loop = analyseStorm(drawn([4, int(1)]), claims)
  expect(loop.evidence).toMatchObject({ class: 1, against: [{ slug: 'storm-loop' }] })
})

test.each<[string, Buffer]>([
  ['a field is missing', drawn([4, null])],
  ['a field is unknown', drawn([10, int(1)])],
  ['no crash at all', drawn([1, int(0)], [4, int(0)], [5, int(0)], [8, table()])],
  ['more kinds than crashes', drawn([8, table([tstr('abort'), int(4212)])])],
  ['more program counters than crashes', drawn([5, int(4212)])],
  ['more page offsets than a page has', drawn([4, int(4097)])],
  ['ends before it begins', drawn([3, int(59)])],
  ['an address below zero', drawn([6, int(-1)])],
  ['seventeen samples', drawn([9, list(...Array.from({ length: 17 }, () => list(int(1), int(2))))])],
  ['a sample of three', drawn([9, list(list(int(1), int(2), int(3)))])],
  ['keys out of order', table([int(2), int(1)], [int(1), int(1)])],
  ['deeply nested', Buffer.concat([head(5, 1), int(1), Buffer.alloc(3000, 0x81), int(0)])],
  ['bytes behind it', Buffer.concat([drawn(), int(0)])],
  ['cut off', drawn().subarray(0, -1)],
  ['too large', table([int(1), bstr(Buffer.alloc(5000))])],
  ['a text', tstr('storm')],
])('a digest that is wrong is kept as dump-malformed: %s', (_, bytes) => {
  expect(analyseStorm(bytes, claims)).toMatchObject({ status: 'dump-malformed', statusReason: expect.stringMatching(/^crash storm: ./), kind: 'unknown' })
})

const world = { symbols: {} as never, maps: {} as never }

test('the claim of a storm hides no dump, and without the claim the bytes are none', async () => {
  const text = Buffer.from('==1==ERROR: AddressSanitizer: heap-use-after-free on address 0x1\n    #0 0x1 in f /a.c:1:1\n')
  expect(await analyse({ bytes: text, contentType: STORM_TYPE, claims, annotations: {} }, world)).toMatchObject({ kind: 'use-after-free' })
  expect(await analyse({ bytes: drawn(), contentType: STORM_TYPE, claims, annotations: {} }, world)).toMatchObject({ kind: 'crash-storm' })
  expect(await analyse({ bytes: drawn(), contentType: 'application/x-minidump', claims, annotations: {} }, world)).toMatchObject({ status: 'format-unknown' })
})

test('any bytes are a digest or a reason, and what is read is what was written', () => {
  const value = fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.string({ maxLength: 9 }), fc.constant(new Map([['abort', 1]])), fc.constant([[1, 2]]))
  const map = fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), value), { maxLength: 9 }).map((entries) => encode(new Map(entries), rfc8949EncodeOptions))
  fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 100 }), map), (bytes) => {
    const storm = parseStorm(bytes)
    if ('reason' in storm) expect(storm.reason).not.toBe('')
    else expect(storm.offsets).toBeLessThanOrEqual(storm.count)
  }), { numRuns: 2000 })
})
