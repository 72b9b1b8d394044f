/**
 * The memory operand of one x86 or x86-64 instruction: Intel SDM volume 2, chapter 2 (format) and appendix A (opcode maps).
 *
 *   instruction = prefix* [REX | VEX | EVEX] opcode [ModRM [SIB] [displacement]] [immediate]
 *
 * Only which operand is memory, which way it goes and where it lies are decoded; whatever is not in the tables is null.
 */
import type { Memory } from '../formats/dump.ts'
import type { Instruction } from './instruction.ts'

interface Machine { bits: 32 | 64; registers: Map<string, bigint>; pc: bigint; memory: Memory }

const NAMES_64 = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15']
const NAMES_32 = ['eax', 'ecx', 'edx', 'ebx', 'esp', 'ebp', 'esi', 'edi']
const PREFIXES = new Set([0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65])

export function decodeX86(code: Uint8Array, machine: Machine): Instruction | null {
  let at = 0
  let segment = false
  let rep = 0
  while (at < code.length && PREFIXES.has(code[at]!)) {
    if (code[at] === 0x64 || code[at] === 0x65) segment = true
    if (code[at] === 0xf2 || code[at] === 0xf3) rep = code[at]!
    at++
  }
  let rex = 0
  if (machine.bits === 64 && (code[at]! & 0xf0) === 0x40) rex = code[at++]!
  const op = code[at++]
  if (op === undefined) return null
  const operand = (from: number, immediate: number): bigint | null => (segment ? null : effectiveAddress(code, from, rex, immediate, machine))
  const modrm = code[at] ?? -1
  const isMemory = modrm >= 0 && modrm >> 6 !== 3
  const reg = (modrm >> 3) & 7
  const via = (does: 'load' | 'store', immediate = 0): Instruction | null =>
    (isMemory ? { does, access: does === 'load' ? 'read' : 'write', address: operand(at, immediate), target: null } : null)

  if (machine.bits === 64 && (op === 0xc4 || op === 0xc5 || op === 0x62)) return vector(code, at, op, machine, segment)
  if (op === 0x0f) return twoByte(code, at, rep, operand)
  const stack = stackOperation(op, modrm, machine, isMemory ? operand(at, 0) : registerOf(modrm & 7, rex & 1, machine), isMemory)
  if (stack !== null) return stack
  if (op < 0x40) {
    const form = op & 7
    if (form > 3) return null
    // 38..3b compare: they read whichever operand is memory. Forms 0 and 1 have the memory as destination.
    return via(form < 2 && op >> 3 !== 7 ? 'store' : 'load')
  }
  switch (op) {
    case 0x63: case 0x69: case 0x6b: case 0x84: case 0x85: case 0x8a: case 0x8b: case 0x8e: return via('load', op === 0x69 ? 4 : op === 0x6b ? 1 : 0)
    case 0x86: case 0x87: case 0x88: case 0x89: case 0x8c: case 0x8f: return via('store')
    case 0xc6: return via('store', 1)
    case 0xc7: return via('store', 4)
    case 0x80: case 0x81: case 0x83: return via(reg === 7 ? 'load' : 'store', op === 0x81 ? 4 : 1)
    case 0xc0: case 0xc1: return via('store', 1)
    case 0xd0: case 0xd1: case 0xd2: case 0xd3: return via('store')
    case 0xf6: case 0xf7:
      if (reg >= 6 && !isMemory) return { does: 'divide', access: 'unknown', address: null, target: null }
      return via(reg === 2 || reg === 3 ? 'store' : 'load', reg < 2 ? (op === 0xf6 ? 1 : 4) : 0)
    case 0xfe: return via('store')
    case 0xff: return reg < 2 ? via('store') : null
    case 0xa4: case 0xa5: return null // movs reads and writes: the caller can't know which one failed
    case 0xaa: case 0xab: return string('store', 7, machine)
    case 0xac: case 0xad: return string('load', 6, machine)
    case 0xae: case 0xaf: return string('load', 7, machine)
    case 0xcc: return { does: 'breakpoint', access: 'unknown', address: null, target: null }
    case 0xf4: case 0xfa: case 0xfb: return { does: 'privileged', access: 'unknown', address: null, target: null }
    default: return null
  }
}

/** Push, pop, call, jump and return: they touch the stack, or go where a register or memory says. */
function stackOperation(op: number, modrm: number, machine: Machine, operand: bigint | null, operandIsMemory: boolean): Instruction | null {
  const width = machine.bits / 8
  const sp = registerOf(4, 0, machine)
  const below = sp === null ? null : BigInt.asUintN(machine.bits, sp - BigInt(width))
  if ((op >= 0x50 && op <= 0x57) || op === 0x68 || op === 0x6a) return { does: 'push', access: 'write', address: below, target: null }
  if (op >= 0x58 && op <= 0x5f) return { does: 'pop', access: 'read', address: sp, target: null }
  if (op === 0xc9) return { does: 'pop', access: 'read', address: registerOf(5, 0, machine), target: null }
  if (op === 0xc3 || op === 0xc2) return { does: 'return', access: 'read', address: sp, target: sp === null ? null : readPointer(machine, sp) }
  if (op === 0xe8) return { does: 'push', access: 'write', address: below, target: null }
  if (op !== 0xff) return null
  const reg = (modrm >> 3) & 7
  if (reg === 6) return operandIsMemory ? null : { does: 'push', access: 'write', address: below, target: null }
  if (reg !== 2 && reg !== 4) return null
  const target = !operandIsMemory ? operand : operand === null ? null : readPointer(machine, operand)
  return { does: reg === 2 ? 'call' : 'jump', access: operandIsMemory && target === null ? 'read' : 'execute', address: operandIsMemory ? operand : null, target }
}

/** 0F xx. */
function twoByte(code: Uint8Array, start: number, rep: number, operand: (at: number, immediate: number) => bigint | null): Instruction | null {
  const op = code[start]
  if (op === undefined) return null
  if (op === 0x0b || op === 0xff || op === 0xb9) return { does: 'undefined', access: 'unknown', address: null, target: null }
  if (op === 0x38 || op === 0x3a) return null
  const at = start + 1
  const modrm = code[at] ?? -1
  if (modrm < 0 || modrm >> 6 === 3) return null
  const reg = (modrm >> 3) & 7
  if (op === 0x0d || op === 0x18 || op === 0x1f) return null
  if (op === 0xba) return access(reg === 4 ? 'load' : 'store', operand(at, 1))
  if (op === 0xae) return reg === 0 || reg === 4 || reg === 3 ? access('store', operand(at, 0)) : reg === 1 || reg === 2 || reg === 5 ? access('load', operand(at, 0)) : null
  if (op === 0x7e && rep === 0xf3) return access('load', operand(at, 0))
  if (TWO_BYTE_STORES.has(op) || (op >= 0x90 && op <= 0x9f)) return access('store', operand(at, op === 0xa4 || op === 0xac ? 1 : 0))
  if (TWO_BYTE_LOADS.has(op) || (op >= 0x40 && op <= 0x6f) || (op >= 0x74 && op <= 0x76) || (op >= 0xd0 && op <= 0xfe)) return access('load', operand(at, op === 0x70 || op === 0xc2 ? 1 : 0))
  return null
}
const TWO_BYTE_STORES = new Set([0x11, 0x13, 0x17, 0x29, 0x2b, 0x7e, 0x7f, 0xa4, 0xa5, 0xab, 0xac, 0xad, 0xb0, 0xb1, 0xb3, 0xbb, 0xc0, 0xc1, 0xc3, 0xc7, 0xd6, 0xe7])
const TWO_BYTE_LOADS = new Set([0x10, 0x12, 0x14, 0x15, 0x16, 0x28, 0x2a, 0x2c, 0x2d, 0x2e, 0x2f, 0x70, 0xa3, 0xaf, 0xb6, 0xb7, 0xb8, 0xbc, 0xbd, 0xbe, 0xbf, 0xc2, 0xc6])

/** VEX and EVEX moves, compares and logic of the opcode map 0F, which string functions use. Others are not decoded. */
function vector(code: Uint8Array, start: number, op: number, machine: Machine, segment: boolean): Instruction | null {
  const length = op === 0xc5 ? 1 : op === 0xc4 ? 2 : 3
  const first = code[start]
  if (first === undefined) return null
  const map = op === 0xc5 ? 1 : op === 0xc4 ? first & 0x1f : first & 7
  const opcode = code[start + length]
  const modrm = code[start + length + 1]
  if (map !== 1 || opcode === undefined || modrm === undefined || modrm >> 6 === 3) return null
  // The register bits are stored inverted; C5 has none for base and index.
  const rex = op === 0xc5 ? 0 : (first & 0x20 ? 0 : 1) | (first & 0x40 ? 0 : 2)
  // EVEX scales a one-byte displacement by the vector's width: the address is left open.
  const address = segment || op === 0x62 ? null : effectiveAddress(code, start + length + 1, rex, 0, machine)
  if ([0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xd6, 0xe7].includes(opcode)) return access('store', address)
  if ([0x10, 0x12, 0x16, 0x28, 0x6f, 0x74, 0x75, 0x76, 0xda, 0xdb, 0xdf, 0xeb, 0xef].includes(opcode)) return access('load', address)
  return null
}

const access = (does: 'load' | 'store', address: bigint | null): Instruction => ({ does, access: does === 'load' ? 'read' : 'write', address, target: null })

const string = (does: 'load' | 'store', register: number, machine: Machine): Instruction => access(does, registerOf(register, 0, machine))

/** ModRM, SIB and displacement; `immediate` bytes follow and move what rip-relative is relative to. */
function effectiveAddress(code: Uint8Array, at: number, rex: number, immediate: number, machine: Machine): bigint | null {
  const modrm = code[at++]
  if (modrm === undefined) return null
  const mod = modrm >> 6
  const rm = modrm & 7
  let base: bigint | null
  let index: bigint | null = 0n
  let noBase = false
  let ripRelative = false
  if (rm === 4) {
    const sib = code[at++]
    if (sib === undefined) return null
    const indexNumber = ((sib >> 3) & 7) | (rex & 2 ? 8 : 0)
    if (indexNumber !== 4) {
      const value = registerOf(indexNumber & 7, indexNumber >> 3, machine)
      index = value === null ? null : value << BigInt(sib >> 6)
    }
    noBase = mod === 0 && (sib & 7) === 5
    base = noBase ? 0n : registerOf(sib & 7, rex & 1, machine)
  } else if (mod === 0 && rm === 5) {
    noBase = true
    ripRelative = machine.bits === 64
    base = 0n
  } else base = registerOf(rm, rex & 1, machine)
  const size = mod === 1 ? 1 : mod === 2 || noBase ? 4 : 0
  if (at + size > code.length || base === null || index === null) return null
  const view = new DataView(code.buffer, code.byteOffset, code.length)
  const displacement = size === 1 ? BigInt(view.getInt8(at)) : size === 4 ? BigInt(view.getInt32(at, true)) : 0n
  const origin = ripRelative ? machine.pc + BigInt(at + size + immediate) : base
  return BigInt.asUintN(machine.bits, origin + index + displacement)
}

const registerOf = (number: number, high: number, { bits, registers }: Machine): bigint | null =>
  registers.get((bits === 64 ? NAMES_64 : NAMES_32)[number + (bits === 64 && high ? 8 : 0)]!) ?? null

function readPointer({ bits, memory }: Machine, address: bigint): bigint | null {
  if (bits === 64) return memory.u64(address)
  const value = memory.u32(address)
  return value === null ? null : BigInt(value)
}
