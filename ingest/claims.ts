import { LAYERS, type Claims } from './contract.ts'
import { refuse, type Refusal } from './outcome.ts'

/**
 * What a device claims about itself and its crash: CWT (RFC 8392) and EAT (RFC 9711) claims by their registered numbers,
 * and our own below -65536, which RFC 8392 leaves to private use. The set is closed: an unknown claim is refused, so that
 * a misspelt one is noticed on the developer's desk and not missed in the field.
 */
export type DecodedClaims = { profile: string; ueid?: Uint8Array; claims: Claims }

/** Numbers of the claims. */
export const CLAIM = {
  iat: 6, nonce: 10, ueid: 256, hwmodel: 259, uptime: 261, dbgstat: 263, profile: 265, bootcount: 267, bootseed: 268, swname: 270, swversion: 271,
  seq: -65537, size: -65538, buildId: -65539, encoding: -65540, resetReason: -65541, compartment: -65542, layer: -65543, svn: -65544,
  context: -65545, fingerprint: -65546,
} as const
/** Keys inside the context claim. */
export const CONTEXT = { process: 1, lastInputAgeMs: 2, peer: 3, listenerPort: 4 } as const

/** Gives the value in the form of the contract, or undefined where it has the wrong type or range. */
type Reader<T> = (value: unknown) => T | undefined

export const isBytes = (value: unknown): value is Uint8Array => value instanceof Uint8Array
/** A label as a refusal may repeat it: numbers only, never a sender's text. */
export const shown = (label: unknown): string => (typeof label === 'number' ? String(label) : `of type ${typeof label}`)

const uint = (most: number): Reader<number> => (value) => (Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most ? (value as number) : undefined)
const anyUint = uint(Number.MAX_SAFE_INTEGER)
const text: Reader<string> = (value) => (typeof value === 'string' && value.length > 0 ? value : undefined)
const bytes = (least: number, most: number): Reader<Uint8Array> => (value) => (isBytes(value) && value.length >= least && value.length <= most ? value : undefined)
const hex = (least: number, most: number): Reader<string> => (value) => {
  const read = bytes(least, most)(value)
  return read && Buffer.from(read).toString('hex')
}
const oneOf = <const T extends string>(list: readonly T[]): Reader<T> => (value) => list.find((known) => known === value)

/** NumericDate, RFC 8392: seconds since the epoch, a fraction allowed, up to the year 9999. */
const date: Reader<number> = (value) => (typeof value === 'number' && value >= 0 && value < 253_402_300_800 ? value : undefined)

/** EAT makes hwmodel a byte string; most makers put a name in it. Bytes that are no printable text are shown as hex. */
const hwmodel: Reader<string> = (value) => {
  if (typeof value === 'string') return text(value)
  const read = bytes(1, 32)(value)
  if (read === undefined) return undefined
  return read.every((byte) => byte >= 0x20 && byte < 0x7f) ? Buffer.from(read).toString('latin1') : Buffer.from(read).toString('hex')
}

/** EAT: [version, ?scheme]. */
const swversion: Reader<string> = (value) => {
  if (!Array.isArray(value) || value.length < 1 || value.length > 2) return undefined
  if (value.length === 2 && typeof value[1] !== 'string' && !Number.isSafeInteger(value[1])) return undefined
  return text(value[0])
}

/** 4 or 16 bytes are an address; anything else up to 32 bytes is a hash that the device salted. */
const peer: Reader<string> = (value) => {
  const read = bytes(4, 32)(value)
  if (read === undefined) return undefined
  if (read.length === 4) return read.join('.')
  if (read.length !== 16) return `h:${Buffer.from(read).toString('hex')}`
  const groups = Buffer.from(read).toString('hex').match(/.{4}/g)!.join(':')
  // The URL parser writes an IPv6 address as RFC 5952 does.
  return new URL(`http://[${groups}]/`).hostname.slice(1, -1)
}

type Field = { [K in keyof Claims]-?: { name: K; read: Reader<NonNullable<Claims[K]>> } }[keyof Claims]
const field = <K extends keyof Claims>(name: K, read: Reader<NonNullable<Claims[K]>>): Field => ({ name, read }) as Field

const FIELDS: ReadonlyMap<unknown, Field> = new Map<number, Field>([
  [CLAIM.iat, field('iat', date)],
  [CLAIM.hwmodel, field('hwmodel', hwmodel)],
  [CLAIM.uptime, field('uptimeSeconds', anyUint)],
  [CLAIM.dbgstat, field('dbgstat', uint(4))],
  [CLAIM.bootcount, field('bootcount', anyUint)],
  [CLAIM.swname, field('swname', text)],
  [CLAIM.swversion, field('swversion', swversion)],
  [CLAIM.seq, field('seq', anyUint)],
  [CLAIM.size, field('size', anyUint)],
  [CLAIM.buildId, field('buildId', hex(1, 64))],
  [CLAIM.encoding, field('encoding', oneOf(['gzip', 'zstd']))],
  [CLAIM.resetReason, field('resetReason', text)],
  [CLAIM.compartment, field('compartment', text)],
  [CLAIM.layer, field('layer', oneOf(LAYERS))],
  [CLAIM.svn, field('svn', anyUint)],
  [CLAIM.fingerprint, field('fingerprint', hex(1, 32))],
])

const CONTEXT_FIELDS: ReadonlyMap<unknown, Field> = new Map<number, Field>([
  [CONTEXT.process, field('process', text)],
  [CONTEXT.lastInputAgeMs, field('lastInputAgeMs', anyUint)],
  [CONTEXT.peer, field('peer', peer)],
  [CONTEXT.listenerPort, field('listenerPort', uint(65_535))],
])

/** Checked and then not carried on: they are in the manifest that is kept. */
const CHECKED: ReadonlyMap<unknown, Reader<unknown>> = new Map<number, Reader<unknown>>([
  [CLAIM.nonce, bytes(8, 64)],
  [CLAIM.bootseed, bytes(1, 64)],
])

export function decodeClaims(value: unknown): DecodedClaims | Refusal {
  if (value === undefined) return refuse('header-missing', 'manifest: header 15 (CWT claims) is missing')
  if (!(value instanceof Map)) return refuse('claim-invalid', 'manifest: the claims are not a map')
  const profile = value.get(CLAIM.profile)
  if (profile === undefined) return refuse('claim-missing', 'manifest: claim 265 (eat_profile) is missing')
  if (typeof profile !== 'string') return refuse('claim-invalid', 'manifest: claim 265 (eat_profile) is not a text')
  const decoded: DecodedClaims = { profile, claims: {} }
  for (const [label, claim] of value) {
    if (label === CLAIM.profile) continue
    if (label === CLAIM.context) {
      if (!(claim instanceof Map)) return refuse('claim-invalid', 'manifest: the context claim is not a map')
      for (const [key, inner] of claim) {
        const refusal = put(decoded.claims, CONTEXT_FIELDS.get(key), `${CLAIM.context}/${shown(key)}`, inner)
        if (refusal) return refusal
      }
    } else if (label === CLAIM.ueid) {
      const ueid = bytes(7, 33)(claim)
      if (ueid === undefined) return refuse('claim-invalid', 'manifest: claim 256 (ueid) is not a byte string of 7 to 33')
      decoded.ueid = ueid
    } else if (CHECKED.has(label)) {
      if (CHECKED.get(label)!(claim) === undefined) return refuse('claim-invalid', `manifest: claim ${shown(label)} has a type or value outside its range`)
    } else {
      const refusal = put(decoded.claims, FIELDS.get(label), shown(label), claim)
      if (refusal) return refusal
    }
  }
  return decoded
}

function put(claims: Claims, target: Field | undefined, label: string, value: unknown): Refusal | undefined {
  if (target === undefined) return refuse('claim-unknown', `manifest: claim ${label} is not part of the profile`)
  const read = target.read(value)
  if (read === undefined) return refuse('claim-invalid', `manifest: claim ${label} (${target.name}) has a type or value outside its range`)
  Object.assign(claims, { [target.name]: read })
  return undefined
}
