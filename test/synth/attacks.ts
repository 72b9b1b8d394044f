import type { TestCrash } from '../fleet/crash-row.ts'
import type { Random } from '../fleet/random.ts'

/**
 * What guessing looks like from outside, and what only looks like it: crashes of one program on one device.
 * The addresses follow the attack or the fault (layout of a 64-bit Linux process), not the detector's rules.
 */
export interface OneDevice { device: string; start: number; random: Random }

const PAGE = 0x1000n
const hexId = (random: Random): string => Array.from({ length: 4 }, () => random.below(2 ** 32).toString(16).padStart(8, '0')).join('')

/** Blind ROP: the saved return address is overwritten byte by byte, lowest first; each wrong byte lands somewhere else. */
export function byteSweep({ device, start, random }: OneDevice, { guesses = 64, everySeconds = 3 } = {}): TestCrash[] {
  const original = 0x5581_0c40_0000n + BigInt(random.below(256)) * 0x100n
  return Array.from({ length: guesses }, (_, guess) => {
    const target = original + BigInt(guess % 256)
    return { ...base(device, start + guess * everySeconds * 1000, random), bucket: 'byte-sweep', kind: 'control-flow', evidence: 4, pc: target, faultAddress: target }
  })
}

/** Brute force against randomisation: the wanted function is at a known offset in an unknown page, so only pages are tried. */
export function pageGuesses({ device, start, random }: OneDevice, { guesses = 64, everySeconds = 5, marching = false } = {}): TestCrash[] {
  return Array.from({ length: guesses }, (_, guess) => {
    const page = BigInt(marching ? guess : random.below(2 ** 16))
    const pc = 0x7f3a_0000_03e0n + page * PAGE
    return { ...base(device, start + guess * everySeconds * 1000, random), bucket: 'page-guess', kind: 'control-flow', evidence: 4, pc, faultAddress: pc, pcOutsideModules: true }
  })
}

/** A deterministic bug in a program that is started anew each time: the layout moves by whole pages, the offsets stay. */
export function aslrCrashLoop({ device, start, random }: OneDevice, { crashes = 400, everySeconds = 5 } = {}): TestCrash[] {
  return Array.from({ length: crashes }, (_, n) => {
    const slide = BigInt(random.below(2 ** 28)) * PAGE
    return { ...base(device, start + n * everySeconds * 1000, random), bucket: 'loop', kind: 'wild-write', evidence: 3, pc: 0x5500_0000_1a84n + slide, faultAddress: 0x5500_0012_3458n + slide }
  })
}

/** Whatever was on the stack before: any address, but only when that path is taken. */
export function uninitialisedPointer({ device, start, random }: OneDevice, { crashes = 12, everySeconds = 240 } = {}): TestCrash[] {
  return Array.from({ length: crashes }, (_, n) => ({
    ...base(device, start + n * everySeconds * 1000, random), bucket: 'uninitialised', kind: 'wild-write', evidence: 3,
    pc: 0x5500_0000_2b10n, faultAddress: BigInt(random.below(2 ** 31)) * 0x1_0001n,
  }))
}

/** Failing memory: everything that runs on the device crashes, anywhere. */
export function dyingMemory({ device, start, random }: OneDevice, { crashes = 80, everySeconds = 20 } = {}): TestCrash[] {
  const programs = ['httpd', 'mqttd', 'sensord', 'loggerd', 'updaterd', 'displayd']
  return Array.from({ length: crashes }, (_, n) => {
    const program = random.pick(programs)
    return {
      ...base(device, start + n * everySeconds * 1000, random), bucket: `flip-${program}-${random.below(9)}`, compartment: program, process: program, kind: 'wild-read', evidence: 3,
      pc: BigInt(random.below(2 ** 31)) * 0x101n, pcOutsideModules: random.next() < 0.5, faultAddress: BigInt(random.below(2 ** 31)) * 0x1_0001n,
    }
  })
}

/** Endless recursion in a loop of restarts: the guard page moves, and the stack pointer within it by 16 bytes. */
export function stackExhaustion({ device, start, random }: OneDevice, { crashes = 100, everySeconds = 5 } = {}): TestCrash[] {
  return Array.from({ length: crashes }, (_, n) => ({
    ...base(device, start + n * everySeconds * 1000, random), bucket: 'recursion', kind: 'stack-exhaustion', evidence: 2,
    pc: 0x5500_0000_3c20n, faultAddress: 0x7ffc_0000_0000n + BigInt(random.below(2 ** 20)) * 16n,
  }))
}

/** A device without network for a week hands over the rare crashes of that week in one go; only its uptime tells. */
export function backlog({ device, start, random }: OneDevice, { crashes = 20 } = {}): TestCrash[] {
  return uninitialisedPointer({ device, start, random }, { crashes, everySeconds: 1 }).map((crash, n) => ({ ...crash, bootcount: 3, uptimeSeconds: 40_000 + n * 9_000 }))
}

/** The guard value byte by byte: each miss ends a forked child, the device runs on. */
export function canaryGuesses({ device, start, random }: OneDevice, { misses = 40, everySeconds = 4 } = {}): TestCrash[] {
  return Array.from({ length: misses }, (_, n) => ({
    ...base(device, start + n * everySeconds * 1000, random), bucket: 'canary', kind: 'stack-guard', evidence: 3, bootcount: 7, uptimeSeconds: 90_000 + n * everySeconds,
  }))
}

/** A deterministic overflow that takes the device down: a minute after each boot, again. */
export function canaryBootLoop({ device, start, random }: OneDevice, { crashes = 40, everySeconds = 80 } = {}): TestCrash[] {
  return Array.from({ length: crashes }, (_, n) => ({
    ...base(device, start + n * everySeconds * 1000, random), bucket: 'boot-loop', kind: 'stack-guard', evidence: 3, bootcount: 7 + n, uptimeSeconds: 60,
  }))
}

function base(device: string, at: number, random: Random): Pick<TestCrash, 'id' | 'at' | 'device' | 'compartment' | 'process'> {
  return { id: hexId(random), at, device, compartment: 'httpd', process: 'httpd' }
}
