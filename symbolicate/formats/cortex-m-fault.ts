/**
 * The fault status of a Cortex-M in words, and the exception that it means (Armv7-M ARM DDI 0403, B3.2.15 to B3.2.19;
 * Armv8-M ARM DDI 0553, D1.2). Which address register counts is said by its valid bit: without it the register holds what
 * an earlier fault left there.
 */
import type { Access, Exception } from './dump.ts'

/** In the order in which they are printed; `address` is where the register is mapped, for dumps that hold that memory. */
export const FAULT_REGISTERS = {
  cfsr: { address: 0xe000ed28n, about: 'configurable fault status' },
  hfsr: { address: 0xe000ed2cn, about: 'hard fault status' },
  dfsr: { address: 0xe000ed30n, about: 'debug fault status' },
  mmfar: { address: 0xe000ed34n, about: 'address of a memory management fault' },
  bfar: { address: 0xe000ed38n, about: 'address of a bus fault' },
  sfsr: { address: 0xe000ede4n, about: 'secure fault status' },
  sfar: { address: 0xe000ede8n, about: 'address of a secure fault' },
  icsr: { address: 0xe000ed04n, about: 'interrupt control and state' },
  exc_return: { address: null, about: 'how the exception was entered' },
  msp: { address: null, about: 'main stack pointer' },
  psp: { address: null, about: 'process stack pointer' },
  msplim: { address: null, about: 'limit of the main stack' },
  psplim: { address: null, about: 'limit of the process stack' },
  control: { address: null, about: 'stack and privilege in use' },
} as const
export type FaultRegister = keyof typeof FAULT_REGISTERS
export type FaultRegisters = Partial<Record<FaultRegister, number>>

interface Bit {
  register: 'cfsr' | 'hfsr' | 'sfsr'
  bit: number
  fault: 'MemManage' | 'BusFault' | 'UsageFault' | 'SecureFault' | 'HardFault'
  name: string
  means: string
  access: Access
  /** Where the address that failed is told. */
  address?: 'mmfar' | 'bfar' | 'sfar' | 'pc'
}

/** The most telling first: an overflown stack makes other faults too. */
export const FAULT_BITS: readonly Bit[] = [
  { register: 'cfsr', bit: 20, fault: 'UsageFault', name: 'STKOF', access: 'write', means: 'the stack pointer went below its limit register' },
  { register: 'sfsr', bit: 0, fault: 'SecureFault', name: 'INVEP', access: 'execute', means: 'non-secure code entered secure code at no entry point' },
  { register: 'sfsr', bit: 1, fault: 'SecureFault', name: 'INVIS', access: 'unknown', means: 'a secure exception frame has no valid integrity signature' },
  { register: 'sfsr', bit: 2, fault: 'SecureFault', name: 'INVER', access: 'unknown', means: 'an exception return came from or goes to the wrong security state' },
  { register: 'sfsr', bit: 4, fault: 'SecureFault', name: 'INVTRAN', access: 'execute', means: 'secure code branched to non-secure code without saying so' },
  { register: 'sfsr', bit: 3, fault: 'SecureFault', name: 'AUVIOL', access: 'unknown', means: 'non-secure code accessed secure memory', address: 'sfar' },
  { register: 'sfsr', bit: 5, fault: 'SecureFault', name: 'LSPERR', access: 'unknown', means: 'saving floating-point state late violated the security of memory' },
  { register: 'sfsr', bit: 7, fault: 'SecureFault', name: 'LSERR', access: 'unknown', means: 'floating-point state of the wrong security was active' },
  { register: 'cfsr', bit: 4, fault: 'MemManage', name: 'MSTKERR', access: 'write', means: 'entering the exception, its frame could not be stacked: the stack has reached memory that it may not use' },
  { register: 'cfsr', bit: 12, fault: 'BusFault', name: 'STKERR', access: 'write', means: 'entering the exception, its frame could not be stacked: the stack has left its memory' },
  { register: 'cfsr', bit: 0, fault: 'MemManage', name: 'IACCVIOL', access: 'execute', means: 'an instruction was fetched from memory that is not executable', address: 'pc' },
  { register: 'cfsr', bit: 1, fault: 'MemManage', name: 'DACCVIOL', access: 'unknown', means: 'a load or store was not allowed', address: 'mmfar' },
  { register: 'cfsr', bit: 3, fault: 'MemManage', name: 'MUNSTKERR', access: 'read', means: 'returning from an exception, its frame could not be read' },
  { register: 'cfsr', bit: 5, fault: 'MemManage', name: 'MLSPERR', access: 'write', means: 'saving floating-point state late was not allowed' },
  { register: 'cfsr', bit: 8, fault: 'BusFault', name: 'IBUSERR', access: 'execute', means: 'an instruction was fetched where nothing answers', address: 'pc' },
  { register: 'cfsr', bit: 9, fault: 'BusFault', name: 'PRECISERR', access: 'unknown', means: 'a load or store failed on the bus; the program counter is at it', address: 'bfar' },
  { register: 'cfsr', bit: 10, fault: 'BusFault', name: 'IMPRECISERR', access: 'write', means: 'a buffered store failed on the bus; the program counter is already past it' },
  { register: 'cfsr', bit: 11, fault: 'BusFault', name: 'UNSTKERR', access: 'read', means: 'returning from an exception, its frame could not be read' },
  { register: 'cfsr', bit: 13, fault: 'BusFault', name: 'LSPERR', access: 'write', means: 'saving floating-point state late failed on the bus' },
  { register: 'cfsr', bit: 17, fault: 'UsageFault', name: 'INVSTATE', access: 'execute', means: 'a branch left Thumb state: its target was no code pointer' },
  { register: 'cfsr', bit: 18, fault: 'UsageFault', name: 'INVPC', access: 'execute', means: 'an exception return with a value that can not be' },
  { register: 'cfsr', bit: 16, fault: 'UsageFault', name: 'UNDEFINSTR', access: 'unknown', means: 'the processor knows no such instruction' },
  { register: 'cfsr', bit: 19, fault: 'UsageFault', name: 'NOCP', access: 'unknown', means: 'an instruction of a coprocessor that is absent or off' },
  { register: 'cfsr', bit: 24, fault: 'UsageFault', name: 'UNALIGNED', access: 'unknown', means: 'an access was not aligned' },
  { register: 'cfsr', bit: 25, fault: 'UsageFault', name: 'DIVBYZERO', access: 'unknown', means: 'division by zero' },
  { register: 'hfsr', bit: 1, fault: 'HardFault', name: 'VECTTBL', access: 'read', means: 'the vector table could not be read' },
  { register: 'hfsr', bit: 31, fault: 'HardFault', name: 'DEBUGEVT', access: 'unknown', means: 'a breakpoint without a debugger' },
]

const VALID = { mmfar: { register: 'cfsr', bit: 7 }, bfar: { register: 'cfsr', bit: 15 }, sfar: { register: 'sfsr', bit: 6 } } as const
const FORCED = 30
const EXCEPTION_NUMBERS = { HardFault: 3, MemManage: 4, BusFault: 5, UsageFault: 6, SecureFault: 7 } as const

const has = (value: number | undefined, bit: number): boolean => value !== undefined && ((value >>> bit) & 1) === 1
const bitsOf = (registers: FaultRegisters): Bit[] => FAULT_BITS.filter(({ register, bit }) => has(registers[register], bit))

/** null when no register says that anything failed. */
export function faultException(registers: FaultRegisters, pc: bigint | null): Exception | null {
  const [found] = bitsOf(registers)
  if (found === undefined) {
    return has(registers.hfsr, FORCED) ? { type: 'HardFault / FORCED', code: 3, subcode: registers.hfsr!, address: null, access: 'unknown' } : null
  }
  return {
    type: `${found.fault} / ${found.name}`, code: EXCEPTION_NUMBERS[found.fault], subcode: registers[found.register]!,
    address: found.address === undefined ? null : addressOf(found.address, registers, pc), access: found.access,
  }
}

function addressOf(from: NonNullable<Bit['address']>, registers: FaultRegisters, pc: bigint | null): bigint | null {
  if (from === 'pc') return pc
  const { register, bit } = VALID[from]
  const value = registers[from]
  return value !== undefined && has(registers[register], bit) ? BigInt(value) : null
}

/** One line for each register that is known, with what its bits say. */
export function describeRegisters(registers: FaultRegisters): Record<string, string> {
  const known = (Object.keys(FAULT_REGISTERS) as FaultRegister[]).filter((name) => registers[name] !== undefined)
  return Object.fromEntries(known.map((name) => [name, `0x${registers[name]!.toString(16).padStart(8, '0')} ${words(name, registers)}`.trim()]))
}

function words(name: FaultRegister, registers: FaultRegisters): string {
  const value = registers[name]!
  switch (name) {
    case 'cfsr':
    case 'sfsr':
    case 'hfsr': {
      const bits = bitsOf({ [name]: value }).map((bit) => `${bit.fault} ${bit.name}: ${bit.means}`)
      if (name === 'hfsr' && has(value, FORCED)) bits.push('FORCED: another fault had no handler that could run')
      return bits.length === 0 ? '(nothing failed)' : `(${bits.join('; ')})`
    }
    case 'mmfar':
    case 'bfar':
    case 'sfar':
      return has(registers[VALID[name].register], VALID[name].bit) ? '(valid)' : '(not valid: left over from earlier)'
    case 'exc_return':
      return isExceptionReturn(value) ? `(${exceptionReturnWords(value)})` : '(no EXC_RETURN value)'
    case 'icsr':
      return `(exception ${value & 0x1ff} active)`
    case 'control':
      return `(${value & 2 ? 'process' : 'main'} stack, ${value & 1 ? 'unprivileged' : 'privileged'})`
    default:
      return `(${FAULT_REGISTERS[name].about})`
  }
}

/** 0xffffffxx; Armv8-M clears bit 6 (secure stack) and bit 5 (not all registers are stacked) too. */
export const isExceptionReturn = (value: number): boolean => value >>> 7 === 0x1ff_ffff

/** Bytes of the frame that the processor pushed (B1.5.6): eight words, with floating point eighteen more. */
export const frameSize = (exceptionReturn: number): 32 | 104 => (exceptionReturn & 0x10 ? 32 : 104)
export const usesProcessStack = (exceptionReturn: number): boolean => (exceptionReturn & 4) !== 0

function exceptionReturnWords(value: number): string {
  return [
    value & 8 ? 'from thread mode' : 'from a handler',
    usesProcessStack(value) ? 'process stack' : 'main stack',
    value & 0x10 ? 'basic frame' : 'frame with floating point',
    // Armv7-M keeps bits 5 and 6 set; a clear bit 0 or 6 exists on Armv8-M with security only.
    ...((value & 0x41) === 0x41 ? [] : [`${value & 0x40 ? 'secure' : 'non-secure'} stack, taken to ${value & 1 ? 'secure' : 'non-secure'} state`]),
  ].join(', ')
}
