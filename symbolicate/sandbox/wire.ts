import type { Writable } from 'node:stream'
import type { AcceptedCrash } from '../../ingest/contract.ts'
import type { Analysis, AnalysisStatus } from '../contract.ts'
import type { ModuleIdentity, SymbolStatus } from '../symbols/source.ts'

/**
 * What passes through the only two descriptors that a parser's child has.
 *
 *   stream = *frame                                  ; one direction each: the child's stdin and stdout
 *   frame  = length:u32be text-length:u32be text bytes   ; length counts all behind itself
 *   text   = one JSON object with the field `t`; where the message holds bytes, it has their number in their place
 *
 * JSON, because V8's own reader takes hostile text and is five times as fast as a CBOR decoder in JavaScript: with the
 * check of what was read, that was half the cost of a dump. Addresses of 64 bits travel as hex.
 *
 * One job at a time: the parent sends `analyse` or `prepare`, the child may ask any number of `symbols?` and `map?`,
 * each answered in order (for the dumps that follow, as long as `generation` stays, it remembers), and ends with exactly one of `analysis`, `prepared`, `unusable` or `refused`.
 * Nothing that the child says is believed: answers.ts checks its shape, FrameReader its size, the pool its number.
 */
export type Order =
  | { t: 'analyse'; bytes: Uint8Array; contentType: AcceptedCrash['contentType']; claims: AcceptedCrash['claims']; annotations: Record<string, string>; inflateBytes: number; generation: number }
  /** `others` belong to an ELF file (its debug file): their bytes follow it in `bytes`. */
  | { t: 'prepare'; bytes: Uint8Array; name: string; others?: { name: string; size: number }[] }
  | ({ t: 'symbols' } & Located)
  | { t: 'map'; path: string | null }

/** A prepared symbol file in the read-only cache folder, or why there is none. */
export type Located = { status: 'found'; path: string } | { status: Exclude<SymbolStatus, 'found'>; reason: string }

export type Answer =
  | { t: 'ready' }
  | ({ t: 'symbols?' } & ModuleIdentity)
  | { t: 'map?'; debugId: string }
  | { t: 'analysis'; analysis: Analysis }
  | { t: 'prepared'; prepared: Prepared }
  | { t: 'unusable'; reason: string }
  | { t: 'refused'; status: Refusal; reason: string }

/** What a child may call a dump that it gave up on; `parser-killed` is the parent's word. */
export const REFUSALS = ['encoding-invalid', 'budget-exceeded', 'dump-malformed'] as const satisfies readonly AnalysisStatus[]
export type Refusal = (typeof REFUSALS)[number]

/** A symbol file, understood: what it is for, and the form that a child can open without parsing it again. */
export type Prepared =
  | { kind: 'breakpad-sym' | 'elf'; debugFile: string; debugId: string; codeId: string | null; arch: string; functions: number; lines: number; publics: number; cfiRules: number; digests: string[]; problems: string[]; bytes: Uint8Array }
  | { kind: 'source-map'; debugId: string; file: string; sources: number }

export class WireError extends Error {
  override readonly name = 'WireError'
}

/** The message in one piece. */
export const frame = (message: Order | Answer): Buffer => Buffer.concat(framed(message))

/** Up to here bytes are copied: to write in two pieces costs more. */
const COPIED = 64 * 1024

/** Writes the message; false, and nothing is written, when it is longer than `maxBytes`. */
export function send(stream: Writable, message: Order | Answer, maxBytes = Infinity): boolean {
  const parts = framed(message)
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  if (length - 4 > maxBytes) return false
  for (const part of length <= COPIED ? [Buffer.concat(parts, length)] : parts) stream.write(part)
  return true
}

function framed(message: Order | Answer): Uint8Array[] {
  const holder = message.t === 'prepared' ? message.prepared : message
  const bytes = 'bytes' in holder ? holder.bytes : undefined
  const text = JSON.stringify(inJson(message, bytes?.length))
  const textLength = Buffer.byteLength(text)
  const head = Buffer.allocUnsafe(8 + textLength)
  head.writeUInt32BE(4 + textLength + (bytes?.length ?? 0), 0)
  head.writeUInt32BE(textLength, 4)
  head.write(text, 8)
  return bytes === undefined || bytes.length === 0 ? [head] : [head, bytes]
}

function inJson(message: Order | Answer, bytes: number | undefined): object {
  switch (message.t) {
    case 'analysis': {
      const { analysis, analysis: { evidence } } = message
      const { faultAddress, pc, sp } = evidence
      return { ...message, analysis: { ...analysis, evidence: { ...evidence, faultAddress: hex(faultAddress), pc: hex(pc), sp: hex(sp) } } }
    }
    case 'prepared':
      return { ...message, prepared: { ...message.prepared, bytes } }
    default:
      return bytes === undefined ? message : { ...message, bytes }
  }
}

const hex = (address: bigint | null): string | null => (address === null ? null : `0x${address.toString(16)}`)

/** Cuts a byte stream into messages; throws WireError past `maxBytes` a frame and on anything that is not of this form. */
export function createFrameReader(maxBytes: number): { push(chunk: Uint8Array): unknown[] } {
  const length = Buffer.alloc(4)
  let lengthHeld = 0
  /** Of a frame that comes in several chunks: its place is taken at once, but memory only as it fills. */
  let body: Buffer | null = null
  let bodyHeld = 0

  return {
    push(chunk) {
      const messages: unknown[] = []
      for (let at = 0; at < chunk.length; ) {
        if (lengthHeld < 4) {
          length[lengthHeld++] = chunk[at++]!
          if (lengthHeld === 4) checkLength(length.readUInt32BE(0), maxBytes)
          continue
        }
        const wanted = length.readUInt32BE(0)
        const taken = Math.min(wanted - bodyHeld, chunk.length - at)
        const part = chunk.subarray(at, at + taken)
        at += taken
        bodyHeld += taken
        if (taken < wanted) {
          body ??= Buffer.allocUnsafeSlow(wanted)
          body.set(part, bodyHeld - taken)
        }
        if (bodyHeld < wanted) break
        messages.push(decodeBody(body ?? part))
        body = null
        bodyHeld = lengthHeld = 0
      }
      return messages
    },
  }
}

function checkLength(length: number, maxBytes: number): void {
  if (length > maxBytes) throw new WireError(`frame of ${length} bytes, at most ${maxBytes} are allowed`)
  if (length < 4) throw new WireError(`frame of ${length} bytes: it holds no text`)
}

function decodeBody(body: Uint8Array): unknown {
  const { buffer, byteOffset, length } = body
  const view = Buffer.from(buffer, byteOffset, length)
  const textEnd = 4 + view.readUInt32BE(0)
  if (textEnd > length) throw new WireError(`frame of ${length} bytes: its text ends past it`)
  try {
    const text = view.toString('utf8', 4, textEnd)
    const message: unknown = LONE.test(text) ? wellFormed(JSON.parse(text)) : JSON.parse(text)
    const holder = isObject(message) && message.t === 'prepared' ? message.prepared : message
    if (isObject(holder) && typeof holder.bytes === 'number') holder.bytes = view.subarray(textEnd)
    return message
  } catch (error) {
    throw new WireError(`frame is not JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

/** A surrogate in JSON text is an escape; alone it is legal there, but neither in ClickHouse's JSON nor in UTF-8. */
const LONE = /\\u[dD][89a-fA-F]/

function wellFormed(value: unknown): unknown {
  if (typeof value === 'string') return value.toWellFormed()
  if (Array.isArray(value)) return value.map(wellFormed)
  return isObject(value) ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key.toWellFormed(), wellFormed(inner)])) : value
}
