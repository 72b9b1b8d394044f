import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bodyOf, device, FLEET, manifestOf, NOW, openDoor, serialOf, snapshotOf, stranger, type Door } from './door.ts'
import { bstr, forge } from './forge.ts'

let door: Door
beforeAll(async () => { door = await openDoor({ settings: { knownDays: 7 } }) })
afterAll(() => door.close())

let boot = 300
const fingerprint = () => randomBytes(16).toString('hex')
const offer = async (manifest: Uint8Array) => {
  const response = await door.state('/v1/crashes/offer', manifest)
  return { http: response.status, ...await response.json() as { id: string; status: string; type?: string } }
}
const newest = async () => (await door.accepted()).at(-1)!
const DAY = 86_400_000

test('a thousand small reports and one dump: send for the first device, known for the next, each counted once', async () => {
  const print = fingerprint()
  const logged = (await door.accepted()).length
  const bootcount = boot++
  const dump = randomBytes(20_000)
  const first = await offer(manifestOf(dump, { bootcount, fingerprint: print }))
  expect(first).toMatchObject({ http: 200, status: 'send' })
  expect((await door.accepted()).length).toBe(logged)

  const sent = await (await door.post(bodyOf(dump, { bootcount, fingerprint: print }))).json() as { id: string }
  expect(sent.id).toBe(first.id)
  const other = randomBytes(20_000)
  const manifest = manifestOf(other, { bootcount, fingerprint: print }, device(1))
  const second = await offer(manifest)
  expect(second).toMatchObject({ http: 202, status: 'known' })
  expect(second.id).not.toBe(first.id)
  const crash = await newest()
  expect(crash).toMatchObject({
    id: second.id, standing: 'claimed', claimedOf: sent.id, authLevel: 'payload-signed', deviceId: serialOf(1), size: 20_000, fleet: FLEET, claims: { fingerprint: print },
  })
  expect('bytes' in crash.dump && crash.dump.bytes.length).toBe(0)
  expect(Buffer.from(crash.manifest!).equals(manifest)).toBe(true)
  expect((await door.accepted()).length).toBe(logged + 2)
})

test('an offer that was known is known for good: offered again or sent with its dump it is a duplicate, after a restart too', async () => {
  const [print, bootcount, dump] = [fingerprint(), boot++, randomBytes(100)]
  await door.post(bodyOf(randomBytes(100), { bootcount, fingerprint: print }))
  const known = await offer(manifestOf(dump, { bootcount, fingerprint: print }, device(1)))
  expect(known.status).toBe('known')
  const logged = (await door.accepted()).length
  await door.restart()
  expect(await offer(manifestOf(dump, { bootcount, fingerprint: print }, device(1)))).toMatchObject({ http: 200, status: 'duplicate', id: known.id })
  expect(await (await door.post(bodyOf(dump, { bootcount, fingerprint: print }, device(1)))).json()).toEqual({ id: known.id, status: 'duplicate' })
  expect((await door.accepted()).length).toBe(logged)
  expect(await offer(manifestOf(dump, { bootcount, fingerprint: print }, device(2)))).toMatchObject({ status: 'known' })
})

test.each<[string, () => Promise<unknown>, Parameters<typeof manifestOf>[1]]>([
  ['another firmware', async () => {}, { swversion: '2.0' }],
  ['another hardware', async () => {}, { hwmodel: 'other' }],
  ['another build', async () => {}, { buildId: 'c0ffee' }],
  ['a dump that is too old', async () => door.clock.advance(7 * DAY), {}],
  ['a dump of a device that was revoked', async () => {
    door.snapshot.fleets[FLEET]!.devices[serialOf()] = { status: 'revoked', reason: 'stolen' }
    await door.registry.refresh()
  }, {}],
])('send: %s is never taken for known', async (_, change, claims) => {
  const [print, bootcount] = [fingerprint(), boot++]
  await door.post(bodyOf(randomBytes(100), { bootcount, fingerprint: print, swversion: '1.0' }))
  expect(await offer(manifestOf(randomBytes(100), { bootcount, seq: 1, fingerprint: print, swversion: '1.0' }, device(1)))).toMatchObject({ status: 'known' })
  try {
    await change()
    expect(await offer(manifestOf(randomBytes(100), { bootcount, seq: 2, fingerprint: print, swversion: '1.0', ...claims }, device(1)))).toMatchObject({ http: 200, status: 'send' })
  } finally {
    Object.assign(door.snapshot, snapshotOf())
    await door.registry.refresh()
    door.clock.advance(NOW - door.clock.now())
  }
})

test.each<[string, (print: string, bootcount: number) => Promise<unknown>]>([
  ['a claimed crash', async () => {}],
  ['an upload without a signature', (print) => {
    const form = new FormData()
    form.set('fingerprint', print)
    form.set('upload_file_minidump', new Blob([randomBytes(10)]), 'x.dmp')
    return fetch(`${door.url}/submit?key=thermostats-key`, { method: 'POST', body: form })
  }],
  ['a report that reuses a counter', async (print, bootcount) => {
    await door.post(bodyOf(randomBytes(100), { bootcount }))
    await door.post(bodyOf(randomBytes(100), { bootcount, fingerprint: print }))
  }],
  ['a report without bytes', (print, bootcount) => door.post(bodyOf(Buffer.alloc(0), { bootcount, fingerprint: print }))],
  ['the digest of a storm', (print, bootcount) => {
    const dump = Buffer.from('dump')
    const manifest = forge({ dump, claims: [[267, Buffer.of(0x19, bootcount >> 8, bootcount & 255)], [-65546, bstr(Buffer.from(print, 'hex'))]], headers: [[259, storm]] })
    return door.post(Buffer.concat([manifest, bstr(dump)]))
  }],
])('send: %s teaches nothing', async (_, teach) => {
  const [print, bootcount] = [fingerprint(), boot++]
  await teach(print, bootcount)
  expect(await offer(manifestOf(randomBytes(100), { bootcount, fingerprint: print }, device(1)))).toMatchObject({ http: 200, status: 'send' })
})
const storm = Buffer.concat([Buffer.of(0x78, 42), Buffer.from('application/vnd.overrun.crash-storm+cbor')]).fill(40, 1, 2)

test('counter-reuse: an offer under counters of another dump is refused and kept aside', async () => {
  const [print, bootcount] = [fingerprint(), boot++]
  await door.post(bodyOf(randomBytes(100), { bootcount, fingerprint: print }))
  expect(await offer(manifestOf(randomBytes(100), { bootcount, fingerprint: print }))).toMatchObject({ http: 409 })
  expect(await newest()).toMatchObject({ standing: 'counter-reuse', deviceId: serialOf() })
})

test.each<[string, number, () => ReturnType<Door['state']>]>([
  ['claim-missing', 400, () => door.state('/v1/crashes/offer', manifestOf(randomBytes(10), { bootcount: boot++ }))],
  ['content-type-unsupported', 415, () => door.state('/v1/crashes/offer', forge(), { 'content-type': 'application/cbor-seq' })],
  ['manifest-shape', 400, () => door.state('/v1/crashes/offer', Buffer.concat([forge(), Buffer.from('more')]))],
  ['manifest-truncated', 400, () => door.state('/v1/crashes/offer', forge().subarray(0, 200))],
  ['manifest-too-large', 413, () => door.state('/v1/crashes/offer', Buffer.alloc(8193))],
  ['unauthorized', 401, () => door.state('/v1/crashes/offer', forge({ key: stranger.key }))],
])('%s: an offer is judged like any report', async (slug, status, send) => {
  const logged = (await door.accepted()).length
  const response = await send()
  expect([response.status, await response.text()]).toEqual([status, expect.stringContaining(`problem/${slug}`)])
  expect((await door.accepted()).length).toBe(logged)
})

test('the metric says what devices were told', async () => {
  const metrics = await (await fetch(`${door.opsUrl}/metrics`)).text()
  expect(metrics).toMatch(/overrun_ingest_offers_total\{answer="send"\} [1-9]/)
  expect(metrics).toMatch(/overrun_ingest_offers_total\{answer="known"\} [1-9]/)
})
