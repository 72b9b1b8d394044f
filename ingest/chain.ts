import { hash, type KeyObject } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { isSignedBy, parseCertificate, same, type Certificate, type KeyType } from './certificate.ts'
import type { AcceptedCrash } from './contract.ts'
import { NO_CRLS, revokedAt, type CrlSet } from './crl.ts'
import type { TcbInfo } from './dice.ts'
import { COMMON_NAME, SERIAL_NUMBER, nameText, soleText } from './names.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'

/**
 * Path validation, a narrow profile of RFC 5280 section 6: what is not needed to sign crash reports is refused.
 *
 * - The chain comes in order, leaf first, with at most two intermediates; the anchor is configured, never sent. No search
 *   for a path: each certificate must be issued by the next, by name, by key and by key identifier.
 * - Every issuer is a CA with keyCertSign, within its path length and its validity (the anchor too: OpenSSL does the same).
 *   An expired leaf is accepted and flagged for as long as the fleet's policy says: a device that comes back after a
 *   winter in a drawer should still tell how it crashed.
 * - Nothing that would need RFC 5280's policy or name-constraint machinery, no self-issued certificate (so no cycles of
 *   one), no unknown critical extension, no algorithm outside P-256, P-384, Ed25519.
 *
 * A path that verified is remembered by the SHA-256 of its leaf, up to `cacheSize` leaves; validity in time, revocation,
 * the anchor being still configured and the fleet's policy are judged on every call. Paths that failed are not remembered, so
 * strangers cannot push devices out of the cache.
 */
export type ChainVerifier = {
  /** `chain` in DER, leaf first; `at` in ms since the epoch. */
  verify(chain: Uint8Array[], anchors: readonly Anchor[], policyOf: (fleet: string) => ChainPolicy, at: number, crls?: CrlSet): ChainResult | Refusal
  /** The chain whose leaf has this SHA-256, if it verified here before. */
  chainOf(leafSha256: Uint8Array): Uint8Array[] | undefined
}

/** A certificate that a fleet trusts to issue device certificates. */
export type Anchor = {
  readonly der: Uint8Array
  /** SHA-256 of the DER, lower-case hex. */
  readonly sha256: string
  readonly keyProtection: AcceptedCrash['keyProtection']
  readonly fleet: string
  /**
   * Whose serial numbers these are, where a fleet has several manufacturers that number alike: device ids become
   * `scope/serial`. Anchors of one manufacturer share it, so that rotating an anchor renames no device.
   */
  readonly scope?: string
}

export type ChainPolicy = {
  /** How long after its end a leaf is still accepted, and flagged `certificate-expired`; 0 refuses. */
  readonly expiredLeafMs: number
  /** A leaf must have one of these extended key usages (OIDs), or 'any'. */
  readonly eku: readonly string[] | 'any'
  /** Absent: CRL_IF_THERE. */
  readonly crl?: CrlPolicy
}

/** What happens when the list of an issuer on the path has run out, or is not there. */
export type CrlPolicy = { readonly expired: 'flag' | 'refuse'; readonly missing: 'accept' | 'refuse' }
/** An old list is better than none: it is used and flagged `crl-expired`. The device registry knows of revocations besides. */
export const CRL_IF_THERE: CrlPolicy = { expired: 'flag', missing: 'accept' }
export const CRL_REQUIRED: CrlPolicy = { expired: 'refuse', missing: 'refuse' }

/** A leaf and two intermediates. */
export const MAX_CERTIFICATES = 3

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
const DICE_IDENTITY_INIT = '2.23.133.5.4.100.6'
const DICE_ATTEST_INIT = '2.23.133.5.4.100.8'
const DICE_ATTEST_LOC = '2.23.133.5.4.100.9'
const DICE_ECA = '2.23.133.5.4.100.12'

export const DEFAULT_CHAIN_POLICY: ChainPolicy = {
  expiredLeafMs: 30 * 24 * 3600 * 1000,
  eku: [CLIENT_AUTH, DICE_ATTEST_INIT, DICE_ATTEST_LOC],
}

export type LeafKeyType = 'P-256' | 'P-384' | 'Ed25519'

export type ChainResult = {
  leafKey: KeyObject
  leafKeyType: LeafKeyType | 'RSA'
  /** SHA-256 of the leaf's SubjectPublicKeyInfo, lower-case hex: the replay domain. */
  deviceKeyId: string
  /** What people and detectors count; see deviceIdOf. */
  deviceId: string
  /** Subject of the leaf's issuer, RFC 4514. */
  issuer: string
  anchor: Anchor
  fleet: string
  flags: string[]
  /** Firmware and UEID that the certificates prove (TCG DICE). */
  tcb?: TcbInfo
  ueid?: Uint8Array
  /** What the issuers' revocation lists say against the path. Told only once the signature is good. */
  revoked?: Refusal
  /** Why the leaf may not sign crash reports. Told only once its signature is good. */
  unfit?: Refusal
}

export function createChainVerifier({ cacheSize, allowRsa = false }: { cacheSize: number; allowRsa?: boolean }): ChainVerifier {
  const paths = new LRUCache<string, Path>({ max: cacheSize })
  const trusts = new WeakMap<readonly Anchor[], Trust>()
  // Intermediates on paths that verified, with the issuer whose signature is good: a cold leaf then costs one verification.
  const intermediates = new LRUCache<string, { certificate: Certificate; issuedBy: string }>({ max: 1024 })

  return {
    verify(chain, anchors, policyOf, at, crls = NO_CRLS) {
      const leaf = chain[0]
      if (leaf === undefined || chain.length > MAX_CERTIFICATES) return refuse('chain-malformed', `chain: ${chain.length} certificates, 1 to ${MAX_CERTIFICATES} expected`)
      const known = paths.get(hash('sha256', leaf, 'hex'))
      const trust = trustIn(anchors)
      const anchor = known && isChain(known, chain) && trust.byId.get(known.trustedAs)
      if (anchor) return judge(known, anchor, policyOf(anchor.fleet), at, crls)
      // The copy lets go of the request's buffer, which a cached view would keep alive.
      const built = build(chain.map((certificate) => new Uint8Array(certificate)), trust)
      if (isRefusal(built)) return built
      paths.set(built.path.leaf.sha256, built.path)
      return judge(built.path, built.anchor, policyOf(built.anchor.fleet), at, crls)
    },
    chainOf(leafSha256) {
      const path = paths.get(Buffer.from(leafSha256).toString('hex'))
      return path && certificatesIn(path)
    },
  }

  /** Reads each list of anchors once. */
  function trustIn(anchors: readonly Anchor[]): Trust {
    const trust = trusts.get(anchors) ?? readTrust(anchors, allowRsa)
    trusts.set(anchors, trust)
    return trust
  }

  /** Everything that does not change with time and policy. Signatures last, from the anchor down: a stranger costs none. */
  function build(chain: Uint8Array[], trust: Trust): { path: Path; anchor: Anchor } | Refusal {
    const certificates: Certificate[] = []
    for (const [i, der] of chain.entries()) {
      const certificate = (i > 0 && intermediates.get(hash('sha256', der, 'hex'))?.certificate) || parseCertificate(der, { allowRsa })
      if (isRefusal(certificate)) return refuse(certificate.slug, `chain: ${nth(i)}: ${certificate.detail}`)
      if (certificate.issuer === certificate.subject) return refuse('certificate-self-issued', `chain: ${nth(i)} is issued by its own name`)
      certificates.push(certificate)
    }
    const [leaf, ...issuing] = certificates as [Certificate, ...Certificate[]]
    for (const [i, issuer] of issuing.entries()) {
      const refusal = mayIssue(issuer, nth(i + 1), i) ?? namesIssuer(certificates[i]!, issuer, nth(i))
      if (refusal) return refusal
    }

    const top = certificates.at(-1)!
    const candidates = trust.bySubject.get(top.issuer) ?? []
    if (candidates.length === 0) return refuse('anchor-unknown', `chain: no anchor is named ${nameText(top.issuerNames)}`)
    let refusal: Refusal | undefined
    const anchor = candidates.find(({ certificate }) => {
      const wrong = mayIssue(certificate, 'the anchor', issuing.length) ?? namesIssuer(top, certificate, nth(issuing.length)) ?? signed(top, certificate, issuing.length)
      refusal ??= wrong
      return wrong === undefined
    })
    if (anchor === undefined) return refusal!
    for (let i = issuing.length - 1; i >= 0; i--) {
      const wrong = signed(certificates[i]!, certificates[i + 1]!, i)
      if (wrong) return wrong
    }
    for (const [i, certificate] of issuing.entries()) {
      intermediates.set(certificate.sha256, { certificate, issuedBy: (issuing[i + 1] ?? anchor.certificate).sha256 })
    }
    const path = { leaf: keep(leaf), issuing, trustedAs: trustId(anchor), anchorCertificate: anchor.certificate, ...describe(leaf, issuing, anchor.anchor) }
    return { path, anchor: anchor.anchor }
  }

  function signed(certificate: Certificate, issuer: Certificate, i: number): Refusal | undefined {
    if (i > 0 && intermediates.get(certificate.sha256)?.issuedBy === issuer.sha256) return undefined
    return isSignedBy(certificate, issuer) ? undefined : refuse('certificate-signature', `chain: ${nth(i)} is not signed by the key of its issuer`)
  }
}

/** What is judged on every call; the rest of a leaf is let go, since there may be as many as devices. */
type KeptLeaf = Pick<Certificate, 'der' | 'sha256' | 'serial' | 'notBefore' | 'notAfter' | 'key' | 'keyType' | 'extensions'>
const keep = ({ der, sha256, serial, notBefore, notAfter, key, keyType, extensions: { basicConstraints, keyUsage, extendedKeyUsage, tcb, ueid } }: Certificate): KeptLeaf => (
  { der, sha256, serial, notBefore, notAfter, key, keyType, extensions: { basicConstraints, keyUsage, extendedKeyUsage, tcb, ueid } }
)

type Path = {
  leaf: KeptLeaf
  /** Shared between paths. */
  issuing: Certificate[]
  /** The anchor by what the path depends on: a registry that is read again gives new objects for the same anchors. */
  trustedAs: string
  anchorCertificate: Certificate
  deviceKeyId: string
  deviceId: string
  issuer: string
}

/** What does change: time, revocation, and the fleet's policy. */
function judge(path: Path, anchor: Anchor, policy: ChainPolicy, at: number, crls: CrlSet): ChainResult | Refusal {
  const flags: string[] = []
  const { leaf, issuing } = path
  for (const [i, certificate] of [leaf, ...issuing, path.anchorCertificate].entries()) {
    const which = i > issuing.length ? 'the anchor' : nth(i)
    if (at < certificate.notBefore) return refuse('certificate-not-yet-valid', `chain: ${which} is valid from ${new Date(certificate.notBefore).toISOString()}`)
    if (at < certificate.notAfter + 1000) continue // Times are whole seconds, the last one included.
    if (i > 0 || at - certificate.notAfter > policy.expiredLeafMs) {
      return refuse('certificate-expired', `chain: ${which} was valid until ${new Date(certificate.notAfter).toISOString()}`)
    }
    flags.push('certificate-expired')
  }
  const { tcb, ueid } = leaf.extensions
  const listed = revocation(path, anchor.fleet, policy.crl ?? CRL_IF_THERE, at, crls)
  const revoked = listed === 'crl-expired' ? undefined : listed
  if (listed === 'crl-expired') flags.push(listed)
  const unfit = usageOf(leaf, [...issuing, path.anchorCertificate], policy)
  return {
    leafKey: leaf.key, leafKeyType: leaf.keyType, deviceKeyId: path.deviceKeyId, deviceId: path.deviceId, issuer: path.issuer,
    anchor, fleet: anchor.fleet, flags,
    ...(tcb && { tcb }), ...(ueid && { ueid }), ...(revoked && { revoked }), ...(unfit && { unfit }),
  }
}

/** From the anchor down, so that what an issuer lost is said before what it issued. */
function revocation({ leaf, issuing, anchorCertificate }: Path, fleet: string, policy: CrlPolicy, at: number, crls: CrlSet): Refusal | 'crl-expired' | undefined {
  let expired = false
  for (let i = issuing.length; i >= 0; i--) {
    const issuer = issuing[i] ?? anchorCertificate
    const crl = crls.find(fleet, issuer)
    if (crl === undefined || at < crl.thisUpdate) {
      if (policy.missing === 'refuse') return refuse('crl-missing', `chain: no revocation list of ${nameText(issuer.subjectNames)} is at hand`)
      continue
    }
    const since = revokedAt(crl, (i === 0 ? leaf : issuing[i - 1]!).serial)
    if (since !== undefined) return refuse('certificate-revoked', `chain: ${nth(i)} was revoked by ${crl.issuerText} at ${new Date(since).toISOString()}`)
    if (at < crl.nextUpdate + 1000) continue
    if (policy.expired === 'refuse') return refuse('crl-expired', `chain: the revocation list of ${crl.issuerText} was good until ${new Date(crl.nextUpdate).toISOString()}`)
    expired = true
  }
  return expired ? 'crl-expired' : undefined
}

/** Key usage of the leaf, and extended key usage, which an issuer that has one passes on as a limit. */
function usageOf(leaf: KeptLeaf, issuing: Certificate[], policy: ChainPolicy): Refusal | undefined {
  if (leaf.extensions.basicConstraints?.ca) return refuse('certificate-is-ca', 'chain: the leaf is a CA certificate')
  if (leaf.extensions.keyUsage?.keyCertSign) return refuse('certificate-is-ca', 'chain: the leaf may sign certificates')
  if (!leaf.extensions.keyUsage?.digitalSignature) return refuse('certificate-usage', 'chain: the leaf lacks keyUsage digitalSignature')
  const accepted = policy.eku
  if (accepted === 'any') return undefined
  if (!leaf.extensions.extendedKeyUsage?.some((purpose) => accepted.includes(purpose))) {
    return refuse('certificate-usage', `chain: the leaf has none of the extended key usages ${accepted.join(', ')}`)
  }
  const limited = issuing.find(({ extensions: { extendedKeyUsage } }) => (
    extendedKeyUsage && ![...accepted, ANY_EKU, DICE_ECA].some((purpose) => extendedKeyUsage.includes(purpose))
  ))
  return limited && refuse('certificate-usage', `chain: ${nameText(limited.subjectNames)} is limited to other extended key usages`)
}
const ANY_EKU = '2.5.29.37.0'

/** `below`: how many intermediates stand between this issuer and the leaf. */
function mayIssue({ extensions: { basicConstraints, keyUsage } }: Certificate, which: string, below: number): Refusal | undefined {
  if (!basicConstraints?.ca) return refuse('certificate-not-ca', `chain: ${which} is not a CA (basicConstraints)`)
  if (!keyUsage?.keyCertSign) return refuse('certificate-not-ca', `chain: ${which} lacks keyUsage keyCertSign`)
  if (basicConstraints.pathLength !== undefined && basicConstraints.pathLength < below) {
    return refuse('chain-path-length', `chain: ${which} allows ${basicConstraints.pathLength} intermediates below it, there are ${below}`)
  }
  return undefined
}

function namesIssuer({ issuer, extensions: { authorityKeyId } }: Certificate, by: Certificate, which: string): Refusal | undefined {
  if (issuer !== by.subject) return refuse('chain-order', `chain: ${which} names another issuer than the subject of the next certificate`)
  const { keyId, serial } = authorityKeyId ?? {}
  if (keyId && by.extensions.subjectKeyId && !same(keyId, by.extensions.subjectKeyId)) return refuse('chain-order', `chain: ${which} names another key identifier than its issuer has`)
  if (serial && !same(serial, by.serial)) return refuse('chain-order', `chain: ${which} names another serial number than its issuer has`)
  return undefined
}

function describe(leaf: Certificate, issuing: Certificate[], anchor: Anchor): Pick<Path, 'deviceKeyId' | 'deviceId' | 'issuer'> {
  const deviceKeyId = hash('sha256', leaf.spki, 'hex')
  return { deviceKeyId, deviceId: deviceIdOf(leaf, issuing, anchor, deviceKeyId), issuer: nameText(leaf.issuerNames) }
}

/**
 * The id under which people know a device. It outlives its keys:
 *   dice:<32 hex>   with DICE, the key of the DeviceID certificate, which is an intermediate here (the leaf is an alias key
 *                   that changes with each firmware): the one nearest to the anchor with the use ECA or identityInit
 *   <serial>        else the subject's serialNumber, else its CN, as the manufacturer wrote it
 *   key:<32 hex>    else the key itself
 * It is scoped by the fleet, whose anchors are its own, and by the anchor's `scope` (scope/serial) where the fleet named
 * one. '%', '/' and our own prefixes are percent-encoded in a serial, so that no certificate can borrow another's form.
 */
function deviceIdOf(leaf: Certificate, issuing: Certificate[], anchor: Anchor, deviceKeyId: string): string {
  const scope = anchor.scope === undefined ? '' : `${anchor.scope}/`
  const dice = issuing.findLast(({ extensions: { extendedKeyUsage } }) => extendedKeyUsage?.some((purpose) => purpose === DICE_ECA || purpose === DICE_IDENTITY_INIT))
  if (dice) return `${scope}dice:${hash('sha256', dice.spki, 'hex').slice(0, 32)}`
  const name = soleText(leaf.subjectNames, SERIAL_NUMBER) ?? soleText(leaf.subjectNames, COMMON_NAME)
  if (name === undefined) return `${scope}key:${deviceKeyId.slice(0, 32)}`
  return scope + name.replace(/[%/]/g, encodeURIComponent).replace(/^(dice|key|source):/, '$1%3A')
}

const nth = (i: number): string => (i === 0 ? 'the leaf' : `intermediate ${i}`)
const certificatesIn = ({ leaf, issuing }: Path): Uint8Array[] => [leaf.der, ...issuing.map(({ der }) => der)]
const isChain = (path: Path, chain: Uint8Array[]): boolean => chain.length === 1 + path.issuing.length && certificatesIn(path).every((der, i) => same(der, chain[i]!))

type TrustedAnchor = { anchor: Anchor; certificate: Certificate }
const trustId = ({ anchor, certificate }: TrustedAnchor): string => [certificate.sha256, anchor.fleet, anchor.scope].join(' ')
type Trust = { byId: ReadonlyMap<string, Anchor>; bySubject: ReadonlyMap<string, TrustedAnchor[]> }

/** An anchor that lintAnchor would refuse is none. */
function readTrust(anchors: readonly Anchor[], allowRsa: boolean): Trust {
  const byId = new Map<string, Anchor>()
  const bySubject = new Map<string, TrustedAnchor[]>()
  for (const anchor of anchors) {
    const certificate = readAnchor(anchor.der, allowRsa)
    if (isRefusal(certificate)) continue
    byId.set(trustId({ anchor, certificate }), anchor)
    bySubject.set(certificate.subject, [...(bySubject.get(certificate.subject) ?? []), { anchor, certificate }])
  }
  return { byId, bySubject }
}

/** A CA that may issue; if it names itself as its issuer, it has to be that. */
function readAnchor(der: Uint8Array, allowRsa: boolean): Certificate | Refusal {
  const certificate = parseCertificate(der, { allowRsa })
  if (isRefusal(certificate)) return refuse(certificate.slug, `anchor: ${certificate.detail}`)
  const refusal = mayIssue(certificate, 'the anchor', 0)
  if (refusal) return refusal
  if (certificate.issuer !== certificate.subject) return certificate
  if (!isSignedBy(certificate, certificate)) return refuse('certificate-signature', 'anchor: names itself as issuer and is not signed by its own key')
  return namesIssuer(certificate, certificate, 'the anchor') ?? certificate
}

export type LintedAnchor = { anchor: Pick<Anchor, 'der' | 'sha256'>; subject: string; keyType: KeyType; notBefore: number; notAfter: number }

/** Whether a certificate can be an anchor at all, before anybody trusts it: PEM text with one certificate, or DER. */
export function lintAnchor(source: string | Uint8Array, { allowRsa = false } = {}): LintedAnchor | Refusal {
  const der = typeof source === 'string' ? certificatesOf(source) : [source]
  const [only, ...more] = der
  if (only === undefined || more.length > 0) return refuse('certificate-malformed', `anchor: ${der.length} certificates in the file, one expected`)
  const certificate = readAnchor(only, allowRsa)
  if (isRefusal(certificate)) return certificate
  const { sha256, subjectNames, keyType, notBefore, notAfter } = certificate
  return { anchor: { der: only, sha256 }, subject: nameText(subjectNames), keyType, notBefore, notAfter }
}

/** The certificates of a PEM text, in order. */
export function certificatesOf(pem: string): Uint8Array[] {
  return [...pem.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g)].map((match) => Buffer.from(match[1]!, 'base64'))
}
