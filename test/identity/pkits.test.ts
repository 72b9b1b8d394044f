import { expect, test } from 'vitest'
import { judgePath } from '../../ingest/device/cert-check.ts'
import { corpusFile, corpusJson, describeWithCorpus } from './corpus.ts'

type Run = {
  number: string; certs: string[]; crls: string[]; should_validate: boolean
  initial_policy_set?: string; initial_explicit_policy?: boolean; initial_policy_mapping_inhibit?: boolean; initial_inhibit_any_policy?: boolean
}

/** Whether the verifier is to put in an initial policy, of which this profile has none. */
const byPolicyInput = (run: Run): boolean => (
  run.initial_policy_set !== undefined || run.initial_explicit_policy === true || run.initial_policy_mapping_inhibit === true || run.initial_inhibit_any_policy === true
)

/**
 * Bad runs that are left out, since what the verifier puts in decides them: the same paths are good, or not judged, without.
 * Good runs with such inputs stay in: inputs only narrow (RFC 5280 6.1.1), so that what is good with them is good without.
 */
const DECIDED_BY_INPUT = ['4.8.1', '4.8.2', '4.8.3', '4.8.3', '4.8.6', '4.8.14', '4.10.1.2', '4.10.1.3', '4.10.2', '4.10.3', '4.10.5', '4.10.6', '4.10.13', '4.12.3']
/** Good whatever is put in, and accepted. */
const GOOD_WITH_INPUT = ['4.8.1', '4.8.1', '4.8.1', '4.8.20']

/** Bad only by a revocation list, so that the path alone is right: lists, and the CAs that sign them. */
const BY_REVOCATION = /^4\.(4|14|15)\.|^4\.5\.[57]$|^4\.7\.[45]$/

/** Good runs that the profile leaves out, by what they use. */
const LEFT_OUT = {
  'certificate-algorithm': ['DSA', 2],
  'certificate-extension': ['policy mappings, policy constraints, inhibitAnyPolicy, name constraints', 38],
  'certificate-malformed': ['an empty subject', 1],
  'certificate-self-issued': ['self-issued intermediates', 5],
  'chain-malformed': ['more than two intermediates', 13],
} as const
/** And those whose revocation lists it leaves out. */
const LISTS_LEFT_OUT = {
  'crl-missing': ['lists for some certificates, indirect ones, and those signed by another key than the certificate', 17],
  'crl-unsupported': ['deltas', 3],
  'certificate-revoked': ['a delta that would take a certificate off hold', 1],
} as const

/** NIST PKITS as `overrun cert check --any-order --allow-rsa` judges it: a run's certificates hold those of CRL issuers too. */
describeWithCorpus('NIST PKITS', 'nist-pkits', () => {
  const { check_date: date, tests: runs } = corpusJson<{ check_date: string; tests: Run[] }>('nist-pkits/tests.json')
  const [valid, invalid] = [runs.filter((run) => run.should_validate), runs.filter((run) => !run.should_validate)]

  function slugOf({ certs: [anchor, ...path], crls }: Run, withLists: boolean): string {
    const certificate = (name: string): Uint8Array => corpusFile(`nist-pkits/certs/${name}.crt`)
    const lists = withLists ? crls.map((name) => corpusFile(`nist-pkits/crls/${name}.crl`)) : []
    const { result } = judgePath({ chain: path.map(certificate).reverse(), anchors: [certificate(anchor!)], crls: lists, at: Date.parse(date) }, { anyOrder: true, allowRsa: true })
    return 'slug' in result ? result.slug : 'accepted'
  }

  const judged = invalid.filter((run) => !byPolicyInput(run))

  test('leaves out by name what an initial policy decides, and nothing else', () => {
    expect(invalid.filter(byPolicyInput).map((run) => run.number).toSorted()).toEqual(DECIDED_BY_INPUT.toSorted())
    expect(valid.filter((run) => byPolicyInput(run) && slugOf(run, false) === 'accepted').map((run) => run.number)).toEqual(GOOD_WITH_INPUT)
  })

  test('accepts no invalid path without lists, but for what only a list could tell', () => {
    const byPath = judged.filter((run) => !BY_REVOCATION.test(run.number))
    expect(byPath.length).toBeGreaterThanOrEqual(70)
    expect(byPath.filter((run) => slugOf(run, false) === 'accepted').map((run) => run.number)).toEqual([])
  })

  test('accepts no invalid path at all when each issuer needs a list', () => {
    expect(judged.length).toBeGreaterThanOrEqual(118)
    expect(judged.filter((run) => slugOf(run, true) === 'accepted').map((run) => run.number)).toEqual([])
  })

  test('accepts, without lists, every valid path of the profile, and refuses the others for what they use', () => {
    const counts = countsOf(valid.map((run) => slugOf(run, false)))
    expect(counts).toEqual({ accepted: 55, ...runsIn(LEFT_OUT) })
  })

  test('accepts those with full lists of their own issuers too when each issuer needs one', () => {
    const counts = countsOf(valid.map((run) => slugOf(run, true)))
    expect(counts).toEqual({ accepted: 34, ...runsIn(LEFT_OUT), ...runsIn(LISTS_LEFT_OUT) })
  })
})

function countsOf(slugs: string[]): Record<string, number> {
  return Object.fromEntries([...Map.groupBy(slugs, (slug) => slug)].map(([slug, { length }]) => [slug, length]))
}
const runsIn = (table: Record<string, readonly [why: string, runs: number]>): Record<string, number> => Object.fromEntries(Object.entries(table).map(([slug, [, runs]]) => [slug, runs]))
