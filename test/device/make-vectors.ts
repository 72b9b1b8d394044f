import { createPrivateKey } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { createFleet } from '../../ingest/device/fleet-init.ts'
import { signReport } from '../../ingest/device/sign.ts'

/**
 * Wrote vectors/reports.json, once: run it again only when the wire format changes, and read the diff. Clients are held to
 * `protected` byte for byte; servers to `expect`, given `body`, `anchor` and the time `at`.
 */
const at = Date.UTC(2026, 10, 22, 12)
const fleet = createFleet({ devices: 2, name: 'vectors', now: at })
const ed = createFleet({ devices: 1, name: 'vectors', keyType: 'ed25519', now: at })
const [device, edDevice] = [fleet.devices[0]!, ed.devices[0]!]
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const dump = Buffer.from('MDMP\x93\xa7 a dump is bytes to the signer', 'latin1')

function report(name: string, by: typeof device, anchor: string, claims: { bootcount: number; seq: number; swname?: string; swversion?: string; compartment?: string }) {
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
writeFileSync(new URL('vectors/reports.json', import.meta.url), `${JSON.stringify({
  about: 'Signed crash reports. protected: bytes that every client must write. body: what is posted as application/cbor-seq. expect: accepted, or the slug of the refusal. A body sent twice is answered "duplicate" with the same id.',
  fleet: 'vectors', at: new Date(at).toISOString(), vectors: [good, plain, large, eddsa, ...bad],
}, null, 1)}\n`)
