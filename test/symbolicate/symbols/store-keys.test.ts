import fc from 'fast-check'
import { expect, test } from 'vitest'
import { checkKey } from '../../../infra/blobs/key.ts'
import { segment } from '../../../symbolicate/symbols/store.ts'

test('whatever a dump calls a module, its symbols have a key that the blob store takes', () => {
  const names = fc.oneof(fc.string({ unit: 'binary', maxLength: 4000 }), fc.constantFrom('libstdc++.so.6', '.', '..', '', '-rf', '../../etc/passwd', 'a/b', '\0', '名前.so', '\ud800'))
  fc.assert(fc.property(names, (name) => {
    expect(segment(name)).not.toContain('/')
    checkKey(`symbols/${segment(name)}/_`)
  }), { numRuns: 2000 })
})

test('different module names never share a key', () => {
  expect(segment('libstdc++.so.6')).toBe('libstdc=2B=2B.so.6')
  const names = ['a', '_a', '.a', '_.a', '=2Ea', 'a'.repeat(121), `${'a'.repeat(121)}b`]
  expect(new Set(names.map(segment)).size).toBe(names.length)
})
