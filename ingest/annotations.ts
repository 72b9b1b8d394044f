import { LAYERS, type AcceptedCrash, type Claims } from './contract.ts'

/**
 * Annotations: what an unsigned upload says about itself in form fields and in its query. Anybody can write anything
 * into them, so they are bounded, kept as text, and where they carry the name of a claim they fill that claim.
 * Crashpad and Breakpad clients have names of their own for product and version; those are understood too.
 */
const MOST = 64
const LONGEST = 256
const NOT_ANNOTATIONS = new Set(['key', 'reply', 'sentry_key', 'sentry_client', 'sentry_version', 'upload_file_minidump', 'crash_signature'])

export function annotationsOf(fields: ReadonlyMap<string, string>, query: Record<string, unknown>): AcceptedCrash['annotations'] {
  const texts = Object.entries(query).flatMap(([name, value]): [string, string][] => (typeof value === 'string' ? [[name, value]] : []))
  const kept = [...fields, ...texts].filter(([name]) => name !== '' && !NOT_ANNOTATIONS.has(name))
  // A form field is closer to the crash than the address that it was sent to, so it wins: it is written last.
  return Object.fromEntries(kept.slice(0, MOST).reverse().map(([name, value]) => [name.slice(0, LONGEST), value.slice(0, LONGEST)]))
}

/** Annotation names of each claim, the first that is there and readable wins. */
const TEXT_CLAIMS = {
  hwmodel: ['hwmodel'],
  swname: ['swname', 'product', 'prod', 'ProductName', '_productName'],
  swversion: ['swversion', 'version', 'ver', 'Version', '_version'],
  resetReason: ['reset_reason'],
  compartment: ['compartment'],
  process: ['process', 'ptype'],
} as const satisfies Partial<Record<keyof Claims, readonly string[]>>

const COUNT_CLAIMS = {
  bootcount: 'bootcount', seq: 'seq', uptimeSeconds: 'uptime', dbgstat: 'dbgstat', svn: 'svn', lastInputAgeMs: 'last_input_age_ms',
  listenerPort: 'listener_port',
} as const satisfies Partial<Record<keyof Claims, string>>

const HEX_CLAIMS = { buildId: 'build_id', fingerprint: 'fingerprint' } as const satisfies Partial<Record<keyof Claims, string>>

export function claimsOf(annotations: AcceptedCrash['annotations']): Claims {
  const said = (name: string) => (Object.hasOwn(annotations, name) && annotations[name] !== '' ? annotations[name] : undefined)
  const texts = Object.entries(TEXT_CLAIMS).map(([claim, names]) => [claim, names.map(said).find((text) => text !== undefined)])
  const counts = Object.entries(COUNT_CLAIMS).map(([claim, name]) => [claim, countOf(said(name))])
  const hexes = Object.entries(HEX_CLAIMS).map(([claim, name]) => [claim, hexOf(said(name))])
  const layer = LAYERS.find((known) => known === said('layer'))
  const all = [...texts, ...counts, ...hexes, ['layer', layer]] as [keyof Claims, Claims[keyof Claims]][]
  return Object.fromEntries(all.filter(([, value]) => value !== undefined))
}

const countOf = (text: string | undefined) => (text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined)
const hexOf = (text: string | undefined) => (text !== undefined && /^(?:[0-9a-f]{2}){1,64}$/i.test(text) ? text.toLowerCase() : undefined)
