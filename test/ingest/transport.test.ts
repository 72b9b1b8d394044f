import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { createServer, request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createFleet, type FleetDevice } from '../../ingest/device/fleet.ts'
import type { RegistrySnapshot } from '../../ingest/registry.ts'
import { keepFresh, tlsOptions } from '../../ingest/tls.ts'
import { until } from '../infra/clickhouse-fixture.ts'
import { createLogger } from '../../infra/service/logger.ts'
import { bodyOf, device, FLEET, fleet, openDoor, serialOf, snapshotOf, stranger, type Door } from './door.ts'

/** Reports whose sender the connection proves: by TLS, by a proxy that ended the TLS, by a gateway's token. */
const TOKEN = randomBytes(32).toString('base64url')
const PROXY = '127.0.0.77'
const folder = mkdtempSync(join(tmpdir(), 'transport-'))
const server = createFleet({ devices: 1, name: 'server', now: Date.now() }).devices[0]!
const tls = { certificate: join(folder, 'server.pem'), key: join(folder, 'server.key.pem') }
writeFileSync(tls.certificate, server.certificatePem)
writeFileSync(tls.key, server.keyPem)

const snapshot = snapshotOf() as RegistrySnapshot
const ours = snapshot.fleets[FLEET]!
ours.settings = { ...ours.settings, gateways: { hub: createHash('sha256').update(TOKEN).digest('hex') } }
let plain: Door
let secure: Door
beforeAll(async () => {
  plain = await openDoor({ load: () => snapshot, settings: { proxies: [PROXY, '127.9.0.0/16'] } })
  secure = await openDoor({ load: () => snapshot, settings: { tls, proxies: [PROXY] } })
})
afterAll(async () => {
  await Promise.all([plain.close(), secure.close()])
  rmSync(folder, { recursive: true })
})

interface Asked { to?: Door; path?: string; body?: Uint8Array; headers?: Record<string, string>; from?: string; by?: FleetDevice; chain?: string; maxVersion?: 'TLSv1.2' | 'TLSv1.3' }
interface Answered { status: number; text: string; json: Record<string, string> }

function ask({ to = plain, path = '/v1/crashes', body = randomBytes(100), headers = {}, from = '127.0.0.1', by, chain = by?.chainPem, maxVersion = 'TLSv1.3' }: Asked): Promise<Answered> {
  const isSecure = to === secure
  const options = {
    host: '127.0.0.1', port: to.port, path, method: 'POST', localAddress: from, agent: false,
    headers: { 'content-type': 'application/x-minidump', 'content-length': String(body.length), ...headers },
    ...(isSecure && { rejectUnauthorized: false, maxVersion, ...(by && { cert: chain!, key: by.keyPem }) }),
  }
  return new Promise((resolve, reject) => {
    const request = (isSecure ? httpsRequest : httpRequest)(options, (response: IncomingMessage) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        resolve({ status: response.statusCode!, text, json: text.startsWith('{') ? JSON.parse(text) as Record<string, string> : {} })
      })
    })
    request.on('error', reject)
    request.end(body)
  })
}
const newest = async (door: Door) => (await door.accepted()).at(-1)!
const bytesOf = (der: Uint8Array) => `:${Buffer.from(der).toString('base64')}:`
const certHeaders = (by: FleetDevice = device()) => ({ 'client-cert': bytesOf(by.chain[0]!), 'client-cert-chain': by.chain.slice(1).map(bytesOf).join(', ') })

describe('a certificate in the TLS handshake', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('says who sends a bare dump, over %s', async (maxVersion) => {
    const body = randomBytes(100)
    const { status, json } = await ask({ to: secure, by: device(), body, maxVersion, path: '/v1/crashes?swversion=4.2&bootcount=7&compartment=httpd&peer=forged' })
    expect([status, json.auth_level]).toEqual([202, 'transport-authenticated'])
    expect(await newest(secure)).toMatchObject({
      id: json.id, authLevel: 'transport-authenticated', standing: 'counted', deviceId: serialOf(), deviceKeyId: expect.stringMatching(/^[0-9a-f]{64}$/), issuer: expect.stringContaining('device CA'),
      anchor: expect.stringMatching(/^[0-9a-f]{64}$/), keyProtection: 'hardware', contentType: 'application/x-minidump', size: 100, digest: createHash('sha256').update(body).digest('hex'),
      claims: { swversion: '4.2', bootcount: 7, compartment: 'httpd' },
    })
    expect((await newest(secure)).manifest).toBeUndefined()
  })

  test('makes equal dumps of two devices two crashes, and a repeated one the same', async () => {
    const body = randomBytes(50)
    const ids = [await ask({ to: secure, by: device(), body }), await ask({ to: secure, by: device(1), body }), await ask({ to: secure, by: device(), body })].map(({ json }) => json.id)
    expect(ids[0]).toBe(ids[2])
    expect(ids[0]).not.toBe(ids[1])
  })

  test('may come with its anchor, and needs its intermediate', async () => {
    expect((await ask({ to: secure, by: device(), chain: device().chainPem + fleet.ca.pem })).status).toBe(202)
    expect((await ask({ to: secure, by: device(), chain: device().certificatePem })).status).toBe(401)
  })

  test('of a stranger, and none, are refused with the same bytes', async () => {
    const answers = [await ask({ to: secure, by: stranger }), await ask({ to: secure }), await ask({ to: secure, headers: { authorization: `Bearer ${'x'.repeat(43)}` } })]
    expect(answers.map(({ status }) => status)).toEqual([401, 401, 401])
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1)
    for (const slug of ['anchor-unknown', 'not-authenticated', 'gateway-unknown']) expect(await secure.rejected(slug), slug).toBeGreaterThan(0)
  })

  test('is asked about on every request: a device that was revoked since is told 403', async () => {
    ours.devices = { [serialOf(2)]: { status: 'revoked' } }
    await secure.registry.refresh()
    expect(await ask({ to: secure, by: device(2) })).toMatchObject({ status: 403, json: { type: expect.stringContaining('device-revoked') } })
    ours.devices = {}
    await secure.registry.refresh()
    expect((await ask({ to: secure, by: device(2) })).status).toBe(202)
  })

  test('is not resumed: a second connection with the session of the first shows its chain again', async () => {
    const open = (session?: Buffer) => new Promise<{ session: Buffer | undefined; reused: boolean }>((resolve, reject) => {
      let [kept, reused]: [Buffer | undefined, boolean] = [undefined, false]
      const socket = connect({ host: '127.0.0.1', port: secure.port, rejectUnauthorized: false, cert: device().chainPem, key: device().keyPem, ...(session && { session }) })
      socket.on('session', (ticket) => { kept = ticket })
      socket.on('error', reject)
      socket.on('data', () => socket.end())
      socket.on('close', () => resolve({ session: kept, reused }))
      socket.on('secureConnect', () => {
        reused = socket.isSessionReused()
        socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
      })
    })
    const { session } = await open()
    expect(await open(session)).toMatchObject({ reused: false })
  })

  test('counts for less than a signature: what a device signs is its own, whoever brings it', async () => {
    expect(await ask({ to: secure, by: device(1), headers: { 'content-type': 'application/cbor-seq' }, body: bodyOf(randomBytes(50), { bootcount: 900 }) })).toMatchObject({ status: 202, json: { auth_level: 'payload-signed' } })
    expect(await newest(secure)).toMatchObject({ deviceId: serialOf(), authLevel: 'payload-signed' })
  })

  test('raises the uploads of an unmodified client', async () => {
    const form = new Response(Object.entries({ ver: '1.2', upload_file_minidump: new Blob(['MDMP and more']) }).reduce((all, [name, value]) => { all.append(name, value); return all }, new FormData()))
    const [body, type] = [new Uint8Array(await form.clone().arrayBuffer()), form.headers.get('content-type')!]
    const { status, text } = await ask({ to: secure, by: device(), path: '/submit', headers: { 'content-type': type }, body })
    expect([status, text]).toEqual([200, expect.stringMatching(/^[0-9a-f]{32}$/)])
    expect(await newest(secure)).toMatchObject({ id: text, deviceId: serialOf(), authLevel: 'transport-authenticated', claims: { swversion: '1.2' } })
    expect((await ask({ to: secure, by: stranger, path: '/submit', headers: { 'content-type': type }, body })).status).toBe(401)

    const payload = randomBytes(10)
    const envelope = Buffer.concat([Buffer.from(`{}\n{"type":"attachment","length":${payload.length},"attachment_type":"event.minidump"}\n`), payload])
    expect((await ask({ to: secure, by: device(1), path: '/api/1/envelope/', headers: { 'content-type': 'application/x-sentry-envelope' }, body: envelope })).status).toBe(200)
    expect(await newest(secure)).toMatchObject({ deviceId: serialOf(1), authLevel: 'transport-authenticated', size: 10 })
  })
})

describe('Client-Cert of a proxy (RFC 9440)', () => {
  test.each([PROXY, '127.9.1.2'])('is believed from %s, with the address that the proxy adds', async (from) => {
    const { status, json } = await ask({ from, headers: { ...certHeaders(), 'x-forwarded-for': '192.0.2.1, 203.0.113.9' } })
    expect([status, json.auth_level]).toEqual([202, 'transport-authenticated'])
    expect(await newest(plain)).toMatchObject({ deviceId: serialOf(), authLevel: 'transport-authenticated', source: '203.0.113.0/24' })
  })

  test('is nothing from any other address, nor is the address that it names', async () => {
    for (const from of ['127.0.0.1', '127.0.0.78', '127.10.0.1']) {
      expect((await ask({ from, headers: { ...certHeaders(), 'x-forwarded-for': PROXY } })).status).toBe(401)
    }
    expect(await plain.rejected('not-authenticated')).toBe(3)
    const { json } = await ask({ from: '127.0.0.1', headers: { 'content-type': 'application/cbor-seq', 'x-forwarded-for': '203.0.113.9' }, body: bodyOf(randomBytes(20), { bootcount: 901 }) })
    expect(await newest(plain)).toMatchObject({ id: json.id, source: '127.0.0.0/24' })
  })

  test("over TLS, a proxy's own certificate is nobody's, and a device's header outside the proxy is nobody's either", async () => {
    expect((await ask({ to: secure, from: PROXY, by: device(), headers: certHeaders(device(1)) })).json.auth_level).toBe('transport-authenticated')
    expect(await newest(secure)).toMatchObject({ deviceId: serialOf(1) })
    expect((await ask({ to: secure, from: PROXY, by: device() })).status).toBe(401)
    expect((await ask({ to: secure, by: device(), headers: certHeaders(device(1)) })).status).toBe(202)
    expect(await newest(secure)).toMatchObject({ deviceId: serialOf() })
  })

  test.each<[string, Record<string, string>]>([
    ['no byte sequence', { 'client-cert': 'MIIB' }],
    ['two leaves', { 'client-cert': `${bytesOf(device().chain[0]!)}, ${bytesOf(device().chain[0]!)}` }],
    ['no certificate', { 'client-cert': bytesOf(randomBytes(100)) }],
    ['a chain of five', { ...certHeaders(), 'client-cert-chain': Array(5).fill(bytesOf(device().chain[1]!)).join(', ') }],
    ['another chain', { ...certHeaders(), 'client-cert-chain': bytesOf(stranger.chain[1]!) }],
  ])('with %s is refused', async (_, headers) => {
    expect([400, 401]).toContain((await ask({ from: PROXY, headers })).status)
  })
})

describe('a gateway', () => {
  const by = (name?: string, token = TOKEN) => ({ authorization: `Bearer ${token}`, ...(name === undefined ? {} : { 'crash-device': name }) })

  test('speaks for the devices behind it, and for no device that has a key', async () => {
    expect(await ask({ headers: by(serialOf()) })).toMatchObject({ status: 202, json: { auth_level: 'transport-authenticated' } })
    const crash = await newest(plain)
    expect(crash).toMatchObject({ fleet: FLEET, deviceId: `gateway:hub/${serialOf()}`, issuer: 'gateway:hub', authLevel: 'transport-authenticated', keyProtection: 'unknown' })
    expect([crash.deviceKeyId, crash.anchor]).toEqual([undefined, undefined])
  })

  test('says for whom', async () => {
    for (const headers of [by(), by('two words'), by('x'.repeat(129)), by('')]) expect(await ask({ headers })).toMatchObject({ status: 400, json: { type: expect.stringContaining('device-unnamed') } })
    expect((await ask({ headers: by('d', TOKEN.slice(1)) })).status).toBe(401)
  })

  test('can be shut out, and so can each of its devices', async () => {
    ours.devices = { 'gateway:hub/d-1': { status: 'disabled' } }
    await plain.registry.refresh()
    expect([(await ask({ headers: by('d-1') })).status, (await ask({ headers: by('d-2') })).status]).toEqual([403, 202])
    ours.issuers = { 'gateway:hub': { status: 'disabled' } }
    await plain.registry.refresh()
    expect((await ask({ headers: by('d-2') })).json.type).toContain('issuer-disabled')
    Object.assign(ours, { devices: {}, issuers: {} })
    await plain.registry.refresh()
  })
})

test.each<[string, number, Record<string, string>, Uint8Array?]>([
  ['an empty body', 400, {}, new Uint8Array(0)],
  ['an encoded body', 415, { 'content-encoding': 'gzip' }],
  ['a storm digest, which has to be signed', 415, { 'content-type': 'application/vnd.overrun.crash-storm+cbor' }],
  ['something else', 415, { 'content-type': 'text/html' }],
  ['more than a dump may have', 413, { 'content-length': String(33 * 1024 * 1024), expect: '100-continue' }],
])('a bare body that is %s is refused', async (_, status, headers, body) => {
  expect((await ask({ from: PROXY, headers: { ...certHeaders(), ...headers }, ...(body && { body }) })).status).toBe(status)
})

test('a quota keeps out what a connection proves too, and counts it', async () => {
  const door = await openDoor({ load: () => snapshot, settings: { proxies: [PROXY] }, quotas: { deviceBurst: 2, devicePerMinute: 1, summaryMs: 20 } })
  const answers = []
  for (let i = 0; i < 4; i++) answers.push((await ask({ to: door, from: PROXY, headers: certHeaders() })).status)
  expect(answers).toEqual([202, 202, 429, 429])
  await until(async () => (await door.logged()).refused.reduce((sum, { reports }) => sum + reports, 0) === 2, 'both refusals in the log')
  expect((await door.logged()).refused[0]).toMatchObject({ deviceId: serialOf(), slug: 'quota-device', digests: [] })
  await door.close()
})

test('a renewed certificate of the listener is in use without a restart, and an unreadable one leaves the old', async () => {
  const mine = { certificate: join(folder, 'mine.pem'), key: join(folder, 'mine.key.pem') }
  const put = ({ certificatePem, keyPem }: FleetDevice) => { writeFileSync(mine.certificate, certificatePem); writeFileSync(mine.key, keyPem) }
  put(server)
  const listener = createServer(tlsOptions(mine, 5000), (_request, response) => response.end()).listen(0, '127.0.0.1')
  await new Promise((resolve) => listener.on('listening', resolve))
  const fresh = keepFresh(listener, mine, createLogger({ part: 'test', level: 'silent' }), 5)
  const shown = () => new Promise<string>((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: (listener.address() as AddressInfo).port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerX509Certificate()!.subject)
      socket.destroy()
    }).on('error', reject)
  })
  expect(await shown()).toContain(server.serial)
  writeFileSync(mine.certificate, 'nothing')
  expect(await shown()).toContain(server.serial)
  put(device())
  await until(async () => (await shown()).includes(serialOf()), 'the new certificate is shown')
  fresh.stop()
  listener.close()
})
