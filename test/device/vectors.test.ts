import { execFileSync } from 'node:child_process'
import { createHash, createPrivateKey } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { DEFAULT_CHAIN_POLICY, certificatesOf, createChainVerifier, lintAnchor } from '../../ingest/chain.ts'
import { signHeartbeat, signReport } from '../../ingest/device/sign.ts'
import { decodeManifest, scanManifest, type Profile } from '../../ingest/manifest.ts'
import { createVerifier } from '../../ingest/verify.ts'

type Vector = {
  name: string; anchor: string; key: string; chain: string; dump: string; protected: string; body: string; expect: string
  claims: { bootcount: number; seq: number; swname?: string; swversion?: string; compartment?: string }
}
const { vectors, at, fleet } = JSON.parse(readFileSync(new URL('vectors/reports.json', import.meta.url), 'utf8')) as { vectors: Vector[]; at: string; fleet: string }
const good = vectors.filter((vector) => vector.expect === 'accepted')
const script = fileURLToPath(new URL('../../ingest/device/overrun-send.sh', import.meta.url))
const dir = mkdtempSync(join(tmpdir(), 'overrun-vectors-'))
afterAll(() => rmSync(dir, { recursive: true }))

/** The steps of the wire format on one whole body, with the promises of the parts under test and none of the server's. */
async function judge({ body: hex, anchor: pem }: Vector): Promise<string> {
  const body = Buffer.from(hex, 'hex')
  const scan = scanManifest(body)
  if ('slug' in scan) return scan.slug
  if (scan.kind === 'incomplete') return 'manifest-truncated'
  const manifest = decodeManifest(body.subarray(0, scan.end))
  if ('slug' in manifest) return manifest.slug
  const linted = lintAnchor(pem)
  if ('slug' in linted) return linted.slug
  const anchors = [{ ...linted.anchor, fleet, keyProtection: 'software' as const }]
  const verifier = createVerifier({
    registry: { anchors: () => anchors, policy: () => DEFAULT_CHAIN_POLICY, deviceStatus: () => 'active' }, chains: createChainVerifier({ cacheSize: 1 }),
  })
  const verified = await verifier.verify(manifest, Date.parse(at))
  if ('slug' in verified) return verified.slug
  const { size } = manifest.claims
  const dump = body.subarray(scan.end + (size < 24 ? 1 : 2))
  if (dump.length !== size) return dump.length < size ? 'body-truncated' : 'trailing-bytes'
  return createHash('sha256').update(dump).digest().equals(manifest.digest) ? 'accepted' : 'digest-mismatch'
}

test.each(vectors)('$name is $expect', async (vector) => {
  expect(await judge(vector)).toBe(vector.expect)
})

const protectedOf = (body: Uint8Array, profile?: Profile): string => {
  const manifest = decodeManifest(body, profile)
  if ('slug' in manifest) throw new Error(manifest.detail)
  return Buffer.from(manifest.protectedBytes).toString('hex')
}
const manifestOf = (body: Uint8Array): Uint8Array => {
  const scan = scanManifest(body)
  return body.subarray(0, 'end' in scan ? scan.end : 0)
}

describe('the signer in TypeScript', () => {
  test.each(good)('writes the protected bytes of $name, and a signature that is accepted', async (vector) => {
    const { manifest, body } = signReport({
      dump: Buffer.from(vector.dump, 'hex'), contentType: 'application/x-minidump', claims: vector.claims, key: createPrivateKey(vector.key), chain: certificatesOf(vector.chain),
    })
    expect(protectedOf(manifest)).toBe(vector.protected)
    expect(await judge({ ...vector, body: Buffer.from(body).toString('hex') })).toBe('accepted')
  })
})

describe('the signer in shell', () => {
  test.each(good)('writes the protected bytes of $name, and a signature that is accepted', async (vector) => {
    const file = (name: string, content: string | Buffer): string => {
      const path = join(dir, `${vector.name}-${name}`)
      writeFileSync(path, content)
      return path
    }
    const { bootcount, seq, swname, swversion, compartment } = vector.claims
    const out = join(dir, `${vector.name}-body`)
    execFileSync('sh', [
      script, '-k', file('key.pem', vector.key), '-c', file('chain.pem', vector.chain), '-o', out, '-b', String(bootcount), '-s', String(seq),
      ...(swname ? ['-n', swname] : []), ...(swversion ? ['-v', swversion] : []), ...(compartment ? ['-p', compartment] : []), file('dump', Buffer.from(vector.dump, 'hex')),
    ], { stdio: 'pipe' })
    const body = readFileSync(out)
    expect(protectedOf(manifestOf(body))).toBe(vector.protected)
    expect(await judge({ ...vector, body: body.toString('hex') })).toBe('accepted')
  })
})

type Statement = Vector & { to: 'offer' | 'heartbeat'; claims: { fingerprint?: string } }
const statements = (JSON.parse(readFileSync(new URL('vectors/statements.json', import.meta.url), 'utf8')) as { vectors: Statement[] }).vectors.filter(({ expect: expected }) => expected === 'accepted')
const profileOf = ({ to }: Statement): Profile => (to === 'offer' ? 'crash-report' : 'heartbeat')

describe('manifests without a dump', () => {
  test.each(statements)('the signer in TypeScript writes the protected bytes of $name', (vector) => {
    const by = { claims: vector.claims, key: createPrivateKey(vector.key), chain: certificatesOf(vector.chain) }
    const manifest = vector.to === 'offer' ? signReport({ ...by, dump: Buffer.from(vector.dump, 'hex'), contentType: 'application/x-minidump' }).manifest : signHeartbeat(by)
    expect(protectedOf(manifest, profileOf(vector))).toBe(vector.protected)
  })

  test.each(statements)('the signer in shell writes the protected bytes of $name', (vector) => {
    const file = (name: string, content: string | Buffer): string => {
      const path = join(dir, `${vector.name}-${name}`)
      writeFileSync(path, content)
      return path
    }
    const { bootcount, seq, swversion, fingerprint } = vector.claims
    const out = join(dir, `${vector.name}-out`)
    execFileSync('sh', [
      script, '-k', file('key.pem', vector.key), '-c', file('chain.pem', vector.chain), '-o', out, '-b', String(bootcount), '-s', String(seq), ...(swversion ? ['-v', swversion] : []),
      ...(vector.to === 'heartbeat' ? ['-H'] : ['-f', fingerprint!, file('dump', Buffer.from(vector.dump, 'hex'))]),
    ], { stdio: 'pipe' })
    expect(protectedOf(manifestOf(readFileSync(out)), profileOf(vector))).toBe(vector.protected)
  })
})
