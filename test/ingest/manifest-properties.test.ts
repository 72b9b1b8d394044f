import { decodeFirst } from 'cborg'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { scanItem } from '../../ingest/cbor-scan.ts'
import { MANIFEST_LIMITS, decodeManifest, scanManifest } from '../../ingest/manifest.ts'
import { OUTCOMES } from '../../ingest/outcome.ts'
import { bstr, cborMap, drawManifest, goodHeader, claimsWith, head } from './build-manifest.ts'

const bytes = fc.uint8Array({ maxLength: 400 })
const good = drawManifest()

/** Mostly well-formed CBOR: numbers, strings, arrays and maps in deterministic form, with a byte changed now and then. */
const { item: cborItem } = fc.letrec<{ item: Buffer }>((tie) => ({
  item: fc.oneof({ depthSize: 'small', withCrossShrink: true },
    fc.integer({ min: 0, max: 70_000 }).map((n) => head(0, n % 65_536)),
    fc.integer({ min: 0, max: 65_535 }).map((n) => head(1, n)),
    fc.uint8Array({ maxLength: 30 }).map(bstr),
    fc.string({ maxLength: 20 }).map((text) => Buffer.concat([head(3, Buffer.byteLength(text)), Buffer.from(text)])),
    fc.constantFrom(0xf4, 0xf5, 0xf6).map((byte) => Buffer.of(byte)),
    fc.array(tie('item'), { maxLength: 6 }).map((items) => Buffer.concat([head(4, items.length), ...items])),
    fc.array(fc.tuple(fc.integer({ min: -300, max: 300 }), fc.integer()), { maxLength: 6 }).map((pairs) => cborMap(new Map(pairs))),
  ),
}))
const damaged = fc.tuple(cborItem, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 2 })).map(([item, changes]) => {
  const copy = Buffer.from(item)
  for (const [at, byte] of changes) copy[at % copy.length] = byte
  return copy
})

/** A view in the middle of a larger buffer whose surroundings must not be read: a wrong read would see 0xff heads. */
function fenced(content: Uint8Array): Uint8Array {
  const whole = new Uint8Array(content.length + 32).fill(0xff)
  whole.set(content, 16)
  return whole.subarray(16, 16 + content.length)
}

describe('the scanner', () => {
  test('ends on any bytes, inside them, with an end, "incomplete" or a slug of ours', () => {
    fc.assert(fc.property(fc.oneof(bytes, damaged), (input) => {
      const scan = scanItem(fenced(input), 0, MANIFEST_LIMITS)
      if ('slug' in scan) expect(OUTCOMES).toHaveProperty([scan.slug])
      else if (scan.kind === 'complete') expect(scan.end).toBeLessThanOrEqual(input.length)
    }), { numRuns: 3000 })
  })

  test('agrees with cborg strict on where an item ends', () => {
    fc.assert(fc.property(damaged, bytes, (item, rest) => {
      const input = Buffer.concat([item, rest])
      const scan = scanItem(input, 0, MANIFEST_LIMITS)
      if ('slug' in scan || scan.kind === 'incomplete') return
      const [, left] = decodeFirst(input, { strict: true, useMaps: true, rejectDuplicateMapKeys: true })
      expect(scan.end).toBe(input.length - left.length)
    }), { numRuns: 3000 })
  })

  test('accepts what is in deterministic form, whatever follows', () => {
    fc.assert(fc.property(cborItem, bytes, (item, rest) => {
      expect(scanItem(Buffer.concat([item, rest]), 0, { bytes: 1e6, depth: 100, entries: 1000, text: 1000 })).toEqual({ kind: 'complete', end: item.length })
    }), { numRuns: 1000 })
  })

  test('says incomplete on every part of an item, never an end', () => {
    fc.assert(fc.property(cborItem, fc.nat(), (item, at) => {
      expect(scanItem(item.subarray(0, at % item.length), 0, { bytes: 1e6, depth: 100, entries: 1000, text: 1000 })).toEqual({ kind: 'incomplete' })
    }), { numRuns: 1000 })
  })

  test('never waits for more than the limit', () => {
    fc.assert(fc.property(bytes, fc.integer({ min: 1, max: 300 }), (input, limit) => {
      const scan = scanManifest(Buffer.concat([Buffer.from([0xd2, 0x84]), input]), { ...MANIFEST_LIMITS, bytes: limit })
      if ('kind' in scan && scan.kind === 'complete') expect(scan.end).toBeLessThanOrEqual(limit)
      if ('kind' in scan && scan.kind === 'incomplete') expect(input.length + 2).toBeLessThanOrEqual(limit + 1)
    }), { numRuns: 2000 })
  })
})

describe('the decoder', () => {
  const ends = (input: Uint8Array): void => {
    const result = decodeManifest(fenced(input))
    if ('slug' in result) expect(OUTCOMES).toHaveProperty([result.slug])
    else expect(result.digest).toHaveLength(32)
  }

  test('ends on any bytes with a manifest or a slug of ours', () => {
    fc.assert(fc.property(bytes, (input) => ends(Buffer.concat([Buffer.from([0xd2, 0x84]), input]))), { numRuns: 2000 })
  })

  test('ends on any protected header', () => {
    fc.assert(fc.property(damaged, (protectedBytes) => ends(drawManifest({ protectedBytes }))), { numRuns: 500 })
  })

  test('ends on any claim under any label', () => {
    const label = fc.constantFrom(6, 10, 256, 259, 261, 263, 265, 267, 268, 270, 271, -65537, -65538, -65539, -65540, -65541, -65542, -65543, -65544, -65545, -65546, 1)
    const value = fc.oneof(fc.integer(), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.uint8Array({ maxLength: 70 }), fc.string(), fc.constantFrom(null, true, [], ['1', 2], new Map([[1, 'p']]), 1.5))
    fc.assert(fc.property(label, value, (key, claim) => ends(drawManifest({ claims: claimsWith([key, claim]), header: goodHeader() }))), { numRuns: 500 })
  })

  test('ends on a manifest with any bytes changed', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }), (changes) => {
      const item = Buffer.from(good)
      for (const [at, byte] of changes) item[at] = byte
      ends(item)
    }), { numRuns: 3000 })
  })
})
