/**
 * Values that look like an attacker's input rather than like a pointer (PRB-PATTERN): windows of the cyclic patterns that
 * exploit writers send to find an offset (Metasploit's pattern_create, de Bruijn sequences as pwntools makes them), one
 * printable byte repeated, and plain text.
 *
 * How often chance does this to one random 32-bit value: Metasploit 4.7e-6, repeated 2.2e-8, de Bruijn's first 4 KiB
 * 9.5e-7, printable 1.9 %. So text alone is weak and must fill two registers; known fill values are none of these, and
 * letters that are fill values too ('k', 'Z') need two registers as well.
 */
import { isPoisonByte, poisonOf } from './poison.ts'

export type Pattern = 'cyclic' | 'repeated' | 'printable'

/** The strongest pattern of one value, null where it is none. `weak`: alone it proves nothing. */
export function patternOf(value: bigint): { pattern: Pattern; weak: boolean; text: string } | null {
  const bytes = littleEndian(value)
  // A canonical user-space pointer has six bytes; fewer than four are a number.
  if (bytes.length < 4) return null
  const byte = bytes.at(-1)!
  // Thumb's lowest bit is lost on the way into pc.
  const repeated = bytes.slice(1).every((other) => other === byte) && (bytes[0] === byte || bytes[0] === (byte & 0xfe))
  if (repeated) return isPrintable(byte) ? { pattern: 'repeated', weak: isPoisonByte(byte), text: String.fromCharCode(...bytes) } : null
  if (!bytes.every(isPrintable) || poisonOf(value, 'unknown') !== null) return null
  const text = String.fromCharCode(...bytes)
  if (CYCLIC.some((sequence) => sequence().includes(text))) return { pattern: 'cyclic', weak: false, text }
  return { pattern: 'printable', weak: true, text }
}

const isPrintable = (byte: number): boolean => byte >= 0x20 && byte <= 0x7e

/** Without the zero bytes on top. */
function littleEndian(value: bigint): number[] {
  const bytes: number[] = []
  for (let rest = BigInt.asUintN(64, value); rest > 0n; rest >>= 8n) bytes.push(Number(rest & 0xffn))
  return bytes
}

/** How much of each sequence counts: longer inputs are rare, and every window makes chance hits likelier. */
const SEQUENCE_LENGTH = 4096

const CYCLIC = [once(metasploit), once(() => deBruijn(4)), once(() => deBruijn(8))]

/** Aa0Aa1Aa2 ... Zz9 */
function metasploit(): string {
  let text = ''
  for (let upper = 65; upper <= 90; upper++) for (let lower = 97; lower <= 122; lower++) for (let digit = 0; digit < 10; digit++) text += String.fromCharCode(upper, lower) + String(digit)
  return text
}

/** The lexicographically least de Bruijn sequence over a..z (Fredricksen, Kessler, Maiorana), as far as it counts. */
function deBruijn(window: number): string {
  const word = new Uint8Array(27 * window)
  const letters: number[] = []
  const walk = (t: number, p: number): void => {
    if (letters.length >= SEQUENCE_LENGTH) return
    if (t > window) {
      if (window % p === 0) for (let i = 1; i <= p; i++) letters.push(97 + word[i]!)
      return
    }
    word[t] = word[t - p]!
    walk(t + 1, p)
    for (let letter = word[t - p]! + 1; letter < 26 && letters.length < SEQUENCE_LENGTH; letter++) {
      word[t] = letter
      walk(t + 1, t)
    }
  }
  walk(1, 1)
  return String.fromCharCode(...letters)
}

function once(make: () => string): () => string {
  let made: string | null = null
  return () => (made ??= make())
}
