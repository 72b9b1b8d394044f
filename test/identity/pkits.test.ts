import { expect, test } from 'vitest'
import { createChainVerifier } from '../../ingest/chain.ts'
import { corpusFile, corpusJson, describeWithCorpus } from './corpus.ts'

type Run = {
  number: string; certs: string[]; should_validate: boolean
  initial_policy_set?: string; initial_explicit_policy?: boolean; initial_policy_mapping_inhibit?: boolean; initial_inhibit_any_policy?: boolean
}

/** Decided by a revocation list alone: revocation is the device registry's, not the path's. */
const BY_REVOCATION = /^4\.(4|14|15)\.|^4\.7\.[45]$/
/** Decided by what the verifier puts in as initial policy, which this profile has none of. */
const byPolicyInput = (run: Run): boolean => (
  run.initial_policy_set !== undefined || run.initial_explicit_policy === true || run.initial_policy_mapping_inhibit === true || run.initial_inhibit_any_policy === true
)

/** NIST PKITS, with RSA allowed for this suite alone. */
describeWithCorpus('NIST PKITS', 'nist-pkits', () => {
  const { check_date: date, tests: runs } = corpusJson<{ check_date: string; tests: Run[] }>('nist-pkits/tests.json')

  function slugOf({ certs: [anchor, ...path] }: Run): string {
    const read = (name: string): Uint8Array => corpusFile(`nist-pkits/certs/${name}.crt`)
    const result = createChainVerifier({ cacheSize: 1, allowRsa: true })
      .verify(path.map(read).reverse(), [{ der: read(anchor!), sha256: '', keyProtection: 'unknown', fleet: 'pkits' }], () => ({ expiredLeafMs: 0, eku: 'any' }), Date.parse(date))
    return 'slug' in result ? result.slug : 'accepted'
  }
  const judged = runs.filter((run) => !BY_REVOCATION.test(run.number) && !byPolicyInput(run))

  test('accepts no invalid path', () => {
    const invalid = judged.filter((run) => !run.should_validate)
    expect(invalid.filter((run) => slugOf(run) === 'accepted').map((run) => run.number)).toEqual([])
    expect(invalid.length).toBeGreaterThanOrEqual(78)
  })

  test('accepts the valid paths of the profile, and refuses others for what they use', () => {
    const valid = Map.groupBy(runs.filter((run) => run.should_validate), slugOf)
    expect(valid.get('accepted')!.length).toBeGreaterThanOrEqual(38)
    // DSA; name comparison beyond bytes; unique identifiers; more than two intermediates; CA leaves; policies and name constraints; self-issued;
    // certificates of CRL issuers and CAs without keyCertSign, whose paths need a second chain.
    expect([...valid.keys()].sort()).toEqual(['accepted', 'certificate-algorithm', 'certificate-extension', 'certificate-is-ca', 'certificate-malformed', 'certificate-not-ca', 'certificate-self-issued', 'chain-malformed', 'chain-order'])
  })
})
