/**
 * Evaluates Breakpad's STACK CFI rules (docs/symbol_files.md of Breakpad): postfix expressions over 64-bit (or 32-bit)
 * unsigned words, tokens being integers, registers of the callee, `.cfa`, the operators + - * / % @ (align down), `^`
 * (load a word) and `.undef`. DWARF's expressions need more (dwarf/expression.ts writes them): & | xor << >> >>> (keeps the
 * sign), and == != < <= > >= over signed words, 1 or 0. Rules are hostile input: an expression that doesn't come out is
 * "not known", its length is bounded, and nothing recurses.
 */
import type { CfiRules } from '../symbols/source.ts'
import { type Arch, type Cursor, emptyRegisters, type Registers, wrap } from './arch/arch.ts'
import type { StackWindow } from './stack.ts'

const MOST_TOKENS = 256

type Operation = { kind: 'number'; value: bigint } | { kind: 'register'; index: number } | { kind: 'cfa' } | { kind: 'load' } | { kind: 'binary'; operator: Operator }
const OPERATORS = ['+', '-', '*', '/', '%', '@', '&', '|', 'xor', '<<', '>>', '>>>', '==', '!=', '<', '<=', '>', '>='] as const
type Operator = (typeof OPERATORS)[number]
/** null: there is no rule, or it can't be understood. */
type Expression = readonly Operation[] | null

export interface CompiledRules { cfa: Expression; returnAddress: Expression; registers: readonly { index: number; expression: Expression }[] }

export function compileRules(rules: CfiRules, arch: Arch): CompiledRules {
  const registers: { index: number; expression: Expression }[] = []
  for (const [name, expression] of rules) {
    const index = registerIndex(arch, name)
    if (index >= 0) registers.push({ index, expression: compile(expression, arch) })
  }
  return { cfa: compile(rules.get('.cfa') ?? '', arch), returnAddress: compile(rules.get('.ra') ?? '', arch), registers }
}

/** The caller's registers, or null when the rules don't give a CFA and a return address. */
export function callerByCfi(rules: CompiledRules, arch: Arch, callee: Cursor, stack: StackWindow): Registers | null {
  const cfa = evaluate(rules.cfa, arch, callee.registers, null, stack)
  if (cfa === null) return null
  const returnAddress = evaluate(rules.returnAddress, arch, callee.registers, cfa, stack)
  if (returnAddress === null) return null
  const registers = emptyRegisters(arch)
  for (const index of arch.calleeSaved) registers[index] = callee.registers[index] ?? null
  registers[arch.sp] = cfa
  for (const { index, expression } of rules.registers) registers[index] = evaluate(expression, arch, callee.registers, cfa, stack)
  registers[arch.ip] = arch.strip(returnAddress)
  return registers
}

function evaluate(expression: Expression, arch: Arch, registers: Registers, cfa: bigint | null, stack: StackWindow): bigint | null {
  if (expression === null) return null
  const values: bigint[] = []
  for (const operation of expression) {
    const value = apply(operation, arch, registers, cfa, stack, values)
    if (value === null) return null
    values.push(value)
  }
  return values.length === 1 ? values[0]! : null
}

function apply(operation: Operation, arch: Arch, registers: Registers, cfa: bigint | null, stack: StackWindow, values: bigint[]): bigint | null {
  switch (operation.kind) {
    case 'number':
      return operation.value
    case 'register':
      return registers[operation.index] ?? null
    case 'cfa':
      return cfa
    case 'load': {
      const address = values.pop()
      return address === undefined ? null : stack.word(address)
    }
    case 'binary': {
      const right = values.pop()
      const left = values.pop()
      return left === undefined || right === undefined ? null : binary(operation.operator, left, right, arch.width)
    }
  }
}

function binary(operator: Operator, left: bigint, right: bigint, width: 4 | 8): bigint | null {
  switch (operator) {
    case '+':
      return wrap(left + right, width)
    case '-':
      return wrap(left - right, width)
    case '*':
      return wrap(left * right, width)
    case '/':
      return right === 0n ? null : left / right
    case '%':
      return right === 0n ? null : left % right
    case '@':
      // Only powers of two align.
      return right === 0n || (right & (right - 1n)) !== 0n ? null : left & wrap(-right, width)
    case '&':
      return left & right
    case '|':
      return left | right
    case 'xor':
      return left ^ right
    case '<<':
      return right > 63n ? 0n : wrap(left << right, width)
    case '>>':
      return right > 63n ? 0n : left >> right
    case '>>>':
      return wrap(signed(left, width) >> (right > 63n ? 63n : right), width)
    case '==':
      return BigInt(left === right)
    case '!=':
      return BigInt(left !== right)
    case '<':
      return BigInt(signed(left, width) < signed(right, width))
    case '<=':
      return BigInt(signed(left, width) <= signed(right, width))
    case '>':
      return BigInt(signed(left, width) > signed(right, width))
    case '>=':
      return BigInt(signed(left, width) >= signed(right, width))
  }
}

const signed = (value: bigint, width: 4 | 8): bigint => BigInt.asIntN(width * 8, value)

function compile(text: string, arch: Arch): Expression {
  const tokens = text.split(' ', MOST_TOKENS + 1).filter((token) => token !== '')
  return tokens.length > MOST_TOKENS ? null : allOrNull(tokens.map((token) => operation(token, arch)))
}

function operation(token: string, arch: Arch): Operation | null {
  if (token === '^') return { kind: 'load' }
  if (token === '.cfa') return { kind: 'cfa' }
  const operator = OPERATORS.find((known) => known === token)
  if (operator !== undefined) return { kind: 'binary', operator }
  if (/^-?\d{1,20}$/.test(token)) return { kind: 'number', value: wrap(BigInt(token), arch.width) }
  // `.ra: .ra` is how dump_syms writes an epilogue that has reloaded the link register.
  const index = token === '.ra' && arch.link !== null ? arch.link : registerIndex(arch, token)
  return index < 0 ? null : { kind: 'register', index }
}

/** `$rbp`, `x29`; -1 for `.cfa`, `.ra`, `.undef` and what the CPU doesn't have. */
function registerIndex(arch: Arch, name: string): number {
  const plain = name.startsWith('$') ? name.slice(1) : name
  return arch.names.indexOf(arch.aliases[plain] ?? plain)
}

function allOrNull<T>(values: (T | null)[]): T[] | null {
  return values.every((value) => value !== null) ? values : null
}
