import { expect, test } from 'vitest'
import { normaliseName, parameteriseMessage } from '../../../symbolicate/signature/normalise.ts'

test.each([
  ['main', 'main'],
  ['_ZN3foo3barEi', 'foo::bar'],
  ['foo::bar(int, char const*) const', 'foo::bar'],
  ['run.constprop.0.cold', 'run'],
  ['parse.isra.0.part.3', 'parse'],
  ['memcpy@@GLIBC_2.14', 'memcpy'],
  ['read_loop.llvm.1234567890', 'read_loop'],
  ['foo<int>(int) [clone .isra.0]', 'foo<T>'],
  ['void rawspeed::copy_line<std::vector<int> >(int (*)(char))', 'rawspeed::copy_line<T>'],
  ['(anonymous namespace)::Reader::next()', '(anon)::Reader::next'],
  ["v8::internal::`anonymous namespace'::GenerateSourceString", 'v8::internal::(anon)::GenerateSourceString'],
  ['A::f()::{lambda(int)#2}::operator()(int) const', 'A::f::{lambda}::operator()'],
  ['main::$_0::operator()() const', 'main::{lambda}::operator()'],
  ['operator new(unsigned long)', 'operator new'],
  ['operator delete[](void*)', 'operator delete[]'],
  ['Foo::operator<<(std::ostream&)', 'Foo::operator<<'],
  ['Foo::operator->() const', 'Foo::operator->'],
  ['Foo::operator bool() const', 'Foo::operator bool'],
  ['core::fmt::write::h0123456789abcdef', 'core::fmt::write'],
  ['alloc::vec::Vec<T,A>::push', 'alloc::vec::Vec<T>::push'],
  ['app::main::{{closure}}::h0123456789abcdef', 'app::main::{closure}'],
  ['<alloc::vec::Vec<u8> as core::iter::Iterator>::next', '<alloc::vec::Vec<T> as core::iter::Iterator>::next'],
  ['flate.(*compressor).deflate', 'flate.(*compressor).deflate'],
  ['-[AppDelegate application:didFinish:]', '-[AppDelegate application:didFinish:]'],
  ['vkGetStub$8d185785d173e702d91e2893e143a6d9.cfi', 'vkGetStub'],
  ['RtlUserThreadStart+0x21', 'RtlUserThreadStart'],
  ['__memmove_avx_unaligned_erms', 'memmove'],
  ['__strlen_evex', 'strlen'],
  ['protocol witness for P.Decoder.next(value: inout Int) throws -> () in conformance A : B in C', 'P.Decoder.next'],
])('%s is %s', (raw, name) => {
  expect(normaliseName(raw)).toBe(name)
})

test('a normalised name stays as it is', () => {
  for (const name of ['foo<T>', '(anon)::f', 'A::{lambda}::operator()', '<A<T> as B>::f', 'Foo::operator bool', 'x::operator<<']) expect(normaliseName(name)).toBe(name)
})

test.each([
  ['index 17 out of range for length 4', 'index NUMBER out of range for length NUMBER'],
  ['cannot open /var/lib/app/state-3.db', 'cannot open PATH'],
  ['bad pointer 0x7ffe12 in frame', 'bad pointer ADDRESS in frame'],
  ["Cannot read properties of undefined (reading 'email')", 'Cannot read properties of undefined (reading TEXT)'],
  ['session 85314830-023f-4cf1-a267-535f4e37bb17 is gone', 'session ID is gone'],
  ['commit 8d185785d173e702d91e2893e143a6d9 missing', 'commit HASH missing'],
])('the message %s is %s', (raw, message) => {
  expect(parameteriseMessage(raw)).toBe(message)
})
