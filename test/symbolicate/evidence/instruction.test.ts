import { describe, expect, test } from 'vitest'
import { decodeArm, decodeThumb } from '../../../symbolicate/evidence/instruction-arm.ts'
import { decodeArm64 } from '../../../symbolicate/evidence/instruction-arm64.ts'
import { decodeX86 } from '../../../symbolicate/evidence/instruction-x86.ts'
import { createMemory } from '../../../symbolicate/formats/memory.ts'

const REGISTERS = new Map(Object.entries({
  rax: 0x1000n, rcx: 0x10n, rdx: 0x20n, rbx: 0x3000n, rsp: 0x7000n, rbp: 0x8000n, rsi: 0x6000n, rdi: 0x5000n, r8: 0x800n, r9: 0x900n, r12: 0xc000n, r13: 0xd000n,
  eax: 0x1000n, ebx: 0x3000n, esp: 0x7000n, ebp: 0x8000n, ecx: 0x10n, edi: 0x5000n, esi: 0x6000n,
}))
const x64 = (bytes: number[]) => decodeX86(Uint8Array.from(bytes), { bits: 64, registers: REGISTERS, pc: 0x40_0000n, memory: createMemory([{ base: 0x7000n, bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) }]) })
const x86 = (bytes: number[]) => decodeX86(Uint8Array.from(bytes), { bits: 32, registers: REGISTERS, pc: 0x40_0000n, memory: createMemory([]) })

// Bytes and text as binutils' and LLVM's disassemblers have them.
describe('x86-64', () => {
  test.each([
    ['mov [rax], rcx', [0x48, 0x89, 0x08], 'store', 0x1000n], ['mov rcx, [rax]', [0x48, 0x8b, 0x08], 'load', 0x1000n],
    ['mov byte [rdi+rcx*4+8], 0', [0xc6, 0x44, 0x8f, 0x08, 0x00], 'store', 0x5048n], ['mov eax, [rbp-0x14]', [0x8b, 0x45, 0xec], 'load', 0x7fecn],
    ['mov [rip+0x10], eax', [0x89, 0x05, 0x10, 0, 0, 0], 'store', 0x40_0016n], ['mov dword [rip+0x10], 1', [0xc7, 0x05, 0x10, 0, 0, 0, 1, 0, 0, 0], 'store', 0x40_001an],
    ['mov eax, [r12]', [0x41, 0x8b, 0x04, 0x24], 'load', 0xc000n], ['mov eax, [r13]', [0x41, 0x8b, 0x45, 0x00], 'load', 0xd000n], ['mov eax, [rbx+r9*2]', [0x42, 0x8b, 0x04, 0x4b], 'load', 0x4200n],
    ['add [rbx], eax', [0x01, 0x03], 'store', 0x3000n], ['cmp [rbx], eax', [0x39, 0x03], 'load', 0x3000n], ['cmp byte [rbx], 0', [0x80, 0x3b, 0x00], 'load', 0x3000n],
    ['movzx eax, byte [rdi]', [0x0f, 0xb6, 0x07], 'load', 0x5000n], ['movups [rdi], xmm0', [0x0f, 0x11, 0x07], 'store', 0x5000n], ['movdqu xmm0, [rsi]', [0xf3, 0x0f, 0x6f, 0x06], 'load', 0x6000n],
    ['vmovdqu ymm0, [rsi]', [0xc5, 0xfe, 0x6f, 0x06], 'load', 0x6000n], ['vmovdqu [rdi], ymm0', [0xc5, 0xfe, 0x7f, 0x07], 'store', 0x5000n], ['rep stosb', [0xf3, 0xaa], 'store', 0x5000n],
    ['push rax', [0x50], 'push', 0x6ff8n], ['call rel32', [0xe8, 0, 0, 0, 0], 'push', 0x6ff8n], ['inc dword [rax]', [0xff, 0x00], 'store', 0x1000n],
  ] as [string, number[], string, bigint][])('%s', (_, bytes, does, address) => {
    expect(x64(bytes)).toMatchObject({ does, address, access: does === 'load' ? 'read' : 'write' })
  })

  test.each([
    ['ret', [0xc3], 'return', 0x0807060504030201n], ['call rax', [0xff, 0xd0], 'call', 0x1000n], ['jmp r8', [0x41, 0xff, 0xe0], 'jump', 0x800n], ['call [rsp]', [0xff, 0x14, 0x24], 'call', 0x0807060504030201n],
  ] as [string, number[], string, bigint][])('%s goes to where registers and memory say', (_, bytes, does, target) => {
    expect(x64(bytes)).toMatchObject({ does, target })
  })

  test.each([['lea rax, [rbx]', [0x48, 0x8d, 0x03]], ['nop [rax]', [0x0f, 0x1f, 0x00]], ['mov rax, rbx', [0x48, 0x89, 0xd8]], ['movsb', [0xa4]], ['a prefix and no more', [0x66]], ['nothing', []]] as [string, number[]][])('%s is not guessed', (_, bytes) => {
    expect(x64(bytes)).toBeNull()
  })

  test('an address in another segment is not computed', () => {
    expect(x64([0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0])).toMatchObject({ does: 'load', address: null })
  })
})

test('x86 has inc where x86-64 has REX', () => {
  expect(x86([0x40])).toBeNull()
  expect(x86([0x89, 0x03])).toMatchObject({ does: 'store', address: 0x3000n })
  expect(x86([0xa4])).toBeNull()
})

describe('arm64', () => {
  const registers = new Map(Object.entries({ x0: 0x1000n, x1: 0x2000n, x2: 0x41414141n, sp: 0x7000n, x30: 0x9000n }))
  const decode = (word: number) => decodeArm64(Uint8Array.of(word & 255, (word >>> 8) & 255, (word >>> 16) & 255, word >>> 24), registers)
  test.each([
    ['ldr x1, [x0, #8]', 0xf9400401, 'load', 0x1008n], ['str w1, [x0, #4]', 0xb9000401, 'store', 0x1004n], ['strb w1, [x0]', 0x39000001, 'store', 0x1000n], ['ldrsw x1, [x0]', 0xb9800001, 'load', 0x1000n],
    ['ldur x1, [x0, #-8]', 0xf85f8001, 'load', 0xff8n], ['str x1, [x0], #16', 0xf8010401, 'store', 0x1000n], ['stp x29, x30, [sp, #-16]!', 0xa9bf7bfd, 'store', null], ['ldp x0, x1, [sp]', 0xa94007e0, 'load', null],
    ['str q0, [x0]', 0x3d800000, 'store', 0x1000n], ['ldr q0, [x0, #16]', 0x3dc00400, 'load', 0x1010n], ['ldr x1, label', 0x58000041, 'load', null],
  ] as [string, number, string, bigint | null][])('%s', (_, word, does, address) => {
    expect(decode(word)).toMatchObject({ does, address })
  })
  test('branches say where they go', () => {
    expect(decode(0xd63f0040)).toMatchObject({ does: 'call', target: 0x41414141n }) // blr x2
    expect(decode(0xd65f03c0)).toMatchObject({ does: 'return', target: 0x9000n }) // ret
    expect(decode(0x00000000)).toMatchObject({ does: 'undefined' }) // udf #0
  })
  test.each([['add x0, x0, #1', 0x91000400], ['nop', 0xd503201f], ['prfm', 0xf9800000], ['a store of memory tags', 0xd9bfc860]])('%s accesses nothing', (_, word) => {
    expect(decode(word)).toBeNull()
  })
})

const bytesOf = (...halves: number[]): Uint8Array => Uint8Array.from(halves.flatMap((half) => [half & 255, half >>> 8]))
const ACCESS = { load: 'read', pop: 'read', store: 'write', push: 'write', undefined: 'unknown', breakpoint: 'unknown' } as const
type Does = keyof typeof ACCESS

describe('Thumb', () => {
  test.each([
    ['ldr r0, [pc, #156]', [0x4827], 'load'], ['str r1, [r2, r3]', [0x50d1], 'store'], ['ldrsb r1, [r2, r3]', [0x56d1], 'load'],
    ['ldr r1, [r2, #4]', [0x6851], 'load'], ['str r1, [r2, #4]', [0x6051], 'store'], ['strb r1, [r2, #1]', [0x7051], 'store'],
    ['ldrh r1, [r2, #2]', [0x8851], 'load'], ['strh r1, [r2, #2]', [0x8051], 'store'], ['str r1, [sp, #8]', [0x9102], 'store'],
    ['ldr r1, [sp, #8]', [0x9902], 'load'], ['push {r4, lr}', [0xb510], 'push'], ['pop {r4, pc}', [0xbd10], 'pop'],
    ['stmia r0!, {r1, r2}', [0xc006], 'store'], ['ldmia r0!, {r1, r2}', [0xc806], 'load'], ['bkpt 0x0001', [0xbe01], 'breakpoint'],
    ['udf #0', [0xde00], 'undefined'], ['str.w r1, [r2, #260]', [0xf8c2, 0x1104], 'store'],
    ['ldr.w r1, [r2, #260]', [0xf8d2, 0x1104], 'load'], ['strb.w r8, [r2], #1', [0xf802, 0x8b01], 'store'],
    ['ldrsh.w r8, [r2, #-4]', [0xf932, 0x8c04], 'load'], ['strd r0, r1, [r2]', [0xe9c2, 0x0100], 'store'],
    ['ldrd r0, r1, [r2]', [0xe9d2, 0x0100], 'load'], ['strex r0, r1, [r2]', [0xe842, 0x1000], 'store'],
    ['ldrex r0, [r2]', [0xe852, 0x0f00], 'load'], ['strexb r0, r1, [r2]', [0xe8c2, 0x1f40], 'store'],
    ['ldrexh r0, [r2]', [0xe8d2, 0x0f5f], 'load'], ['stl r1, [r2]', [0xe8c2, 0x1faf], 'store'],
    ['lda r1, [r2]', [0xe8d2, 0x1faf], 'load'], ['tbb [pc, r0]', [0xe8df, 0xf000], 'load'],
    ['stmdb sp!, {r4, r5, r6, r7, r8, r9, sl, fp, lr}', [0xe92d, 0x4ff0], 'push'],
    ['ldmia.w sp!, {r4, r5, r6, r7, r8, r9, sl, fp, pc}', [0xe8bd, 0x8ff0], 'pop'], ['stmdb r0!, {r1, r8}', [0xe920, 0x0102], 'store'],
    ['ldmdb r0!, {r1, r8}', [0xe930, 0x0102], 'load'], ['vstr s0, [r2]', [0xed82, 0x0a00], 'store'],
    ['vldr s0, [r2]', [0xed92, 0x0a00], 'load'], ['vpush {s16-s17}', [0xed2d, 0x8a02], 'store'],
    ['vpop {s16-s17}', [0xecbd, 0x8a02], 'load'], ['udf.w #0', [0xf7f0, 0xa000], 'undefined'],
    ['vst1.32 {d0}, [r2]', [0xf902, 0x078f], 'store'], ['vld1.32 {d0}, [r2]', [0xf922, 0x078f], 'load'],
  ] as [string, number[], Does][])('%s', (_, halves, does) => {
    expect(decodeThumb(bytesOf(...halves))).toMatchObject({ does, access: ACCESS[does], address: null })
  })

  test.each([
    ['adds r0, r1, r2', [0x1888]], ['b.n 7a', [0xe7fe]], ['bx lr', [0x4770]], ['bl 7e', [0xf7ff, 0xfffe]],
    ['mov.w r8, #0', [0xf04f, 0x0800]], ['pld [r2]', [0xf892, 0xf000]], ['sg', [0xe97f, 0xe97f]], ['tt r0, r1', [0xe841, 0xf000]],
    ['vmov r0, r1, s0, s1', [0xec51, 0x0a10]], ['vmov s0, r1', [0xee00, 0x1a10]], ['nop', [0xbf00]],
    ['mul.w r8, r1, r2', [0xfb01, 0xf802]],
    ['half of an instruction', [0xf8c2]], ['nothing', []],
  ] as [string, number[]][])('%s accesses nothing', (_, halves) => {
    expect(decodeThumb(bytesOf(...halves))).toBeNull()
  })
})

describe('ARM', () => {
  const decode = (word: number) => decodeArm(bytesOf(word & 0xffff, word >>> 16))
  test.each([
    ['str r1, [r2, #4]', 0xe5821004, 'store'], ['ldr r1, [r2, #4]', 0xe5921004, 'load'], ['strb r1, [r2, r3]', 0xe7c21003, 'store'],
    ['ldrb r1, [r2, r3]', 0xe7d21003, 'load'], ['strh r1, [r2]', 0xe1c210b0, 'store'], ['ldrh r1, [r2]', 0xe1d210b0, 'load'],
    ['ldrsb r1, [r2]', 0xe1d210d0, 'load'], ['ldrsh r1, [r2]', 0xe1d210f0, 'load'], ['strd r0, [r2]', 0xe1c200f0, 'store'],
    ['ldrd r0, [r2]', 0xe1c200d0, 'load'], ['strex r0, r1, [r2]', 0xe1820f91, 'store'], ['ldrex r0, [r2]', 0xe1920f9f, 'load'],
    ['push {r4, lr}', 0xe92d4010, 'push'], ['pop {r4, pc}', 0xe8bd8010, 'pop'], ['stmia r0!, {r1, r2}', 0xe8a00006, 'store'],
    ['ldmib r0, {r1, r2}', 0xe9900006, 'load'], ['vstr d0, [r2]', 0xed820b00, 'store'], ['vldr d0, [r2]', 0xed920b00, 'load'],
    ['vst1.32 {d0}, [r2]', 0xf402078f, 'store'], ['vld1.32 {d0}, [r2]', 0xf422078f, 'load'], ['udf #0', 0xe7f000f0, 'undefined'],
    ['bkpt 0x0001', 0xe1200071, 'breakpoint'],
  ] as [string, number, Does][])('%s', (_, word, does) => {
    expect(decode(word)).toMatchObject({ does, access: ACCESS[does], address: null })
  })

  test.each([
    ['add r0, r1, r2', 0xe0810002], ['mul r0, r1, r2', 0xe0000291], ['umull r0, r1, r2, r3', 0xe0810392], ['bl 64', 0xebfffffe],
    ['bx lr', 0xe12fff1e], ['sbfx r0, r1, #1, #2', 0xe7a100d1], ['vmov r0, r1, d0', 0xec510b10], ['pld [r2]', 0xf5d2f000],
    ['mov r0, #1', 0xe3a00001], ['nop {0}', 0xe320f000], ['swp r0, r1, [r2]', 0xe1020091],
  ] as [string, number][])('%s accesses nothing, or both ways', (_, word) => {
    expect(decode(word)).toBeNull()
  })
  test('three bytes are none', () => expect(decodeArm(Uint8Array.of(0, 0, 0x92))).toBeNull())
})
