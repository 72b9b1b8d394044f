import { afterAll, beforeAll, expect, test } from 'vitest'
import { rowsOf } from '../infra/clickhouse-fixture.ts'
import { accepted, ASAN, createWorld, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await createWorld()
  await world.worker.start()
})
afterAll(() => world.stop())

let number = 0
const say = (kind: string, subject: string, body: object) => world.clickhouse.insert({
  table: 'events', format: 'JSONEachRow',
  values: [{ fleet: 'demo', at: '2026-06-01 00:00:00.000', number: ++number, actor: 'test', kind, subject, body: JSON.stringify(body), prev_hash: '', hash: String(number) }],
})
const send = async (said: Parameters<typeof accepted>[1], dump = ASAN) => {
  const crash = accepted(dump, said)
  await world.send(crash)
  return crash.id
}
async function written(...ids: string[]): Promise<{ flags: string[]; standing: string }[]> {
  await world.settled()
  const rows = await rowsOf<{ id: string; flags: string[]; standing: string }>(world.clickhouse, 'SELECT id, flags, standing FROM crashes FINAL WHERE id IN {ids:Array(String)}', { ids })
  return ids.map((id) => ({ flags: rows.find((row) => row.id === id)!.flags, standing: rows.find((row) => row.id === id)!.standing }))
}

test('a crash that was taken before its device or issuer was shut out is marked when it is written, and one from before stays as it is', async () => {
  const before = await send({ deviceId: 'stolen' })
  await written(before)
  await say('device.status', 'device:stolen', { status: 'revoked', reason: 'stolen' })
  await say('device.status', 'device:noisy', { status: 'disabled', reason: 'noisy' })
  await say('device.status', 'device:found', { status: 'revoked', reason: 'stolen' })
  await say('device.status', 'device:found', { status: 'active', reason: 'found' })
  await say('issuer.status', 'issuer:CN=Leaky', { status: 'disabled', reason: 'leaks' })
  const after = await Promise.all([send({ deviceId: 'stolen', flags: ['late'] }), send({ deviceId: 'noisy' }), send({ deviceId: 'found' }), send({ deviceId: 'any', issuer: 'CN=Leaky' }), send({ deviceId: 'stolen', fleet: 'doors' })])
  expect(await written(before, ...after)).toEqual([[], ['late', 'device-revoked'], ['device-disabled'], [], ['issuer-disabled'], []].map((flags) => ({ flags, standing: 'counted' })))
})

test('a security version below that of an earlier boot is marked, within a batch and across batches; a late report of an older boot is not', async () => {
  const boot = (bootcount: number, svn: number, more: object = {}) => send({ deviceId: 'rolled', claims: { bootcount, seq: 0, svn }, ...more })
  const first = await Promise.all([boot(10, 4), boot(12, 5), boot(13, 4)])
  expect((await written(...first)).map(({ flags }) => flags)).toEqual([[], [], ['svn-rollback']])
  const second = await Promise.all([boot(11, 4), boot(14, 3), boot(15, 5), boot(16, 3, { authLevel: 'project-key' })])
  expect((await written(...second)).map(({ flags }) => flags)).toEqual([[], ['svn-rollback'], [], []])
})

test('in a new epoch counters are used anew, and an older security version after a reset is a rollback all the same', async () => {
  const boot = (bootcount: number, svn: number, more: object = {}) => send({ deviceId: 'reset', claims: { bootcount, seq: 0, svn }, ...more }, `dump ${bootcount} ${svn} ${JSON.stringify(more)}`)
  const ids = [await boot(1, 4), await boot(90, 5), await boot(1, 5, { epoch: 7 }), await boot(2, 4, { epoch: 7 }), await boot(1, 5)]
  expect(await written(...ids)).toEqual([
    { flags: [], standing: 'counted' }, { flags: [], standing: 'counted' }, { flags: [], standing: 'counted' }, { flags: ['svn-rollback'], standing: 'counted' },
    { flags: [], standing: 'counter-reuse' },
  ])
})

test('hostile names of devices and issuers ask for nothing else', async () => {
  const id = await send({ deviceId: "x'); DROP TABLE events --\ud800", issuer: 'CN=\u0000\udfff', claims: { bootcount: 1, seq: 900, svn: 1 } })
  expect(await written(id)).toEqual([{ flags: [], standing: 'counted' }])
})
