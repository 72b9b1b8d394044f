/** Input number `index` of a target, made and run. The same number is the same input, anywhere. */
import { createRandom, mutate } from './mutate.ts'
import { describeError, MARGIN_TEXT, type Target } from './targets.ts'

export function createInputs(target: Target): (index: number) => Uint8Array {
  const seeds = target.seeds().filter((bytes) => bytes.length > 0)
  if (seeds.length === 0) throw new Error(`${target.name}: no seeds`)
  return (index) => {
    const random = createRandom(Math.imul(index + 1, 0x85ebca6b))
    const bytes = mutate(random.pick(seeds), random, { text: target.text, keep: target.keep, donor: random.pick(seeds) })
    return inWindow(bytes)
  }
}

/** null, or what was wrong with it. */
export async function runInput(target: Target, bytes: Uint8Array): Promise<string | null> {
  const before = checksum(bytes)
  try {
    await target.run(bytes)
  } catch (error) {
    return describeError(error)
  }
  return checksum(bytes) === before ? null : 'the input was changed'
}

const MARGIN = Buffer.from(MARGIN_TEXT.repeat(8))

/** The bytes in the middle of a larger buffer: a read past either end finds MARGIN_TEXT. */
function inWindow(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(bytes.length + 2 * MARGIN.length)
  whole.set(MARGIN)
  whole.set(bytes, MARGIN.length)
  whole.set(MARGIN, MARGIN.length + bytes.length)
  return whole.subarray(MARGIN.length, MARGIN.length + bytes.length)
}

/** Of the whole buffer, margins included. */
function checksum({ buffer }: Uint8Array): number {
  const words = new Uint8Array(buffer)
  let sum = 0
  for (let at = 0; at < words.length; at += 61) sum = (Math.imul(sum, 31) + words[at]!) | 0
  return sum
}
