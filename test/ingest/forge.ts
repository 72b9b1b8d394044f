import { createHash, sign, type KeyObject } from 'node:crypto'
import { device, NOW } from './door.ts'

/** Writes manifests by hand, right or wrong in any way a test wants: shares no code with the signer or the decoder. */
export const head = (major: number, n: number): Buffer => {
  const initial = major << 5
  if (n < 24) return Buffer.of(initial | n)
  if (n < 256) return Buffer.of(initial | 24, n)
  if (n < 65_536) return Buffer.of(initial | 25, n >> 8, n & 255)
  const wide = Buffer.alloc(5, initial | 26)
  wide.writeUInt32BE(n, 1)
  return wide
}
export const int = (n: number): Buffer => (n < 0 ? head(1, -1 - n) : head(0, n))
export const bstr = (bytes: Uint8Array): Buffer => Buffer.concat([head(2, bytes.length), bytes])
export const tstr = (text: string): Buffer => Buffer.concat([head(3, Buffer.byteLength(text)), Buffer.from(text)])
export const list = (...items: Buffer[]): Buffer => Buffer.concat([head(4, items.length), ...items])
export const table = (...pairs: [Buffer, Buffer][]): Buffer => Buffer.concat([head(5, pairs.length), ...pairs.flat()])
/** Pairs in the order that RFC 8949 4.2.1 wants. */
export const sorted = (pairs: [Buffer, Buffer][]): Buffer => table(...pairs.toSorted(([a], [b]) => Buffer.compare(a, b)))

export type Pairs = Map<number, Buffer | null>

export interface Forgery {
  dump?: Uint8Array
  /** Claims by number, over those of a good manifest; null takes one out. */
  claims?: [number, Buffer | null][]
  /** Protected headers by label, over those of a good manifest; null takes one out. */
  headers?: [number, Buffer | null][]
  /** The encoded claims or header maps instead of the sorted ones. */
  claimsMap?: (pairs: [Buffer, Buffer][]) => Buffer
  headerMap?: (pairs: [Buffer, Buffer][]) => Buffer
  unprotected?: Buffer
  payload?: Buffer
  signature?: (toBeSigned: Buffer) => Buffer
  key?: KeyObject
  chain?: readonly Uint8Array[]
}

const over = (base: [number, Buffer][], changes: [number, Buffer | null][] = []): [Buffer, Buffer][] => {
  const all: Pairs = new Map<number, Buffer | null>([...base, ...changes])
  return [...all].flatMap(([label, value]): [Buffer, Buffer][] => (value === null ? [] : [[int(label), value]]))
}

export function forge(forgery: Forgery = {}): Buffer {
  const { dump = Buffer.from('dump'), key = device().key, chain = device().chain } = forgery
  const digest = createHash('sha256').update(dump).digest()
  const claims = over([
    [265, tstr('tag:overrun.example,2026:crash-report/1')], [267, int(1)], [-65537, int(0)], [-65538, int(dump.length)], [6, int(Math.floor(NOW / 1000))],
  ], forgery.claims)
  const headers = over([
    [1, int(-7)], [15, (forgery.claimsMap ?? sorted)(claims)], [33, list(...chain.map((der) => bstr(der)))], [258, int(-16)], [259, tstr('application/x-minidump')],
  ], forgery.headers)
  const protectedBytes = (forgery.headerMap ?? sorted)(headers)
  const toBeSigned = list(tstr('Signature1'), bstr(protectedBytes), bstr(Buffer.alloc(0)), bstr(digest))
  const signature = forgery.signature?.(toBeSigned) ?? sign('sha256', toBeSigned, { key, dsaEncoding: 'ieee-p1363' })
  return Buffer.concat([Buffer.of(0xd2), list(bstr(protectedBytes), forgery.unprotected ?? Buffer.of(0xa0), forgery.payload ?? bstr(digest), bstr(signature))])
}

export const forgedBody = (forgery: Forgery = {}): Buffer => Buffer.concat([forge(forgery), bstr(forgery.dump ?? Buffer.from('dump'))])
