import { afterAll, beforeAll, expect, test } from 'vitest'
import { TOPIC_ACCEPTED } from '../../infra/log/log.ts'
import { encodeHeartbeat } from '../../ingest/contract.ts'
import { readDump } from '../../symbolicate/archive.ts'
import { forgetStep, type ForgetStep } from '../../symbolicate/forget.ts'
import { alertRow } from '../dashboard/alert-row.ts'
import { rowsOf, until } from '../infra/clickhouse-fixture.ts'
import { accepted, ASAN, createWorld, STORY, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await createWorld()
  await world.worker.start()
})
afterAll(() => world.stop())

const ME = { fleet: 'demo', device: 'dev-7' }

async function forget(limit = Infinity): Promise<{ steps: ForgetStep[]; told: Record<string, number>[] }> {
  const steps: ForgetStep[] = []
  const told: Record<string, number>[] = []
  for (let after: string | null = ''; after !== null && steps.length < limit; after = steps.at(-1)!.next) {
    steps.push(await forgetStep(ME, after, { clickhouse: world.clickhouse, blobs: world.blobs, onRows: async (rows) => void told.push(rows) }))
  }
  return { steps, told }
}

type Place = { id: string; device: string; pack: string; dump_offset: string; dump_length: string; manifest_pack: string; manifest_offset: string; manifest_length: string }
const places = () => rowsOf<Place>(world.clickhouse, 'SELECT id, device, pack, dump_offset, dump_length, manifest_pack, manifest_offset, manifest_length FROM crashes FINAL ORDER BY offset')
const dumpOf = async ({ pack, dump_offset, dump_length }: Place) => {
  const bytes = await readDump(world.blobs, { pack, dumpOffset: Number(dump_offset), dumpLength: Number(dump_length) })
  return bytes === null ? null : Buffer.from(bytes).toString('latin1')
}

test('a device is forgotten: its bytes, its rows, its name; the neighbours keep theirs at the same places', async () => {
  const secret = `${ASAN}secret of dev-7\n`
  const mine = [accepted(secret, { deviceId: 'dev-7' }), accepted(`${secret}2`, { deviceId: 'dev-7' }), accepted(ASAN, { deviceId: 'dev-7', dump: { blob: 'dumps/mine' } })]
  const others = [accepted('dump of another', { deviceId: 'dev-77' }), accepted('and one more', { deviceId: 'dev-8' })]
  await world.blobs.put('dumps/mine', Buffer.from(secret))
  await world.worker.stop()
  for (const crash of [mine[0]!, others[0]!, mine[1]!, others[1]!, mine[2]!]) await world.send(crash)
  const claims = { bootcount: 1, seq: 900, swversion: '1.0.0' }
  for (const deviceId of ['dev-7', 'dev-8']) {
    await world.log.append(TOPIC_ACCEPTED, {
      key: deviceId, value: encodeHeartbeat({ v: 1, type: 'heartbeat', fleet: 'demo', receivedAt: STORY, authLevel: 'payload-signed', standing: 'counted', deviceId, deviceKeyId: `key of ${deviceId}`, claims }),
    })
  }
  await world.log.append(TOPIC_ACCEPTED, { key: 'demo/dev-7', value: Buffer.from([0xff]) })
  await world.restartWorker()
  await until(async () => (await world.log.stats(TOPIC_ACCEPTED, 'symbolicate')).lag === 0, 'everything is written')
  await world.clickhouse.insert({ table: 'alerts', format: 'JSONEachRow', values: [
    alertRow({ id: 'own', opened_at: STORY, device: 'dev-7' }),
    alertRow({ id: 'shared', opened_at: STORY, evidence: JSON.stringify({ devices: [{ device: 'dev-7' }, { device: 'dev-77' }], do_now: ['Isolate dev-7, the last one that was hit.'] }) }),
  ] })
  const before = await places()
  const bytesBefore = await Promise.all(before.map(dumpOf))

  const { steps, told } = await forget()
  const [first] = steps
  expect(first).toMatchObject({ packs: 1, dumps: 1 })
  expect(first!.bytes).toBe(secret.length * 2 + 1 + mine.reduce((sum, { manifest }) => sum + manifest!.length, 0))
  expect(told).toEqual([first!.rows])
  expect(first!.rows).toMatchObject({ crashes: 3, crash_ids: 3, counters: expect.any(Number), devices: expect.any(Number), heartbeats: 1, dead_letters: 1, alerts: 1 })
  expect(steps.at(-1)!.next).toBeNull()

  const after = await places()
  expect(after).toEqual(before.filter(({ device }) => device !== 'dev-7'))
  for (const [index, row] of before.entries()) {
    const now = await dumpOf(row)
    if (row.device !== 'dev-7') expect(now).toBe(bytesBefore[index])
    else if (row.pack === 'dumps/mine') expect(now).toBeNull()
    else expect(now).toMatch(/^\0+$/)
  }
  const manifest = (row: Place) => world.blobs.get(row.manifest_pack, { start: Number(row.manifest_offset), end: Number(row.manifest_offset) + Number(row.manifest_length) })
  for (const row of before) expect((await manifest(row))!.every((byte) => byte === 0)).toBe(row.device === 'dev-7')

  // Its name stands in no column of any table.
  const columns = await rowsOf<{ table: string; name: string }>(world.clickhouse,
    `SELECT table, name FROM system.columns WHERE database = currentDatabase() AND type LIKE '%String%' AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree')`)
  expect(columns.length).toBeGreaterThan(100)
  const left: string[] = []
  for (const table of new Set(columns.map((column) => column.table))) {
    const text = await (await world.clickhouse.query({ query: `SELECT * FROM ${table}`, format: 'JSONEachRow' })).text()
    if (/dev-7(?!7)/.test(text)) left.push(table)
  }
  expect(left).toEqual([])
  expect(await rowsOf(world.clickhouse, "SELECT id, evidence FROM alerts FINAL")).toEqual([
    { id: 'shared', evidence: JSON.stringify({ devices: [{ device: '(forgotten)' }, { device: 'dev-77' }], do_now: ['Isolate (forgotten), the last one that was hit.'] }) },
  ])
})

test('forgetting again finds nothing, and says so', async () => {
  const { steps, told } = await forget()
  expect(steps[0]).toMatchObject({ packs: 0, bytes: 0, dumps: 0, rows: {} })
  expect(told).toEqual([{}])
})

test('cut in the middle and begun again, it ends in the same', async () => {
  const crash = accepted(`${ASAN}once more`, { deviceId: 'dev-7' })
  await world.send(crash)
  await world.settled()
  const [row] = (await places()).filter(({ device }) => device === 'dev-7')
  // The zeros are written, the first rows are gone, then the process dies.
  await forget(1)
  expect((await places()).some(({ id }) => id === crash.id)).toBe(true)
  const { steps } = await forget()
  expect(steps.at(-1)!.next).toBeNull()
  expect(await dumpOf(row!)).toMatch(/^\0+$/)
  expect((await places()).some(({ id }) => id === crash.id)).toBe(false)
  expect(await rowsOf(world.clickhouse, `SELECT * FROM crash_ids WHERE id = '${crash.id}'`)).toEqual([])
})
