import { execFile } from 'node:child_process'
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { judgePath } from '../../ingest/device/cert-check.ts'
import {
  AT, authorityKeyId, basicConstraints, der, extendedKeyUsage, issueCertificate, keyUsage, subjectKeyId, toPem, type Extension, type Name,
} from '../../ingest/device/issue.ts'
import { crlPem, drawCrl, extensionOf, nameDer, type CrlParts } from '../ingest/build-crl.ts'

/**
 * Generated chains, right and wrong in one or two things, judged by us and by `openssl verify`. Ours is the narrower
 * profile, so it may refuse what OpenSSL accepts, and must never accept what OpenSSL refuses. Some come with a revocation
 * list of each issuer, right or wrong, and are then judged with -crl_check_all. OVERRUN_CHAINS draws more.
 */
const CHAINS = Number(process.env.OVERRUN_CHAINS ?? 400)
const SEED = 20261122
const NOW = Date.UTC(2026, 10, 22)
const DAY = 24 * 3600 * 1000
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
const dir = mkdtempSync(join(tmpdir(), 'overrun-openssl-'))
afterAll(() => rmSync(dir, { recursive: true }))

/** mulberry32 */
function randomFrom(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
const random = randomFrom(SEED)
const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!

type Pair = { publicKey: KeyObject; privateKey: KeyObject }
const keys: Pair[] = [...Array.from({ length: 4 }, () => generateKeyPairSync('ec', { namedCurve: 'P-256' })), generateKeyPairSync('ec', { namedCurve: 'P-384' }), generateKeyPairSync('ed25519')]
const odd: Pair[] = [generateKeyPairSync('ec', { namedCurve: 'P-521' }), generateKeyPairSync('rsa', { modulusLength: 2048 })]

/** The builders sign with no P-521 and no RSA key, which the profile refuses as issuers anyway. */
const canSign = (key: KeyObject): boolean => !odd.some(({ privateKey }) => privateKey === key)

/** One certificate to be: what is right, until a mutation changes it. */
type Draft = {
  subject: Name; issuer: Name; key: Pair; by: KeyObject; serial: Buffer; notBefore: number; notAfter: number; extensions: Extension[]
  /** Changes in the finished DER. */
  damage?: (certificate: Buffer) => Buffer
}
type Mutation = [name: string, change: (draft: Draft, others: Draft[]) => void]

const without = (draft: Draft, oid: string): void => { draft.extensions = draft.extensions.filter((extension) => extension.oid !== oid) }
const replace = (draft: Draft, extension: Extension): void => { without(draft, extension.oid); draft.extensions.push(extension) }
const MUTATIONS: Mutation[] = [
  ['no basicConstraints', (draft) => without(draft, '2.5.29.19')],
  ['CA false', (draft) => replace(draft, basicConstraints(false))],
  ['CA true', (draft) => replace(draft, basicConstraints(true))],
  ['path length 0', (draft) => replace(draft, basicConstraints(true, 0))],
  ['path length 1', (draft) => replace(draft, basicConstraints(true, 1))],
  ['no keyUsage', (draft) => without(draft, '2.5.29.15')],
  ['keyUsage cRLSign', (draft) => replace(draft, keyUsage('cRLSign'))],
  ['keyUsage digitalSignature', (draft) => replace(draft, keyUsage('digitalSignature'))],
  ['keyUsage keyAgreement', (draft) => replace(draft, keyUsage('keyAgreement'))],
  ['server EKU', (draft) => replace(draft, extendedKeyUsage('1.3.6.1.5.5.7.3.1'))],
  ['client EKU', (draft) => replace(draft, extendedKeyUsage(CLIENT_AUTH))],
  ['no EKU', (draft) => without(draft, '2.5.29.37')],
  ['critical unknown extension', (draft) => { draft.extensions.push({ oid: '1.3.6.1.4.1.55555.1', critical: true, value: der(0x05) }) }],
  ['unknown extension', (draft) => { draft.extensions.push({ oid: '1.3.6.1.4.1.55555.1', critical: false, value: der(0x05) }) }],
  ['duplicate extension', (draft) => { draft.extensions.push(...draft.extensions.slice(0, 1)) }],
  ['expired', (draft) => { draft.notAfter = NOW - DAY }],
  ['not yet valid', (draft) => { draft.notBefore = NOW + DAY }],
  ['ended a second ago', (draft) => { draft.notAfter = NOW - 1000 }],
  ['ends in a second', (draft) => { draft.notAfter = NOW + 1000 }], // The last second itself is valid by RFC 5280 and not by OpenSSL.
  ['begins this second', (draft) => { draft.notBefore = NOW }],
  ['another signer', (draft) => { draft.by = pick(keys).privateKey }],
  ['another issuer name', (draft) => { draft.issuer = [[AT.commonName, 'nobody']] }],
  ['another case in the issuer name', (draft) => { draft.issuer = draft.issuer.map(([oid, text]) => [oid, text.toUpperCase()] as const) }],
  ['self-issued', (draft) => { draft.issuer = draft.subject }],
  ['self-signed', (draft) => { draft.issuer = draft.subject; draft.by = draft.key.privateKey }],
  ['another key', (draft) => { draft.key = pick(keys) }],
  ['P-521 or RSA key', (draft) => { draft.key = pick(odd) }],
  ['another AKI', (draft) => replace(draft, authorityKeyId(pick(keys).publicKey))],
  ['another SKI', (draft) => replace(draft, subjectKeyId(pick(keys).publicKey))],
  ['issued by the last CA, in a circle', (draft, others) => { const last = others.at(-2)!; draft.issuer = last.subject; draft.by = last.key.privateKey }],
  ['subject of another', (draft, others) => { draft.subject = pick(others).subject }],
  ['a bit of the signature', (draft) => { draft.damage = (certificate) => { certificate[certificate.length - 4]! ^= 1; return certificate } }],
  ['a bit anywhere', (draft) => { const at = random(); draft.damage = (certificate) => { certificate[Math.floor(at * certificate.length)]! ^= 1 << Math.floor(at * 8000) % 8; return certificate } }],
]
const SHUFFLES: [string, (chain: Buffer[]) => Buffer[]][] = [
  ['in order', (chain) => chain], ['in order', (chain) => chain], ['in order', (chain) => chain], ['in order', (chain) => chain],
  ['reversed intermediates', ([leaf, ...rest]) => [leaf!, ...rest.reverse()]],
  ['intermediate twice', ([leaf, first, ...rest]) => [leaf!, ...(first ? [first, first] : []), ...rest].slice(0, 3)],
  ['an intermediate missing', ([leaf, , ...rest]) => [leaf!, ...rest]],
]

/** What is wrong with the list of one issuer; `below` is the certificate that it issued. */
const LISTS: [string, (parts: CrlParts, below: Draft) => CrlParts | undefined][] = [
  ['a list', (parts) => parts], ['a list', (parts) => parts], ['a list', (parts) => parts], ['a list', (parts) => parts], ['a list', (parts) => parts],
  ['a list that revokes', (parts, below) => ({ ...parts, revoked: [{ serial: Buffer.of(3) }, { serial: below.serial }] })],
  ['a list that revokes another', (parts) => ({ ...parts, revoked: [{ serial: Buffer.of(3) }] })],
  ['no list', () => undefined],
  ['a list of yesterday', (parts) => ({ ...parts, thisUpdate: NOW - 9 * DAY, nextUpdate: NOW - DAY })],
  ['a list of tomorrow', (parts) => ({ ...parts, thisUpdate: NOW + DAY })],
  ['a list of another signer', (parts) => ({ ...parts, key: pick(keys).privateKey })],
  ['a delta', (parts) => ({ ...parts, extensions: [extensionOf('2.5.29.27', true, der(0x02, Buffer.of(1)))] })],
  ['a list with an unknown critical extension', (parts) => ({ ...parts, extensions: [extensionOf('1.3.6.1.4.1.55555.1', true, der(0x05))] })],
]

type Made = { about: string; chain: Buffer[]; anchor: Buffer; lists: Buffer[] }

function make(): Made {
  const depth = pick([0, 1, 1, 2])
  const times = { notBefore: NOW - 100 * DAY, notAfter: NOW + 100 * DAY }
  const drafts: Draft[] = []
  for (let i = 0; i <= depth + 1; i++) {
    const parent = drafts[i - 1]
    const isLeaf = i === depth + 1
    const key = pick(keys)
    const subject: Name = i === 0 ? [[AT.commonName, 'root']] : isLeaf ? [[AT.serialNumber, 'd-1'], [AT.commonName, 'device']] : [[AT.organization, 'maker'], [AT.commonName, `ca ${i}`]]
    drafts.push({
      subject, issuer: parent?.subject ?? subject, key, by: parent?.key.privateKey ?? key.privateKey, ...times, serial: Buffer.from([0x40, i, Math.floor(random() * 256)]),
      extensions: [
        ...(isLeaf ? [basicConstraints(false), keyUsage('digitalSignature'), extendedKeyUsage(CLIENT_AUTH)] : [basicConstraints(true), keyUsage('keyCertSign', 'cRLSign')]),
        ...(random() < 0.7 ? [subjectKeyId(key.publicKey), authorityKeyId(parent?.key.publicKey ?? key.publicKey)] : []),
      ],
    })
  }
  const wrongs = random() < 0.3 ? 0 : random() < 0.7 ? 1 : 2
  const names = Array.from({ length: wrongs }, () => {
    const [name, change] = pick(MUTATIONS)
    const at = Math.floor(random() * drafts.length)
    change(drafts[at]!, drafts)
    return `${name} in ${at} of ${drafts.length}`
  })
  const made = drafts.map((draft) => {
    const certificate = issueCertificate({ ...draft, publicKey: draft.key.publicKey, signingKey: canSign(draft.by) ? draft.by : keys[0]!.privateKey })
    return draft.damage ? draft.damage(certificate) : certificate
  })
  const lists = random() < 0.25 ? drawLists(drafts) : []
  const [shuffle, reorder] = wrongs === 0 ? pick(SHUFFLES) : SHUFFLES[0]!
  return {
    about: [...names, shuffle, ...lists.map(({ about }) => about)].join(', '), chain: reorder(made.slice(1).reverse()), anchor: made[0]!,
    lists: lists.flatMap(({ list }) => list ?? []),
  }
}

/**
 * At least one list is there, or neither side would look for any. None for an anchor that another CA issued: OpenSSL asks
 * for a list about the anchor then, which is trusted here because it is configured.
 */
function drawLists(drafts: Draft[]): { about: string; list?: Buffer }[] {
  if (drafts[0]!.issuer !== drafts[0]!.subject) return []
  const drawn = drafts.slice(0, -1).map((issuer, i) => {
    const [about, change] = pick(LISTS)
    const parts = change({ issuer: nameDer(issuer.subject), key: issuer.key.privateKey, thisUpdate: NOW - DAY }, drafts[i + 1]!)
    return parts && canSign(parts.key) ? { about, list: drawCrl(parts) } : { about: 'no list' }
  })
  return drawn.some(({ list }) => list) ? drawn : []
}

const opensslAccepts = (name: string, { chain, anchor, lists }: Made): Promise<boolean> => {
  const write = (suffix: string, text: string): string => {
    const path = join(dir, `${name}-${suffix}.pem`)
    writeFileSync(path, text)
    return path
  }
  const file = (suffix: string, ...certificates: Buffer[]): string => write(suffix, certificates.map(toPem).join(''))
  const args = ['verify', '-no-CApath', '-no-CAstore', '-partial_chain', '-attime', String(NOW / 1000), '-purpose', 'sslclient', '-CAfile', file('ca', anchor)]
  if (chain.length > 1) args.push('-untrusted', file('untrusted', ...chain.slice(1)))
  if (lists.length > 0) args.push('-crl_check_all', '-CRLfile', write('crl', lists.map(crlPem).join('')))
  return new Promise((resolve) => { execFile('openssl', [...args, file('leaf', chain[0]!)], (error) => resolve(error === null)) })
}

const weAccept = ({ chain, anchor, lists }: Made): boolean => {
  const { result } = judgePath({ chain, anchors: [anchor], crls: lists, at: NOW })
  return !('slug' in result) && result.unfit === undefined
}

describe(`${CHAINS} generated chains, seed ${SEED}`, () => {
  test('are never accepted where openssl verify refuses, and a good share is accepted by both', async () => {
    const made = Array.from({ length: CHAINS }, make)
    const judged: { about: string; ours: boolean; theirs: boolean }[] = []
    for (let i = 0; i < made.length; i += 4) {
      judged.push(...await Promise.all(made.slice(i, i + 4).map(async (one, j) => ({ about: one.about, ours: weAccept(one), theirs: await opensslAccepts(String(i + j), one) }))))
    }
    expect(judged.filter(({ ours, theirs }) => ours && !theirs).map(({ about }) => about)).toEqual([])
    const both = judged.filter(({ ours, theirs }) => ours && theirs).length
    console.log(`openssl verify: ${CHAINS} chains, ${both} accepted by both, ${judged.filter(({ theirs }) => theirs).length} by OpenSSL`)
    expect(both).toBeGreaterThan(CHAINS / 5)
    expect(judged.filter(({ ours, theirs }) => !ours && !theirs).length).toBeGreaterThan(CHAINS / 5)
    // What is right and in order is accepted by both.
    expect(judged.filter(({ about, ours, theirs }) => /^in order(, a list)*$/.test(about) && !(ours && theirs))).toEqual([])
  }, 60_000 + CHAINS * 50)
})
