/**
 * A DWARF expression (DWARF 5, section 2.5) as the postfix text that unwind/breakpad-cfi.ts evaluates. What it computes is
 * straight-line arithmetic over registers and memory: the stack is worked out here, with a text for each value on it, so
 * that `dup`, `swap` and their kin need no operators. null for anything else (branches, calls, pieces, thread-local storage):
 * such a rule is "not known".
 *
 * The usual one is a procedure linkage table's, whose CFA depends on where in the entry the program counter is:
 *   $rsp 8 + $rip 15 & 11 >= 3 << +
 */
import type { Cursor } from './cursor.ts'

const OP = {
  addr: 0x03, deref: 0x06, const1u: 0x08, const1s: 0x09, const2u: 0x0a, const2s: 0x0b, const4u: 0x0c, const4s: 0x0d, const8u: 0x0e, const8s: 0x0f, constu: 0x10,
  consts: 0x11, dup: 0x12, drop: 0x13, over: 0x14, pick: 0x15, swap: 0x16, rot: 0x17, and: 0x1a, minus: 0x1c, mul: 0x1e, neg: 0x1f, not: 0x20, or: 0x21, plus: 0x22,
  plusUconst: 0x23, shl: 0x24, shr: 0x25, shra: 0x26, xor: 0x27, eq: 0x29, ge: 0x2a, gt: 0x2b, le: 0x2c, lt: 0x2d, ne: 0x2e, lit0: 0x30, reg0: 0x50, breg0: 0x70,
  bregx: 0x92, derefSize: 0x94, nop: 0x96,
} as const

const BINARY: ReadonlyMap<number, string> = new Map([
  [OP.and, '&'], [OP.minus, '-'], [OP.mul, '*'], [OP.or, '|'], [OP.plus, '+'], [OP.shl, '<<'], [OP.shr, '>>'], [OP.shra, '>>>'], [OP.xor, 'xor'],
  [OP.eq, '=='], [OP.ge, '>='], [OP.gt, '>'], [OP.le, '<='], [OP.lt, '<'], [OP.ne, '!='],
])
const MASKS: ReadonlyMap<number, string> = new Map([[1, '255'], [2, '65535'], [4, '4294967295']])

const DEEPEST = 16
/** Twice a compiler's longest; `dup` doubles. */
const LONGEST = 512

/** Reads up to `end`; `first` is what lies on the stack before: the CFA, in the rule of a register. */
export function translate(cursor: Cursor, end: number, names: readonly string[], width: 4 | 8, first: string | null): string | null {
  const stack: string[] = first === null ? [] : [first]
  while (cursor.at < end) {
    if (!step(cursor, stack, names, width) || stack.length > DEEPEST || (stack.at(-1)?.length ?? 0) > LONGEST) return null
  }
  return stack.at(-1) ?? null
}

/** false: not understood, or the stack is too short. */
function step(cursor: Cursor, stack: string[], names: readonly string[], width: 4 | 8): boolean {
  const op = cursor.u8()
  const operator = BINARY.get(op)
  if (operator !== undefined) return combine(stack, operator)
  if (op >= OP.lit0 && op < OP.reg0) return push(stack, String(op - OP.lit0))
  if (op >= OP.breg0 && op < OP.breg0 + 32) return pushRegister(stack, names[op - OP.breg0], cursor.sleb())
  switch (op) {
    case OP.bregx: return pushRegister(stack, names[cursor.uleb()], cursor.sleb())
    case OP.const1u: return push(stack, String(cursor.u8()))
    case OP.const1s: return push(stack, String((cursor.u8() << 24) >> 24))
    case OP.const2u: return push(stack, String(cursor.u16()))
    case OP.const2s: return push(stack, String(cursor.i16()))
    case OP.const4u: return push(stack, String(cursor.u32()))
    case OP.const4s: return push(stack, String(cursor.i32()))
    case OP.const8u: return pushExact(stack, cursor.u64())
    case OP.const8s: return pushExact(stack, cursor.i64())
    case OP.constu: return pushExact(stack, cursor.uleb())
    case OP.consts: return pushExact(stack, cursor.sleb())
    case OP.plusUconst: return push(stack, String(cursor.uleb())) && combine(stack, '+')
    case OP.dup: return pick(stack, 0)
    case OP.over: return pick(stack, 1)
    case OP.pick: return pick(stack, cursor.u8())
    case OP.drop: return stack.pop() !== undefined
    case OP.swap: return rotate(stack, 2)
    case OP.rot: return rotate(stack, 3)
    case OP.neg: return apply(stack, (value) => `0 ${value} -`)
    case OP.not: return apply(stack, (value) => `${value} -1 xor`)
    case OP.deref: return apply(stack, (value) => `${value} ^`)
    case OP.derefSize: {
      const size = cursor.u8()
      const mask = MASKS.get(size)
      if (size !== width && mask === undefined) return false
      return apply(stack, (value) => (size === width ? `${value} ^` : `${value} ^ ${mask} &`))
    }
    case OP.nop: return true
    default: return false
  }
}

const push = (stack: string[], value: string): boolean => stack.push(value) > 0

/** Constants of 64 bits that a double does not hold are no sizes and no offsets. */
const pushExact = (stack: string[], value: number): boolean => Number.isSafeInteger(value) && push(stack, String(value))

function pushRegister(stack: string[], name: string | undefined, offset: number): boolean {
  return name !== undefined && push(stack, offset === 0 ? name : `${name} ${offset} +`)
}

function combine(stack: string[], operator: string): boolean {
  const [right, left] = [stack.pop(), stack.pop()]
  return left !== undefined && right !== undefined && push(stack, `${left} ${right} ${operator}`)
}

function apply(stack: string[], change: (value: string) => string): boolean {
  const value = stack.pop()
  return value !== undefined && push(stack, change(value))
}

function pick(stack: string[], depth: number): boolean {
  const value = stack.at(-1 - depth)
  return value !== undefined && push(stack, value)
}

/** The top goes below the others. */
function rotate(stack: string[], count: number): boolean {
  if (stack.length < count) return false
  stack.splice(-count, 0, stack.pop()!)
  return true
}
