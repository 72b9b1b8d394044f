import { createHash, sign, type KeyObject } from 'node:crypto'
import { encode } from 'cborg'
import { createFleet, type Fleet } from '../../ingest/device/fleet-init.ts'

/**
 * Draws manifests from the numbers on the wire, by hand: map keys are sorted here as RFC 8949 4.2.1 says and nothing is
 * taken from the parser. Any part can be replaced to draw one that is wrong.
 */
export type Parts = {
  header?: Map<unknown, unknown>
  claims?: Map<unknown, unknown>
  /** Replaces the encoded protected header. */
  protectedBytes?: Uint8Array
  unprotected?: Uint8Array
  payload?: unknown
  signature?: Uint8Array
  key?: KeyObject
  digest?: string | null
}

export const NOW = Date.UTC(2026, 10, 22, 12)
export const fleet: Fleet = createFleet({ devices: 2, now: NOW })
export const device = fleet.devices[0]!
export const DUMP = Buffer.from('MDMP and then some bytes of a dump')
export const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest()

/** Encoded map with its keys in bytewise order of their encodings. */
export function cborMap(entries: Iterable<readonly [unknown, unknown]>): Buffer {
  const pairs = [...entries].map(([key, value]) => [Buffer.from(encode(key)), value instanceof Map ? cborMap(value) : Buffer.from(encode(value))] as const)
  pairs.sort(([a], [b]) => Buffer.compare(a, b))
  return Buffer.concat([head(5, pairs.length), ...pairs.flat()])
}

export function head(major: number, n: number): Buffer {
  if (n < 24) return Buffer.from([(major << 5) | n])
  if (n < 256) return Buffer.from([(major << 5) | 24, n])
  return Buffer.from([(major << 5) | 25, n >> 8, n & 255])
}
export const bstr = (bytes: Uint8Array): Buffer => Buffer.concat([head(2, bytes.length), bytes])

export const PROFILE = 'tag:overrun.example,2026:crash-report/1'

export const goodClaims = (): Map<unknown, unknown> => new Map<unknown, unknown>([[265, PROFILE], [267, 7], [-65537, 0], [-65538, DUMP.length]])
export const goodHeader = (): Map<unknown, unknown> => new Map<unknown, unknown>([[1, -7], [33, device.chain], [258, -16], [259, 'application/x-minidump']])

export function drawManifest(parts: Parts = {}): Buffer {
  const header = new Map([...(parts.header ?? goodHeader())])
  if (!header.has(15)) header.set(15, parts.claims ?? goodClaims())
  const protectedBytes = parts.protectedBytes ?? cborMap([...header].filter(([, value]) => value !== undefined))
  const payload = 'payload' in parts ? parts.payload : sha256(DUMP)
  const signature = parts.signature ?? signOver(protectedBytes, payload as Uint8Array, parts.key ?? device.key, parts.digest === undefined ? 'sha256' : parts.digest)
  return Buffer.concat([Buffer.from([0xd2, 0x84]), bstr(protectedBytes), parts.unprotected ?? Buffer.from([0xa0]), Buffer.from(encode(payload)), bstr(signature)])
}

export function signOver(protectedBytes: Uint8Array, payload: Uint8Array, key: KeyObject, digest: string | null): Buffer {
  const structure = Buffer.from(encode(['Signature1', protectedBytes, new Uint8Array(0), payload]))
  return sign(digest, structure, { key, dsaEncoding: 'ieee-p1363' })
}

/** The good header with some labels replaced; undefined takes one away. */
export const headerWith = (...entries: [unknown, unknown][]): Map<unknown, unknown> => new Map([...goodHeader(), ...entries])
export const claimsWith = (...entries: [unknown, unknown][]): Map<unknown, unknown> => new Map([...new Map([...goodClaims(), ...entries])].filter(([, value]) => value !== undefined))
