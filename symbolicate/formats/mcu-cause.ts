/**
 * What a processor's cause register says, as an exception: Xtensa's EXCCAUSE (ISA Reference Manual, table 4-64; the names are
 * those that ESP-IDF prints) and RISC-V's mcause (Privileged Architecture, table "Machine cause register values").
 */
import type { Access, Exception } from './dump.ts'

interface Cause { name: string; access: Access; /** EXCVADDR or mtval holds the address that failed. */ address: boolean }

const plain = (name: string): Cause => ({ name, access: 'unknown', address: false })
const fetch = (name: string): Cause => ({ name, access: 'execute', address: true })
const access = (name: string, access: Access = 'unknown'): Cause => ({ name, access, address: true })

const XTENSA: Readonly<Record<number, Cause>> = {
  0: plain('IllegalInstruction'), 1: plain('Syscall'), 2: fetch('InstructionFetchError'), 3: access('LoadStoreError'), 4: plain('Level1Interrupt'),
  5: plain('Alloca'), 6: plain('IntegerDivideByZero'), 7: plain('PCValue'), 8: plain('Privileged'), 9: access('LoadStoreAlignment'),
  12: fetch('InstrPDAddrError'), 13: access('LoadStorePIFDataError'), 14: fetch('InstrPIFAddrError'), 15: access('LoadStorePIFAddrError'),
  16: fetch('InstTLBMiss'), 17: fetch('InstTLBMultihit'), 18: fetch('InstFetchPrivilege'), 20: fetch('InstrFetchProhibited'),
  24: access('LoadStoreTLBMiss'), 25: access('LoadStoreTLBMultihit'), 26: access('LoadStorePrivilege'), 28: access('LoadProhibited', 'read'), 29: access('StoreProhibited', 'write'),
  ...Object.fromEntries(Array.from({ length: 8 }, (_, unit) => [32 + unit, plain(`Cp${unit}Dis`)])),
  // Pseudo causes of ESP-IDF's panic handler, above the processor's own.
  64: plain('Unknown reason'), 65: plain('Unhandled debug exception'), 66: plain('Double exception'), 67: plain('Unhandled kernel exception'),
  68: plain('Coprocessor exception'), 69: plain('Interrupt wdt timeout on CPU0'), 70: plain('Interrupt wdt timeout on CPU1'), 71: plain('Cache disabled but cached memory region accessed'),
}

const RISCV: Readonly<Record<number, Cause>> = {
  0: fetch('Instruction address misaligned'), 1: fetch('Instruction access fault'), 2: plain('Illegal instruction'), 3: plain('Breakpoint'),
  4: access('Load address misaligned', 'read'), 5: access('Load access fault', 'read'), 6: access('Store address misaligned', 'write'), 7: access('Store access fault', 'write'),
  8: plain('Environment call from U-mode'), 9: plain('Environment call from S-mode'), 11: plain('Environment call from M-mode'),
  12: fetch('Instruction page fault'), 13: access('Load page fault', 'read'), 15: access('Store page fault', 'write'),
}

export const xtensaException = (cause: number, address: bigint | null): Exception => exception(XTENSA[cause] ?? plain(`EXCCAUSE ${cause}`), cause, address)
export const riscvException = (cause: number, address: bigint | null): Exception => exception(RISCV[cause] ?? plain(`mcause ${cause}`), cause, address)

/** By the words that a panic handler prints; what it prints beyond these tables is a name of its own. */
export function namedException(name: string, cpu: 'xtensa' | 'riscv32', address: bigint | null): Exception {
  const [code, cause] = Object.entries(cpu === 'xtensa' ? XTENSA : RISCV).find(([, { name: known }]) => known.toLowerCase() === name.toLowerCase()) ?? [-1, plain(name)]
  return exception(cause, Number(code), address)
}

const exception = (cause: Cause, code: number, address: bigint | null): Exception =>
  ({ type: cause.name, code, subcode: null, address: cause.address ? address : null, access: cause.access })
