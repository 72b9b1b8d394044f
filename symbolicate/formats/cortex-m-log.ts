/**
 * What a serial log says beside a coredump: fault registers that the firmware prints (`cfsr=00010000`, `BFAR Address: 0x4`),
 * the words of Zephyr's fault handler (arch/arm/core/cortex_m/fault.c), and the firmware's build id.
 */
import { FAULT_BITS, FAULT_REGISTERS, type FaultRegister, type FaultRegisters } from './cortex-m-fault.ts'

const NAMED = new RegExp(`(?:^|[^\\w])(${Object.keys(FAULT_REGISTERS).join('|')})(?: address)?\\s*[=:]\\s*(?:0x)?([0-9a-f]{1,8})(?![0-9a-z])`, 'gi')
const BUILD_ID = /(?:^#BUILD |\bbuild[-_ ]?id[:=] ?)([0-9a-f]{8,128})\s*$/im

/** Zephyr's sections, and its words for the bits of each. */
const SECTIONS: Record<string, Record<string, string>> = {
  'MPU FAULT': {
    'Stacking error': 'MSTKERR', 'Unstacking error': 'MUNSTKERR', 'Data Access Violation': 'DACCVIOL', 'Instruction Access Violation': 'IACCVIOL',
    'Floating-point lazy state preservation error': 'MLSPERR',
  },
  'BUS FAULT': {
    'Stacking error': 'STKERR', 'Unstacking error': 'UNSTKERR', 'Precise data bus error': 'PRECISERR', 'Imprecise data bus error': 'IMPRECISERR',
    'Instruction bus error': 'IBUSERR', 'Floating-point lazy state preservation error': 'LSPERR',
  },
  'USAGE FAULT': {
    'Division by zero': 'DIVBYZERO', 'Unaligned memory access': 'UNALIGNED', 'Stack overflow': 'STKOF', 'No coprocessor instructions': 'NOCP',
    'Illegal load of EXC_RETURN into PC': 'INVPC', 'Illegal use of the EPSR': 'INVSTATE', 'Attempt to execute undefined instruction': 'UNDEFINSTR',
  },
  'SECURE FAULT': {
    'Invalid entry point': 'INVEP', 'Integrity signature': 'INVIS', 'Exception return': 'INVER', 'Attribution unit': 'AUVIOL', 'Invalid transition': 'INVTRAN',
    'Lazy state preservation': 'LSPERR', 'Lazy state error': 'LSERR',
  },
}
const VALID_BITS: Partial<Record<FaultRegister, [register: 'cfsr' | 'sfsr', bit: number]>> = { mmfar: ['cfsr', 7], bfar: ['cfsr', 15], sfar: ['sfsr', 6] }

export interface LogFacts { registers: FaultRegisters; buildId: string | null }

export function readFaultLog(log: string): LogFacts {
  const registers: FaultRegisters = {}
  for (const [, name, value] of log.matchAll(NAMED)) registers[name!.toLowerCase() as FaultRegister] = Number.parseInt(value!, 16)
  return { registers: { ...fromWords(log, registers), ...registers }, buildId: BUILD_ID.exec(log)?.[1]?.toLowerCase() ?? null }
}

/** Where the handler prints words and no status register, the words set its bits; an address that it prints is valid. */
function fromWords(log: string, printed: FaultRegisters): FaultRegisters {
  const found: FaultRegisters = {}
  for (const [heading, phrases] of Object.entries(SECTIONS)) {
    const at = log.search(new RegExp(`\\*{3,8} {0,4}${heading} {0,4}\\*{3,8}`, 'i'))
    if (at < 0) continue
    const section = log.slice(at, at + 1024).split(/\*{3,8}/).slice(2, 3).join('')
    for (const [phrase, name] of Object.entries(phrases)) {
      const fault = heading === 'SECURE FAULT' ? 'sfsr' : 'cfsr'
      const bit = section.includes(phrase) ? FAULT_BITS.find((candidate) => candidate.name === name && candidate.register === fault) : undefined
      if (bit) found[fault] = ((found[fault] ?? 0) | (1 << bit.bit)) >>> 0
    }
  }
  for (const [name, [register, bit]] of Object.entries(VALID_BITS)) {
    if (found[register] !== undefined && printed[name as FaultRegister] !== undefined) found[register] = (found[register]! | (1 << bit)) >>> 0
  }
  return found
}
