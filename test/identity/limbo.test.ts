import { expect, test } from 'vitest'
import { CRL_IF_THERE, CRL_REQUIRED, certificatesOf, createChainVerifier, type ChainPolicy } from '../../ingest/chain.ts'
import { crlSetOf, crlsOf, parseCrl } from '../../ingest/crl.ts'
import { isRefusal } from '../../ingest/outcome.ts'
import { corpusJson, describeWithCorpus } from './corpus.ts'

type Case = {
  id: string; features: string[]; validation_kind: 'SERVER' | 'CLIENT'; trusted_certs: string[]; untrusted_intermediates: string[]; peer_certificate: string
  validation_time: string | null; extended_key_usage: string[]; expected_result: 'SUCCESS' | 'FAILURE'; max_chain_depth: number | null; crls: string[]
}

/** Failures that are not about the path, with the reason why each cannot be one here. */
const NOT_THE_PATH: Readonly<Record<string, string>> = {
  'pathlen::max-chain-depth-0-exhausted': 'the depth is an input of the case; here it is fixed',
  'rfc5280::ski::root-missing-ski': 'the identifier is there to help search; an anchor is configured, and nothing is searched',
  'webpki::aki::root-with-aki-authoritycertissuer': 'a rule of the public web for roots; an anchor here is configured by its fleet',
  'webpki::aki::root-with-aki-authoritycertserialnumber': 'as above',
  'webpki::cn::punycode-not-in-san': 'no host name is looked for: a device is named by its subject',
  'webpki::cn::not-in-san': 'as above',
  'webpki::cn::case-mismatch': 'as above',
  'webpki::san::mismatch-subdomain-apex-san': 'decided by a peer name',
  'webpki::san::public-suffix-multi-label-wildcard-san': 'decided by a peer name',
  'webpki::san::wildcard-match-across-labels-san': 'decided by a peer name',
  'webpki::san::unicode-emoji-san': 'decided by a peer name',
  'webpki::san::san-critical-with-nonempty-subject': 'a rule of the public web; the name is not used here',
  'webpki::san::san-wildcard-only-tld': 'decided by a peer name',
}

/** Good chains that the profile does not take. */
const OUTSIDE_PROFILE = /^rfc5280::nc::|self-issued|^online::|cryptographydotio/

describeWithCorpus('x509-limbo', 'x509-limbo.json', () => {
  const { testcases } = corpusJson<{ testcases: Case[] }>('x509-limbo.json')
  const judged = testcases.map((given) => {
    const started = performance.now()
    const accepted = accepts(given)
    return { id: given.id, good: given.expected_result === 'SUCCESS', accepted, ms: performance.now() - started }
  })

  /** The suite gives intermediates as a heap: every order of up to two is tried, and one success counts. */
  function accepts(given: Case): boolean {
    const anchors = given.trusted_certs.flatMap(certificatesOf).map((der) => ({ der, sha256: '', keyProtection: 'unknown' as const, fleet: 'limbo' }))
    const leaf = certificatesOf(given.peer_certificate)
    const heap = given.untrusted_intermediates.flatMap(certificatesOf).slice(0, 20)
    const chains = [leaf, ...heap.flatMap((one) => [[...leaf, one], ...heap.filter((other) => other !== one).map((other) => [...leaf, one, other])])]
    const lists = given.crls.flatMap(crlsOf).map((der) => parseCrl(der)).flatMap((crl) => (isRefusal(crl) ? [] : [{ fleet: 'limbo', crl }]))
    const policy: ChainPolicy = {
      expiredLeafMs: 0, eku: [given.extended_key_usage.length > 0 || given.validation_kind === 'CLIENT' ? '1.3.6.1.5.5.7.3.2' : '1.3.6.1.5.5.7.3.1'],
      crl: given.crls.length > 0 ? CRL_REQUIRED : CRL_IF_THERE,
    }
    const at = given.validation_time === null ? Date.UTC(2026, 0) : Date.parse(given.validation_time)
    const verifier = createChainVerifier({ cacheSize: 1 })
    return chains.some((chain) => {
      const result = verifier.verify(chain, anchors, () => policy, at, crlSetOf(lists))
      return !('slug' in result) && (result.revoked ?? result.unfit) === undefined
    })
  }

  test('accepts no chain that must fail, but for those that fail by something else than the path', () => {
    const accepted = judged.filter(({ good, accepted }) => accepted && !good).map(({ id }) => id)
    expect(accepted.filter((id) => !(id in NOT_THE_PATH))).toEqual([])
  })

  test('accepts every good chain of the profile', () => {
    const [good, refused] = [judged.filter(({ good }) => good), judged.filter(({ good, accepted }) => good && !accepted).map(({ id }) => id)]
    expect(refused.filter((id) => !OUTSIDE_PROFILE.test(id))).toEqual([])
    const slowest = judged.toSorted((a, b) => b.ms - a.ms)[0]!
    console.log(`x509-limbo: ${good.length - refused.length} of ${good.length} good chains accepted; slowest case ${slowest.ms.toFixed(1)} ms (${slowest.id})`)
  })
})
