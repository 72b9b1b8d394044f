import { expect, test } from 'vitest'
import { demangle } from '../../../symbolicate/symbols/demangle.ts'

test.each([
  ['_ZN3foo3barEi', 'foo::bar(int)'], ['_ZNKSt6vectorIiSaIiEE2atEm', 'std::vector<int, std::allocator<int> >::at(unsigned long) const'],
  ['_ZN4core3fmt5write17h0123456789abcdefE', 'core::fmt::write'], ['_RNvC7mycrate3foo', 'mycrate::foo'], ['?crash@@YAXH@Z', 'crash(int)'],
])('%s is %s', (mangled, plain) => {
  expect(demangle(mangled)).toBe(plain)
  expect(demangle(mangled)).toBe(plain)
})

test('names that are not mangled, or that lie about it, stay as they are', () => {
  for (const name of ['main', '', '_Z', '_ZN', '?', '_R', 'operator new(unsigned long)', '_ZZZZ', `_ZN${'9'.repeat(100)}`]) expect(demangle(name)).toBe(name)
})

test('names longer than any compiler writes are left alone', () => {
  const long = `_Z${'1a'.repeat(5_000)}`
  expect(demangle(long)).toBe(long)
})

test('a name that multiplies itself by substitution comes back bounded', () => {
  const name = `_Z1f${'I'.repeat(1)}St4pairI${'S_S_'.repeat(20)}EE${'v'.repeat(10)}`
  expect(demangle(name).length).toBeLessThanOrEqual(16_384)
  expect(demangle('_ZN3foo3barEi')).toBe('foo::bar(int)')
})
