import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createManualClock } from '../../infra/service/clock.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { quotasSchema } from '../../ingest/config.ts'
import { registerIngestMetrics } from '../../ingest/metrics.ts'
import { refuse } from '../../ingest/outcome.ts'
import { createProve } from '../../ingest/prove.ts'
import { createThrottle, originOf } from '../../ingest/throttle.ts'
import type { Verified } from '../../ingest/verify.ts'
import { manifestOf, NOW, openDoor, type Door } from './door.ts'

function world(verify: () => Promise<Verified | ReturnType<typeof refuse>>) {
  const throttle = createThrottle(quotasSchema.parse({}))
  const metrics = registerIngestMetrics(createMetrics({ defaults: false }), { registryAge: () => 0, uploads: () => 0 })
  const verifier = { verify, identify: () => refuse('anchor-unknown', '') }
  return { throttle, prove: createProve({ verifier, throttle, refused: { count() {}, start() {}, async stop() {} }, clock: createManualClock(NOW), metrics }) }
}
const item = manifestOf(Buffer.from('dump'))
const [known, stranger] = [originOf('192.0.2.1'), originOf('192.0.2.2')]

test('whoever has proven itself from an address is not kept waiting by a queue of strangers', async () => {
  const { throttle, prove } = world(async () => refuse('signature-bad', ''))
  throttle.proved(known)
  const order: string[] = []
  const strangers = Array.from({ length: 50 }, () => prove(item, stranger).then(() => order.push('stranger')))
  await prove(item, known).then(() => order.push('known'))
  expect(order.indexOf('known')).toBeLessThan(3)
  await Promise.all(strangers)
  expect(order).toHaveLength(51)
})

test('a stranger that proves itself waits no more, and one that does not goes on waiting', async () => {
  const good = world(async () => ({}) as Verified)
  await good.prove(item, stranger)
  expect(good.throttle.hasProven(stranger)).toBe(true)
  const bad = world(async () => refuse('signature-bad', ''))
  await bad.prove(item, stranger)
  expect(bad.throttle.hasProven(stranger)).toBe(false)
})

test('the queue has an end, and who finds it full is told to come back', async () => {
  const { prove } = world(async () => refuse('signature-bad', ''))
  const slugs = (await Promise.all(Array.from({ length: 2_500 }, () => prove(item, stranger)))).map((answer) => ('slug' in answer ? answer.slug : ''))
  expect([slugs.filter((slug) => slug === 'signature-bad').length, slugs.filter((slug) => slug === 'overloaded').length]).toEqual([2_000, 500])
})

let door: Door
beforeAll(async () => { door = await openDoor() })
afterAll(() => door.close())

test('little is inflated for somebody who has shown nothing, and as much as a dump may have for a good key', async () => {
  const form = (size: number) => gzipSync(`--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n${'0'.repeat(size)}\r\n--b--\r\n`)
  const upload = async (size: number, query = '') => {
    const response = await fetch(`${door.url}/submit${query}`, { method: 'POST', body: form(size), headers: { 'content-type': 'multipart/form-data; boundary=b', 'content-encoding': 'gzip' } })
    return [response.status, (await response.json() as { type: string }).type.split('/').at(-1)]
  }
  expect(await upload(500_000)).toEqual([400, 'dump-missing'])
  expect(await upload(2_000_000)).toEqual([413, 'content-inflated-too-large'])
  expect(await upload(2_000_000, '?key=thermostats-key')).toEqual([400, 'dump-missing'])
})
