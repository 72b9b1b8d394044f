import { createPrivateKey } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { createFleet } from '../../ingest/device/fleet-init.ts'
import { signHeartbeat, signReport } from '../../ingest/device/sign.ts'

/**
 * Wrote vectors/reports.json and vectors/statements.json, once each (`make-vectors.ts statements` writes the second): run it
 * again only when the wire format changes, and read the diff. Clients are held to `protected` byte for byte; servers to
 * `expect`, given `body`, `anchor` and the time `at`.
 */
const at = Date.UTC(2026, 10, 22, 12)
const fleet = createFleet({ devices: 2, name: 'vectors', now: at })
const ed = createFleet({ devices: 1, name: 'vectors', keyType: 'ed25519', now: at })
const [device, edDevice] = [fleet.devices[0]!, ed.devices[0]!]
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const dump = Buffer.from('MDMP\x93\xa7 a dump is bytes to the signer', 'latin1')

function report(name: string, by: typeof device, anchor: string, claims: { bootcount: number; seq: number; swname?: string; swversion?: string; compartment?: string; fingerprint?: string }) {
  const { body, manifest } = signReport({ dump, contentType: 'application/x-minidump', claims, key: createPrivateKey(by.keyPem), chain: by.chain })
  const protectedLength = manifest.length - 2 - 3 - 1 - 34 - 66
  return { name, anchor, key: by.keyPem, chain: by.chainPem, dump: hex(dump), claims, protected: hex(manifest.subarray(5, 5 + protectedLength)), body: hex(body), expect: 'accepted' }
}
const good = report('good-es256', device, fleet.ca.pem, { bootcount: 41, seq: 0, swname: 'thermostat', swversion: '4.2.1', compartment: 'httpd' })
const plain = report('good-plain', device, fleet.ca.pem, { bootcount: 41, seq: 1 })
// Its own device: so large a boot count puts all others of the same key out of the replay window.
const large = report('good-large-counters', fleet.devices[1]!, fleet.ca.pem, { bootcount: 4_294_967_296, seq: 65_536 })
const eddsa = report('good-ed25519', edDevice, ed.ca.pem, { bootcount: 3, seq: 300, compartment: 'supervisor' })

type Vector = typeof good
const changed = (from: Vector, name: string, expect: string, change: (body: Buffer) => Buffer): Vector => ({ ...from, name, expect, body: hex(change(Buffer.from(from.body, 'hex'))) })
const bad: Vector[] = [
  changed(good, 'bad-signature', 'signature-bad', (body) => { body[body.length - dump.length - 3]! ^= 1; return body }),
  changed(good, 'bad-dump', 'digest-mismatch', (body) => { body[body.length - 1]! ^= 1; return body }),
  changed(good, 'truncated-manifest', 'manifest-truncated', (body) => body.subarray(0, 400)),
  changed(good, 'truncated-dump', 'body-truncated', (body) => body.subarray(0, body.length - 5)),
  changed(good, 'trailing-bytes', 'trailing-bytes', (body) => Buffer.concat([body, Buffer.of(0)])),
  changed(good, 'oversize-manifest', 'manifest-too-large', (body) => Buffer.concat([body.subarray(0, 2), Buffer.from([0x59, 0x20, 0x01]), Buffer.alloc(8193), body.subarray(-200)])),
  changed(good, 'wrong-profile', 'profile-unknown', (body) => Buffer.from(body.toString('latin1').replace('crash-report/1', 'crash-report/2'), 'latin1')),
  changed(good, 'not-shortest', 'cbor-not-shortest', (body) => Buffer.concat([body.subarray(0, 2), Buffer.from([0x5a, 0, 0]), body.subarray(3)])),
]
function writeReports(): void {
  write('reports.json', {
    about: 'Signed crash reports. protected: bytes that every client must write. body: what is posted as application/cbor-seq. expect: accepted, or the slug of the refusal. A body sent twice is answered "duplicate" with the same id.',
    vectors: [good, plain, large, eddsa, ...bad],
  })
}

/** Manifests without a dump: what is offered first, and heartbeats. */
function writeStatements(): void {
  const manifestOf = (vector: Vector) => vector.body.slice(0, -2 * (dump.length + 2))
  const statement = (to: 'offer' | 'heartbeat', name: string, expect: string, from: Vector, body: string) => ({ ...from, name, to, expect, body })
  const offered = report('offer-es256', device, fleet.ca.pem, { bootcount: 51, seq: 0, swversion: '4.2.1', fingerprint: '00ff10a7c3' })
  const offer = statement('offer', 'offer-es256', 'accepted', offered, manifestOf(offered))
  const alive = (name: string, by: typeof device, anchor: string, claims: { bootcount: number; seq: number; swversion?: string }) => {
    const manifest = signHeartbeat({ claims, key: createPrivateKey(by.keyPem), chain: by.chain })
    const signature = Buffer.from(manifest.subarray(-64))
    return statement('heartbeat', name, 'accepted', { ...offered, anchor, key: by.keyPem, chain: by.chainPem, dump: '', claims, protected: hex(manifest.subarray(5, manifest.length - signature.length - 2 - 34 - 1)) }, hex(manifest))
  }
  const heartbeat = alive('heartbeat-es256', device, fleet.ca.pem, { bootcount: 52, seq: 0, swversion: '4.2.1' })
  const heartbeatEd = alive('heartbeat-ed25519', edDevice, ed.ca.pem, { bootcount: 4, seq: 0 })
  const flipped = (body: string) => body.slice(0, -2) + hex(Buffer.of(Buffer.from(body.slice(-2), 'hex')[0]! ^ 1))
  write('statements.json', {
    about: 'Signed manifests without a dump, posted as application/cose. to: offer is /v1/crashes/offer, heartbeat is /v1/heartbeats. expect: accepted, or the slug of the refusal.',
    vectors: [
      offer, heartbeat, heartbeatEd,
      statement('offer', 'offer-without-fingerprint', 'claim-missing', good, manifestOf(good)),
      statement('offer', 'offer-bad-signature', 'signature-bad', offered, flipped(offer.body)),
      statement('offer', 'offer-truncated', 'manifest-truncated', offered, offer.body.slice(0, 600)),
      statement('offer', 'offer-trailing-bytes', 'manifest-shape', offered, `${offer.body}00`),
      statement('offer', 'offer-of-a-heartbeat', 'heartbeat-unexpected', heartbeat, heartbeat.body),
      statement('heartbeat', 'heartbeat-of-a-crash', 'profile-unknown', offered, offer.body),
      statement('heartbeat', 'heartbeat-bad-signature', 'signature-bad', heartbeat, flipped(heartbeat.body)),
    ],
  })
}

function write(file: string, { about, vectors }: { about: string; vectors: object[] }): void {
  writeFileSync(new URL(`vectors/${file}`, import.meta.url), `${JSON.stringify({ about, fleet: 'vectors', at: new Date(at).toISOString(), vectors }, null, 1)}\n`)
}

if (process.argv[2] === 'statements') writeStatements()
else writeReports()
