/** What speaks against an attack: kept beside the evidence, and never subtracted in silence. */
import type { Note } from '../formats/dump.ts'
import { patternOf } from './pattern.ts'
import { poisonOf } from './poison.ts'
import { SMALL_OFFSET, type Situation } from './situation.ts'
import { hex } from './verdict.ts'

interface CounterRule { slug: string; says(situation: Situation): string | null }

const COUNTER_RULES: readonly CounterRule[] = [
  { slug: 'bit-flip', says: bitFlip },
  { slug: 'instruction-inconsistent', says: ({ memoryFault, addressFrom, address, instruction, sp }) => {
    if (!memoryFault || addressFrom !== 'dump' || address === null || instruction === null || instruction.address === null) return null
    if (!['load', 'store'].includes(instruction.does) || sp === null) return null
    const distance = address > instruction.address ? address - instruction.address : instruction.address - address
    // A vector or a string operation may fail anywhere in what it touches.
    return distance < 4096n || address === 0n ? null : `the instruction accesses ${hex(instruction.address)} and the fault says ${hex(address)}: registers, code or the report changed between; failing hardware does this`
  } },
  { slug: 'cut-mapping', says: ({ code }) => (code === 'BUS_ADRERR' ? 'SIGBUS / BUS_ADRERR: usually a mapped file that was cut short, or storage that failed' : null) },
  { slug: 'address-not-known', says: ({ memoryFault, address }) => (memoryFault && address === null ? 'the processor does not say the address, and the instruction could not be decoded' : null) },
  { slug: 'test-build', says: ({ sanitizer }) => (sanitizer !== null && ['asan', 'msan', 'tsan', 'ubsan', 'lsan'].includes(sanitizer.tool) ? 'a build with this sanitizer usually runs under test, where malformed input is sent on purpose' : null) },
  { slug: 'debug-enabled', says: ({ claims }) => (claims.dbgstat === 0 ? 'the device says that its debug port is open: a developer\'s or laboratory unit' : null) },
  { slug: 'power', says: ({ claims }) => (/brown|power|under.?voltage|lockup|ecc|parity/i.test(claims.resetReason ?? '') ? `the device's reset reason is "${claims.resetReason!.slice(0, 64)}": power or hardware` : null) },
]

export const counterEvidence = (situation: Situation): Note[] => COUNTER_RULES.flatMap(({ slug, says }) => {
  const text = says(situation)
  return text === null ? [] : [{ slug, text }]
})

/** More chance hits than this, and one hit says nothing. */
const CHANCE = 0.05

/**
 * One bit of the address differs from a mapped one that another register points close to. Corrected by the prior: in an
 * address space of which the share f is mapped, a random address of n bits passes the first half with 1-(1-f)^n.
 */
function bitFlip(situation: Situation): string | null {
  const { memoryFault, address, dump, registers, pc, sp } = situation
  if (!memoryFault || address === null || address < SMALL_OFFSET || poisonOf(address, dump.os) !== null || patternOf(address) !== null) return null
  const bits = dump.cpu === 'x86-64' || dump.cpu === 'arm64' || dump.cpu === 'riscv64' ? 48 : 32
  const mapped = dump.regions.length > 0
    ? dump.regions.filter(({ read, write, execute }) => read || write || execute)
    : [...dump.modules.map(({ base, size }) => ({ base, size: BigInt(size) })), ...dump.memory.ranges().map(({ base, size }) => ({ base, size: BigInt(size) }))]
  const share = Number(mapped.reduce((sum, { size }) => sum + size, 0n)) / 2 ** bits
  if (1 - (1 - share) ** bits > CHANCE) return null
  if (mapped.some(({ base, size }) => address >= base && address < base + size)) return null
  const others = [...registers.map(([, value]) => value), pc, sp].filter((value): value is bigint => value !== null && value !== address)
  // Bits above the address space make an address non-canonical: flips there are as likely.
  for (let bit = 0n; bit < (bits === 32 ? 32n : 64n); bit++) {
    const repaired = address ^ (1n << bit)
    if (!mapped.some(({ base, size }) => repaired >= base && repaired < base + size)) continue
    const near = others.find((value) => (value > repaired ? value - repaired : repaired - value) < 4096n)
    if (near !== undefined) return `with bit ${bit} flipped, ${hex(address)} is ${hex(repaired)}, which is mapped and within 4 KiB of another register (${hex(near)}): a memory error explains this crash`
  }
  return null
}
