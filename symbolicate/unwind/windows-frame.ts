/**
 * Callers on 32-bit Windows by the frame data of the PDB, as STACK WIN records carry it. Two kinds:
 *
 *   a program, postfix assignments over $registers and these names:
 *     $T0 .raSearch = $eip $T0 ^ = $esp $T0 4 + =
 *     .cbParams .cbCalleeParams .cbSavedRegs .cbLocals   sizes in bytes
 *     .raSearch .raSearchStart                           where the return address should be
 *   FPO: a fixed layout, [pushed parameters][locals][saved registers][return address]
 *
 * Programs are hostile input: their length is bounded, words are 32 bits, and what doesn't come out is null.
 */
import type { WindowsFrame } from '../symbols/source.ts'
import { type Arch, type Cursor, emptyRegisters, type Registers } from './arch/arch.ts'
import type { StackWindow } from './stack.ts'

const MOST_TOKENS = 256
const OUTPUTS = ['eip', 'esp', 'ebp', 'ebx', 'esi', 'edi'] as const

/** `pushed`: bytes of parameters that the callee's own callee was called with. */
export function callerByWindowsFrame(frame: WindowsFrame, arch: Arch, callee: Cursor, pushed: number, stack: StackWindow): Registers | null {
  const register = (name: string): number | null => {
    const value = callee.registers[arch.names.indexOf(name)] ?? null
    return value === null ? null : Number(value)
  }
  const values = frame.program === null ? byLayout(frame, register, pushed, stack) : byProgram(frame.program, frame, register, pushed, stack)
  if (values === null || !values.has('$eip') || !values.has('$esp')) return null
  const registers = emptyRegisters(arch)
  for (const name of OUTPUTS) {
    const value = values.get(`$${name}`)
    if (value !== undefined) registers[arch.names.indexOf(name)] = BigInt(value)
  }
  return registers
}

type Register = (name: string) => number | null

function byLayout(frame: WindowsFrame, register: Register, pushed: number, stack: StackWindow): Map<string, number> | null {
  const esp = register('esp')
  if (esp === null) return null
  const slot = esp + pushed + frame.locals + frame.savedRegisters
  const eip = load(stack, slot)
  const ebp = frame.savesBasePointer ? load(stack, esp + pushed + frame.savedRegisters - 8) : register('ebp')
  if (eip === null) return null
  const values = new Map([['$eip', eip], ['$esp', word(slot + 4)]])
  if (ebp !== null) values.set('$ebp', ebp)
  return values
}

function byProgram(program: string, frame: WindowsFrame, register: Register, pushed: number, stack: StackWindow): Map<string, number> | null {
  const tokens = program.split(' ', MOST_TOKENS + 1).filter((token) => token !== '')
  const esp = register('esp')
  const ebp = register('ebp')
  if (tokens.length > MOST_TOKENS || esp === null || ebp === null) return null
  // A program that aligns can't count from esp; ebp is then a frame pointer, with the return address above it.
  const search = word(tokens.includes('@') ? ebp + 4 : esp + frame.locals + frame.savedRegisters + pushed)
  const values = new Map([
    ['$esp', esp], ['$ebp', ebp], ['.cbParams', frame.parameters], ['.cbCalleeParams', pushed], ['.cbSavedRegs', frame.savedRegisters],
    ['.cbLocals', frame.locals], ['.raSearch', search], ['.raSearchStart', search],
  ])
  const ebx = register('ebx')
  if (ebx !== null) values.set('$ebx', ebx)
  return run(tokens, values, stack) ? values : null
}

/** Changes `values`; false when the program makes no sense. */
function run(tokens: string[], values: Map<string, number>, stack: StackWindow): boolean {
  const operands: string[] = []
  const value = (operand: string | undefined): number | null => {
    if (operand === undefined) return null
    return /^-?\d{1,10}$/.test(operand) ? word(Number(operand)) : (values.get(operand) ?? null)
  }
  for (const token of tokens) {
    if (token === '=') {
      const right = value(operands.pop())
      const name = operands.pop()
      if (right === null || name === undefined || !/^[$.]/.test(name)) return false
      values.set(name, right)
    } else if (token === '^') {
      const address = value(operands.pop())
      const loaded = address === null ? null : load(stack, address)
      if (loaded === null) return false
      operands.push(String(loaded))
    } else if (/^[-+*/%@]$/.test(token)) {
      const right = value(operands.pop())
      const left = value(operands.pop())
      const result = left === null || right === null ? null : binary(token, left, right)
      if (result === null) return false
      operands.push(String(result))
    } else {
      operands.push(token)
    }
  }
  return operands.length === 0
}

function binary(operator: string, left: number, right: number): number | null {
  switch (operator) {
    case '+':
      return word(left + right)
    case '-':
      return word(left - right)
    case '*':
      return Math.imul(left, right) >>> 0
    case '/':
      return right === 0 ? null : Math.floor(left / right)
    case '%':
      return right === 0 ? null : left % right
    default:
      return right === 0 || (right & (right - 1)) !== 0 ? null : (left & -right) >>> 0
  }
}

const word = (value: number): number => value >>> 0

function load(stack: StackWindow, address: number): number | null {
  const value = stack.word(BigInt(word(address)))
  return value === null ? null : Number(value)
}
