import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { TOPIC_ACCEPTED } from '../../infra/log/log.ts'
import { sweep } from '../../symbolicate/sweep.ts'
import { archiveSettingsSchema } from '../../symbolicate/config.ts'
import { rowsOf, until } from '../infra/clickhouse-fixture.ts'
import { accepted, ASAN, createWorld, type World } from './world.ts'

/** Between the worker and ClickHouse: lets everything through, or holds everything back without ending a connection. */
function createTap() {
  const sockets = new Set<Socket>()
  let closed = false
  let upstream = { host: '127.0.0.1', port: 0 }
  const server = createServer((near) => {
    const far = connect(upstream)
    for (const [from, to] of [[near, far], [far, near]] as const) {
      sockets.add(from)
      from.on('data', (chunk) => { to.write(chunk) })
      from.on('close', () => { sockets.delete(from); to.destroy() })
      from.on('error', () => to.destroy())
      if (closed) from.pause()
    }
  })
  return {
    async open(url: string): Promise<string> {
      upstream = { host: new URL(url).hostname, port: Number(new URL(url).port) }
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    },
    hold() { closed = true; for (const socket of sockets) socket.pause() },
    release() { closed = false; for (const socket of sockets) socket.resume() },
    stop() { for (const socket of sockets) socket.destroy(); server.close() },
  }
}

const tap = createTap()
let world: World
beforeAll(async () => {
  world = await createWorld({ batchEntries: 32 }, { through: async (address) => ({ ...address, url: await tap.open(address.url) }) })
  await world.worker.start()
})
afterAll(async () => {
  tap.release()
  await world.stop()
  tap.stop()
})

test('a ClickHouse that does not answer makes lag, not loss: all is counted once when it answers again', async () => {
  const crashes = Array.from({ length: 150 }, (_, i) => accepted(ASAN, { deviceId: `dev-${i % 20}` }))
  await Promise.all(crashes.slice(0, 20).map((crash) => world.send(crash)))
  tap.hold()
  await Promise.all(crashes.slice(20).map((crash) => world.send(crash)))
  // The log takes everything; the worker holds the batch in hand and asks for no more.
  const held = await world.log.stats(TOPIC_ACCEPTED, 'symbolicate')
  expect(held.lag).toBeGreaterThanOrEqual(130 - 32)
  expect(await world.metrics()).toMatch(/overrun_queue_lag_messages\{topic="crashes.accepted",partition="0"\} [1-9]\d+/)
  tap.release()
  await until(async () => (await world.log.stats(TOPIC_ACCEPTED, 'symbolicate')).lag === 0, 'the worker catches up')
  await until(async () => Number((await rowsOf<{ n: string }>(world.clickhouse, 'SELECT count() AS n FROM crashes FINAL'))[0]!.n) === crashes.length, 'every crash')
  expect(await rowsOf(world.clickhouse, 'SELECT uniqExact(id) AS ids FROM crashes')).toEqual([{ ids: String(crashes.length) }])
})

test('while the worker is stopped by ClickHouse, the sweep takes nothing that came since', async () => {
  tap.hold()
  await world.send(accepted(ASAN))
  const settings = archiveSettingsSchema.parse({})
  // In two days, with the message of today not written.
  const later = () => Date.now() + 48 * 3_600_000
  const log = { stats: async (...asked: Parameters<World['log']['stats']>) => ({ ...await world.log.stats(...asked), oldestAgeMs: 48 * 3_600_000 }) }
  await world.blobs.put('dumps/of-today', Buffer.from('its message is in the log'))
  const swept = await sweep({ log, blobs: world.blobs, clickhouse: world.clickhouse, settings, now: later }, { dryRun: false })
  expect(swept.orphans.objects).toBe(0)
  expect(await world.blobs.head('dumps/of-today')).not.toBeNull()
  tap.release()
})
