import { decode, encode } from 'cborg'
import type { AcceptedCrash } from '../../ingest/contract.ts'
import type { Analysis, AnalysisStatus } from '../contract.ts'
import type { ModuleIdentity, SymbolStatus } from '../symbols/source.ts'

/**
 * What passes through the only two descriptors that a parser's child has.
 *
 *   stream = *frame                     ; one direction each: the child's stdin and stdout
 *   frame  = length:u32be cbor          ; cbor is exactly `length` bytes, one map with the field `t`
 *
 * One job at a time: the parent sends `analyse` or `prepare`, the child may ask any number of `symbols?` and `map?`,
 * each answered in order, and ends with exactly one of `analysis`, `prepared`, `unusable` or `refused`.
 * Nothing that the child says is believed: answers.ts checks its shape, FrameReader its size, the pool its number.
 */
export type Order =
  | { t: 'analyse'; bytes: Uint8Array; contentType: AcceptedCrash['contentType']; claims: AcceptedCrash['claims']; annotations: Record<string, string>; inflateBytes: number }
  | { t: 'prepare'; bytes: Uint8Array; name: string }
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
  | { kind: 'breakpad-sym'; debugFile: string; debugId: string; codeId: string | null; arch: string; functions: number; publics: number; cfiRules: number; problems: string[]; bytes: Uint8Array }
  | { kind: 'source-map'; debugId: string; file: string; sources: number }

export class WireError extends Error {
  override readonly name = 'WireError'
}

export function frame(message: Order | Answer): Buffer {
  const body = encode(message)
  const out = Buffer.allocUnsafe(4 + body.length)
  out.writeUInt32BE(body.length, 0)
  out.set(body, 4)
  return out
}

/** Cuts a byte stream into decoded frames; throws WireError past `maxBytes` a frame and on anything that is not CBOR. */
export function createFrameReader(maxBytes: number): { push(chunk: Uint8Array): unknown[] } {
  let chunks: Uint8Array[] = []
  let held = 0
  const joined = () => {
    if (chunks.length > 1) chunks = [Buffer.concat(chunks)]
    return chunks[0] ?? new Uint8Array(0)
  }
  return {
    push(chunk) {
      chunks.push(chunk)
      held += chunk.length
      const messages: unknown[] = []
      let wanted = 0
      while (held >= 4) {
        if ((chunks[0]?.length ?? 0) < 4) joined()
        const head = chunks[0] as Uint8Array
        wanted = new DataView(head.buffer, head.byteOffset).getUint32(0)
        if (wanted > maxBytes) throw new WireError(`frame of ${wanted} bytes, at most ${maxBytes} are allowed`)
        if (held < 4 + wanted) break
        const all = joined()
        messages.push(decodeBody(all.subarray(4, 4 + wanted)))
        chunks = all.length > 4 + wanted ? [all.subarray(4 + wanted)] : []
        held -= 4 + wanted
      }
      return messages
    },
  }
}

function decodeBody(body: Uint8Array): unknown {
  try {
    return decode(body)
  } catch (error) {
    throw new WireError(`frame is not CBOR: ${error instanceof Error ? error.message : String(error)}`)
  }
}
