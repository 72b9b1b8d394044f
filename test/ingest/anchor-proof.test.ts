import { execFileSync } from 'node:child_process'
import { createPublicKey, generateKeyPairSync, hash, sign, type KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PROOF_MS, anchorChallenge, anchorProof, opensslProof } from '../../ingest/anchor-proof.ts'
import { AT, basicConstraints, issueCertificate, keyUsage, type Name } from '../../ingest/device/issue.ts'

const NOW = Date.UTC(2026, 10, 22)
const DAY = 24 * 3600 * 1000
const SECRET = Buffer.alloc(32, 1)
const NAME: Name = [[AT.commonName, 'ca']]

function caOf(key: KeyObject): { der: Buffer; sha256: string; fleet: string } {
  const certificate = issueCertificate({
    subject: NAME, issuer: NAME, publicKey: createPublicKey(key), signingKey: key, notBefore: NOW - DAY, notAfter: NOW + DAY, extensions: [basicConstraints(true), keyUsage('keyCertSign')],
  })
  return { der: certificate, sha256: hash('sha256', certificate, 'hex'), fleet: 'meters' }
}
const { privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ca = caOf(key)
const challenge = anchorChallenge(ca, SECRET, NOW)

describe('a CA key proves that it is at hand', () => {
  const keys = {
    'P-256': key, 'P-384': generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey, Ed25519: generateKeyPairSync('ed25519').privateKey,
  } as const
  test.each(Object.entries(keys))('with openssl as we say it (%s)', (type, caKey) => {
    const dir = mkdtempSync(join(tmpdir(), 'overrun-proof-'))
    try {
      const claim = caOf(caKey)
      const text = anchorChallenge(claim, SECRET, NOW)
      writeFileSync(join(dir, 'ca.key.pem'), caKey.export({ type: 'pkcs8', format: 'pem' }))
      writeFileSync(join(dir, 'challenge.txt'), text)
      const signature = execFileSync('sh', ['-c', opensslProof(type as keyof typeof keys)], { cwd: dir }).toString()
      expect(anchorProof(claim, text, Buffer.from(signature, 'base64'), SECRET, NOW)).toBeUndefined()
    } finally {
      rmSync(dir, { recursive: true })
    }
  })

  const signature = sign('sha256', Buffer.from(challenge), key)
  test('until the challenge ends', () => {
    expect(anchorProof(ca, challenge, signature, SECRET, NOW + PROOF_MS)).toBeUndefined()
    expect(anchorProof(ca, challenge, signature, SECRET, NOW + PROOF_MS + 1)).toMatchObject({ slug: 'anchor-unproven' })
  })

  test.each<[string, () => unknown]>([
    ['another key', () => anchorProof(ca, challenge, sign('sha256', Buffer.from(challenge), generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey), SECRET, NOW)],
    ['another fleet', () => anchorProof({ ...ca, fleet: 'locks' }, challenge, signature, SECRET, NOW)],
    ['another certificate', () => anchorProof(caOf(key), challenge, signature, SECRET, NOW)],
    ['a challenge that somebody made', () => anchorProof(ca, anchorChallenge(ca, Buffer.alloc(32, 2), NOW), signature, SECRET, NOW)],
    ['a challenge that was prolonged', () => anchorProof(ca, challenge.replace(/until \d+/, 'until 9999999999'), signature, SECRET, NOW)],
    ['no challenge', () => anchorProof(ca, '', signature, SECRET, NOW)],
    ['no signature', () => anchorProof(ca, challenge, Buffer.alloc(0), SECRET, NOW)],
  ])('and not with %s', (_, proof) => {
    expect(proof()).toMatchObject({ slug: 'anchor-unproven' })
  })
})
