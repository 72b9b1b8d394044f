import { expect, test } from 'vitest'
import { InputError, Reader } from '../../symbolicate/reader.ts'

test('both byte orders, one after the other', () => {
  const bytes = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff])
  const little = new Reader(bytes)
  expect([little.u16(), little.u32(), little.u64(), little.u8()]).toEqual([0x0201, 0x06050403, 0x0e0d0c0b0a090807n, 0xff])
  const big = new Reader(bytes, false)
  expect([big.u16(), big.u32(), big.u64()]).toEqual([0x0102, 0x03040506, 0x0708090a0b0c0d0en])
  expect(new Reader(new Uint8Array(4).fill(255)).i32()).toBe(-1)
})

test('nothing is read past the end, whatever the numbers', () => {
  const reader = new Reader(new Uint8Array(8))
  for (const [offset, length] of [[8, 1], [0, 9], [-1, 1], [0, -1], [2 ** 52, 2 ** 52], [1.5, 1], [Number.NaN, 1], [Number.MAX_SAFE_INTEGER, 1]] as const) {
    expect(() => reader.slice(offset, length, 'x'), `${offset}+${length}`).toThrow(InputError)
  }
  expect(reader.slice(8, 0, 'x')).toHaveLength(0)
  expect(() => reader.seek(5).u32()).toThrow('u32: 4 bytes at 5 end past the file (1 bytes missing)')
  expect(() => new Reader(new Uint8Array(8).fill(0xff)).size64('rva')).toThrow(/no offset/)
})

test('a part can\'t reach its surroundings', () => {
  const part = new Reader(Uint8Array.from([1, 2, 3, 4])).part(1, 2, 'middle')
  expect(part.u16()).toBe(0x0302)
  expect(() => part.u8()).toThrow(InputError)
})

test('a count is what fits, not what is claimed', () => {
  const reader = new Reader(new Uint8Array(100)).seek(10)
  expect(reader.count(0xffff_ffff, 12, 1000)).toBe(7)
  expect(reader.count(3, 12, 1000)).toBe(3)
  expect(reader.count(50, 1, 20)).toBe(20)
  expect(reader.seek(200).count(5, 1, 10)).toBe(0)
})

test('the same bytes can\'t become text without end', () => {
  const reader = new Reader(new Uint8Array(1024 * 1024))
  expect(() => { for (let times = 0; times < 100; times++) reader.text(0, 1024 * 1024, 'name') }).toThrow(/bytes of text/)
})
