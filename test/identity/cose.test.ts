import { createPublicKey } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { decode } from 'cborg'
import { expect, test } from 'vitest'
import { decodeManifest, type Alg } from '../../ingest/manifest.ts'
import { verifySign1 } from '../../ingest/sign1.ts'
import { corpusJson, corpusPath, describeWithCorpus } from './corpus.ts'

type Sign0 = { key: { kty: string; crv: string; x?: string; x_hex?: string; y?: string }; alg: string; external?: string }
type Example = { title: string; input: { sign0?: Sign0 }; output: { cbor: string } }

const ALG_OF_CURVE: Readonly<Record<string, Alg>> = { 'P-256': 'ES256', 'P-384': 'ES384', Ed25519: 'EdDSA' }
const BYTES: Record<Alg, number> = { ES256: 64, ES384: 96, EdDSA: 64 }

describeWithCorpus('COSE WG examples', 'cose-wg', () => {
  const examples = ['sign1-tests', 'ecdsa-examples', 'eddsa-examples']
    .flatMap((folder) => readdirSync(corpusPath(`cose-wg/${folder}`)).map((file) => corpusJson<Example>(`cose-wg/${folder}/${file}`)))
    .flatMap(({ title, input, output }) => (input.sign0 && !input.sign0.external ? [{ title, isMarkedGood: !title.includes('fail'), sign0: input.sign0, item: Buffer.from(output.cbor, 'hex') }] : []))
    // This one signs over an empty header and sends it as h'a0', to be put right by the verifier. Ours always names the algorithm.
    .filter(({ title }) => !title.startsWith('sign-pass-01'))
    .filter(({ sign0 }) => ALG_OF_CURVE[sign0.key.crv] === sign0.alg)

  /** 18([protected, unprotected, payload, signature]), or the array without its tag, by cborg alone. */
  async function isGood({ sign0, item }: (typeof examples)[number]): Promise<boolean> {
    if (item[0] !== 0xd2 && item[0] !== 0x84) return false
    const [protectedBytes, , payload, signature] = decode(item[0] === 0xd2 ? item.subarray(1) : item, { useMaps: true }) as [Uint8Array, unknown, Uint8Array, Uint8Array]
    const { kty, crv, x, y, x_hex: xHex } = sign0.key
    const key = createPublicKey({ key: { kty, crv, x: xHex ? Buffer.from(xHex, 'hex').toString('base64url') : x, ...(y && { y }) } as never, format: 'jwk' })
    const alg = ALG_OF_CURVE[crv]!
    const header: unknown = protectedBytes.length > 0 ? decode(protectedBytes, { useMaps: true }) : new Map()
    const named = header instanceof Map ? header.get(1) as unknown : undefined
    const expected = { ES256: -7, ES384: -35, EdDSA: -8 }[alg]
    return (named === expected || named === undefined) && signature.length === BYTES[alg] && verifySign1({ alg, protectedBytes, payload, signature }, key)
  }

  test.each(examples)('$title', async (example) => {
    expect(await isGood(example)).toBe(example.isMarkedGood)
  })

  test('none of them is a crash report', () => {
    expect(examples.length).toBeGreaterThan(8)
    for (const { item } of examples) expect(decodeManifest(item)).toHaveProperty('slug')
  })
})
