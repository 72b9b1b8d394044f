import { generateKeyPairSync, hash, sign, verify } from 'node:crypto'
import { DEFAULT_CHAIN_POLICY, createChainVerifier, type Anchor } from '../../ingest/chain.ts'
import { createFleet } from '../../ingest/device/fleet.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { decodeManifest } from '../../ingest/manifest.ts'
import { createVerifier, type Verifier } from '../../ingest/verify.ts'
import type { Figure } from './bench.ts'

/**
 * From the bytes of a manifest to a verified device: deterministic CBOR, claims, chain, algorithm, signature. P-256
 * throughout, a leaf under an intermediate under the anchor. `verify-cached` has seen every chain before; in `verify-cold`
 * each manifest comes from a device never seen. Signing happens outside the timed windows. The rate is that of one core:
 * manifests by processor time of the process, in which the threads that check signatures are counted too. Beside it stands
 * a calibration, the bare ES256 verifications of one core.
 */
export const name = 'verify'
export const describe = 'full verification of distinct manifests, per second of one core, median of 5'

const ROUNDS = 5
const MANIFESTS = 3_000
const DEVICES = 64
const IN_FLIGHT = 32
const TARGET = { cached: 3_000, cold: 1_200 }

export async function run(print: (figure: Figure) => void): Promise<void> {
  const now = Date.now()
  const fleet = createFleet({ devices: MANIFESTS, name: 'bench', now })
  const anchors: Anchor[] = [{ der: fleet.ca.certificate, sha256: hash('sha256', fleet.ca.certificate, 'hex'), keyProtection: 'unknown', fleet: 'bench' }]
  const fresh = (): Verifier => createVerifier({
    registry: { anchors: () => anchors, policy: () => DEFAULT_CHAIN_POLICY, deviceStatus: () => 'active' }, chains: createChainVerifier({ cacheSize: MANIFESTS }),
  })
  const signed = (devices: number): Uint8Array[] => Array.from({ length: MANIFESTS }, (_, i) => {
    const { key, chain } = fleet.devices[i % devices]!
    return signReport({ dump: Buffer.of(i >> 8, i & 255), contentType: 'application/x-minidump', claims: { bootcount: 1, seq: i, swversion: '1.2.3', process: 'sensord' }, key, chain }).manifest
  })

  const [known, strangers] = [signed(DEVICES), signed(MANIFESTS)]
  const warm = fresh()
  await rateOf(warm, known, now)
  const cached: number[] = []
  const cold: number[] = []
  const calibrations: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    calibrations.push(es256PerSecond())
    cached.push(await rateOf(warm, known, now))
    cold.push(await rateOf(fresh(), strangers, now))
  }
  print({ name: 'verify-cached', value: median(cached), unit: '/s a core', baseline: TARGET.cached, ratio: median(cached) / TARGET.cached })
  print({ name: 'verify-cold', value: median(cold), unit: '/s a core', baseline: TARGET.cold, ratio: median(cold) / TARGET.cold })
  const calibration = median(calibrations)
  print({ name: 'ES256 verifications of one core', value: calibration, unit: '/s' })
  print({ name: 'verify-cached against them', value: median(cached), unit: '/s a core', baseline: calibration, ratio: median(cached) / calibration })
  print({ name: 'verify-cold against them', value: median(cold), unit: '/s a core', baseline: calibration, ratio: median(cold) / calibration })
}

async function rateOf(verifier: Verifier, manifests: Uint8Array[], now: number): Promise<number> {
  const before = process.cpuUsage()
  let next = 0
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
    for (let item = manifests[next++]; item; item = manifests[next++]) {
      const manifest = decodeManifest(item)
      if ('slug' in manifest) throw new Error(manifest.detail)
      const verified = await verifier.verify(manifest, now)
      if ('slug' in verified) throw new Error(verified.detail)
    }
  }))
  const { user, system } = process.cpuUsage(before)
  return (manifests.length * 1e6) / (user + system)
}

function es256PerSecond(): number {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const message = Buffer.alloc(1200, 7)
  const signature = sign('sha256', message, privateKey)
  const before = process.cpuUsage()
  for (let i = 0; i < MANIFESTS; i++) verify('sha256', message, publicKey, signature)
  const { user, system } = process.cpuUsage(before)
  return (MANIFESTS * 1e6) / (user + system)
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
