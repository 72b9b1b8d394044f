import { createHash } from 'node:crypto'
import { decode } from 'cborg'
import { scanItem } from '../ingest/cbor-scan.ts'
import type { Claims } from '../ingest/contract.ts'
import type { Analysis } from './contract.ts'
import { emptyReport } from './report.ts'
import { RULESET } from './signature/signature.ts'
import { unreadable } from './unreadable.ts'

/**
 * A crash-storm digest: what a device sends instead of thousands of dumps once it has sent its share for an hour, so that
 * guessing addresses shows although the dumps stay behind. No dump and not parsed as one.
 *
 *   digest = { 1 count: uint, 2 first, 3 last: uint,        ; crashes, and the uptime in s of the first and the last of them
 *              4 offsets, 5 pcs: uint,                      ; distinct fault & 0xfff, distinct program counters
 *              6 least, 7 most: uint,                       ; lowest and highest fault address, 64 bits
 *              8 kinds: { *16 tstr => uint },               ; crashes by the device's own word for what failed
 *              ? 9 sample: [ *16 [fault, pc: uint] ] }
 *
 * Deterministic CBOR of at most 4 KiB. A digest that contradicts itself (more distinct values than crashes) is malformed.
 */
export const STORM_TYPE = 'application/vnd.overrun.crash-storm+cbor'

export interface Storm {
  count: number
  first: number
  last: number
  offsets: number
  pcs: number
  least: bigint
  most: bigint
  kinds: [kind: string, count: number][]
  sample: { fault: bigint; pc: bigint }[]
}

const LIMITS = { bytes: 4096, depth: 4, entries: 16, text: 64 }
const PAGE_OFFSETS = 4096
/** Where PRB-SWEEP starts to speak of guessing. */
const SWEEP_CRASHES = 8
const SWEEP_SHARE = 0.5
const SWEEP_GAP_S = 30

export function parseStorm(bytes: Uint8Array): Storm | { reason: string } {
  const scan = scanItem(bytes, 0, LIMITS)
  if ('slug' in scan) return bad(scan.slug)
  if (scan.kind === 'incomplete') return bad('it ends inside an item')
  if (scan.end !== bytes.length) return bad(`${bytes.length - scan.end} bytes follow it`)
  const map: unknown = decode(bytes, { strict: true, useMaps: true })
  if (!(map instanceof Map)) return bad('it is not a map')
  for (const key of map.keys()) if (!Number.isInteger(key) || (key as number) < 1 || (key as number) > 9) return bad('it has a key other than 1 to 9')

  const [count, first, last, offsets, pcs] = [1, 2, 3, 4, 5].map((key) => map.get(key) as unknown)
  if (!isCount(count) || !isCount(first) || !isCount(last) || !isCount(offsets) || !isCount(pcs)) return bad('keys 1 to 5 are not whole numbers')
  const [least, most] = [addressOf(map.get(6)), addressOf(map.get(7))]
  if (least === null || most === null) return bad('keys 6 and 7 are not addresses of 64 bits')
  const kinds = kindsOf(map.get(8))
  if (kinds === null) return bad('key 8 is not a map from words to whole numbers')
  const sample = sampleOf(map.get(9) ?? [])
  if (sample === null) return bad('key 9 is not a list of pairs of addresses')

  if (count === 0 || last < first || least > most) return bad('it counts nothing, or ends before it begins')
  if (offsets > Math.min(count, PAGE_OFFSETS) || pcs > count || kinds.reduce((sum, [, n]) => sum + n, 0) > count) return bad('its parts are more than its crashes')
  return { count, first, last, offsets, pcs, least, most, kinds, sample }
}

export function analyseStorm(bytes: Uint8Array, claims: Claims): Analysis {
  const storm = parseStorm(bytes)
  if ('reason' in storm) return unreadable('dump-malformed', `crash storm: ${storm.reason}`, { contentType: STORM_TYPE, claims })
  const { count, first, last, offsets, pcs } = storm
  const where = claims.compartment ?? claims.process ?? claims.swname ?? 'an unnamed program'
  const text = `${RULESET} | crash-storm | ${where}`
  const sweep = count >= SWEEP_CRASHES && offsets / Math.min(count, PAGE_OFFSETS) >= SWEEP_SHARE && last - first <= SWEEP_GAP_S * count
  const facts = factsOf(storm).map((fact) => ({ slug: 'crash-storm', text: fact }))
  return {
    status: 'ok',
    statusReason: '',
    kind: 'crash-storm',
    access: 'unknown',
    evidence: {
      class: sweep ? 2 : 1, severity: 'unknown', cwe: [],
      for: [...facts, ...(sweep ? [{ slug: 'storm-sweep', text: `${offsets} different page offsets in ${count} crashes: addresses that somebody guesses look like this` }] : [])],
      against: offsets === 1 && pcs === 1 ? [{ slug: 'storm-loop', text: 'every crash had the same page offset and program counter: a crash loop looks like this' }] : [],
      addressClass: 'unknown', faultAddress: null, pc: null, sp: null, pattern: null, pcOutsideModules: false,
    },
    signature: {
      ruleset: RULESET, bucket: createHash('sha256').update(text).digest('hex').slice(0, 16), text, title: `crash storm in ${where}`,
      frames: [], notes: [], provisional: false,
    },
    report: { ...emptyReport('crash-storm', 'OK'), notes: facts },
  }
}

function factsOf({ count, first, last, offsets, pcs, least, most, kinds, sample }: Storm): string[] {
  return [
    `${count} crashes between ${first} s and ${last} s of uptime`,
    `${offsets} different page offsets, ${pcs} different program counters, fault addresses from ${hex(least)} to ${hex(most)}`,
    ...(kinds.length > 0 ? [kinds.map(([kind, n]) => `${n} times ${kind}`).join(', ')] : []),
    ...(sample.length > 0 ? [`sample: ${sample.map(({ fault, pc }) => `${hex(fault)} at ${hex(pc)}`).join(', ')}`] : []),
  ]
}

const bad = (reason: string) => ({ reason })
const hex = (value: bigint) => `0x${value.toString(16)}`
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

/** cborg gives a bigint for what no double holds. */
const addressOf = (value: unknown): bigint | null => (isCount(value) || (typeof value === 'bigint' && value >= 0n) ? BigInt(value) : null)

function kindsOf(value: unknown): Storm['kinds'] | null {
  if (!(value instanceof Map)) return null
  const kinds = [...value] as [unknown, unknown][]
  return kinds.every((pair): pair is [string, number] => typeof pair[0] === 'string' && isCount(pair[1])) ? kinds : null
}

function sampleOf(value: unknown): Storm['sample'] | null {
  if (!Array.isArray(value)) return null
  const sample = []
  for (const pair of value as unknown[]) {
    const [fault, pc] = Array.isArray(pair) && pair.length === 2 ? pair.map(addressOf) : []
    if (fault == null || pc == null) return null
    sample.push({ fault, pc })
  }
  return sample
}
