import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DerError } from '../../ingest/der.ts'
import { der, objectIdentifier } from '../../ingest/device/issue.ts'
import { readTcbInfo } from '../../ingest/dice.ts'

const SHA_256 = '2.16.840.1.101.3.4.2.1'
const SHA_384 = '2.16.840.1.101.3.4.2.2'
const fwid = (oid: string, bytes: number, fill: number): Buffer => der(0x30, objectIdentifier(oid), der(0x04, Buffer.alloc(bytes, fill)))
const text = (tag: number, value: string): Buffer => der(tag, Buffer.from(value))

/** All fields that the architecture names, in its order. */
const full = der(0x30, text(0x80, 'maker'), text(0x81, 'meter'), text(0x82, '2.1'), der(0x83, Buffer.of(0x01, 0x2c)), der(0x84, Buffer.of(1)), der(0x85, Buffer.of(0)),
  der(0xa6, fwid(SHA_256, 32, 0xaa), fwid(SHA_384, 48, 0xbb), fwid('1.2.3', 20, 0xcc)), der(0x87, Buffer.of(0, 1)), der(0x88, Buffer.of(9)), der(0x89, Buffer.of(8)))

describe('a TcbInfo', () => {
  test('gives the security version and the digests of the firmware', () => {
    expect(readTcbInfo(full)).toEqual({ svn: 300, fwids: [{ alg: 'sha256', digest: 'aa'.repeat(32) }, { alg: 'sha384', digest: 'bb'.repeat(48) }, { alg: '1.2.3', digest: 'cc'.repeat(20) }] })
    expect(readTcbInfo(der(0x30))).toEqual({ fwids: [] })
  })

  test.each<[string, Buffer]>([
    ['a digest of another length than its hash', der(0x30, der(0xa6, fwid(SHA_256, 31, 1)))],
    ['an empty digest', der(0x30, der(0xa6, fwid('1.2.3', 0, 0)))],
    ['a digest longer than any hash', der(0x30, der(0xa6, fwid('1.2.3', 65, 0)))],
    ['fields out of order', der(0x30, der(0xa6, fwid(SHA_256, 32, 1)), der(0x83, Buffer.of(1)))],
    ['a security version twice', der(0x30, der(0x83, Buffer.of(1)), der(0x83, Buffer.of(2)))],
    ['a negative security version', der(0x30, der(0x83, Buffer.of(0x80)))],
    ['a field that is no field', der(0x30, der(0x02, Buffer.of(1)))],
    ['a byte after it', Buffer.concat([full, Buffer.of(0)])],
  ])('is refused with %s', (_, value) => {
    expect(() => readTcbInfo(value)).toThrow(DerError)
  })

  test('ends on any bytes, with what it says or a DerError', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.nat(full.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (changes) => {
      const copy = Buffer.from(full)
      for (const [at, byte] of changes) copy[at] = byte
      try {
        expect(readTcbInfo(copy).fwids.every(({ digest }) => /^([0-9a-f]{2}){1,64}$/.test(digest))).toBe(true)
      } catch (error) {
        expect(error).toBeInstanceOf(DerError)
      }
    }), { numRuns: 1000 })
  })
})
