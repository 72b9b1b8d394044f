import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DevicesPage } from '../../../dashboard/api/contract.ts'
import { parseCsv } from '../../../dashboard/cli/csv.ts'
import { registerInventory } from '../../../dashboard/cli/inventory.ts'
import { crashRow, insertCrashes, STORY_START } from '../crash-row.ts'
import { startTestDashboard, TOKEN, type TestDashboard } from '../api/dashboard-fixture.ts'
import { run } from './command.ts'

const NOW = STORY_START + 10 * 3_600_000
let world: TestDashboard
let folder: string
beforeAll(async () => {
  world = await startTestDashboard({ now: NOW })
  folder = await mkdtemp(join(tmpdir(), 'inventory-'))
})
afterAll(async () => {
  await world.stop()
  await rm(folder, { recursive: true })
})

async function load(csv: string) {
  await writeFile(join(folder, 'inventory.csv'), csv)
  return run((program) => registerInventory(program.command('fleet')), 'fleet', 'import', join(folder, 'inventory.csv'), '--url', world.base, '--token', TOKEN, '--fleet', 'demo')
}
const devices = async () => Object.fromEntries((await world.get<DevicesPage>('/api/v1/devices?limit=200')).items.map((device) => [device.device, device]))

test('devices that never crashed are known with their version, and one that crashed since keeps its own word', async () => {
  await insertCrashes(world.world.clickhouse, [crashRow({ id: '1'.repeat(32), device: 'crashed', swversion: '4.2.0', at: NOW - 3_600_000 })])
  const csv = 'HWMODEL,device,swversion,last_seen,site\r\nthermo-2,quiet,4.1.0,,here\r\n"thermo, large","with ""quotes""",4.0.0,2026-02-01T00:00:00Z,there\r\nthermo-2,crashed,3.0.0,2026-02-01T00:00:00Z,\r\n'
  for (let time = 0; time < 2; time++) expect(await load(csv)).toMatchObject({ code: 0, out: 'Fleet demo: 3 devices.' })
  expect(await devices()).toMatchObject({
    quiet: { swversion: '4.1.0', hwmodel: 'thermo-2', last_seen: new Date(NOW).toISOString(), auth_level: 'inventory', crashes: 0, device_keys: 0 },
    'with "quotes"': { swversion: '4.0.0', hwmodel: 'thermo, large', last_seen: '2026-02-01T00:00:00.000Z' },
    crashed: { swversion: '4.2.0', auth_level: 'payload-signed', crashes: 1, device_keys: 1 },
  })
  const { items } = await world.get<{ items: { kind: string; body: unknown }[] }>('/api/v1/events')
  expect(items.map(({ kind, body }) => [kind, body])).toEqual([['fleet.inventory-imported', { devices: 3 }], ['fleet.inventory-imported', { devices: 3 }]])
})

test('more rows than fit into one request', async () => {
  expect(await load(`device,swversion,hwmodel\n${Array.from({ length: 2500 }, (_, i) => `many-${i},1.0,m\n`).join('')}`)).toMatchObject({ code: 0, out: 'Fleet demo: 2500 devices.' })
  const rows = await (await world.world.clickhouse.query({ query: "SELECT uniqExact(device) AS n FROM devices WHERE startsWith(device, 'many-')", format: 'JSONEachRow' })).json<{ n: string }>()
  expect(rows).toEqual([{ n: '2500' }])
})

test.each([
  ['', 'line 1: the names'], ['device,swversion\nd,1\n', 'line 1: no column hwmodel'], ['device,swversion,hwmodel\nd,1\n', 'line 2: 2 fields, 3 expected'],
  ['device,swversion,hwmodel\nd,1,m\n,1,m\n', 'line 3: device'], ['device,swversion,hwmodel,last_seen\nd,1,m,yesterday\n', 'line 2: last_seen "yesterday"'],
  ['device,swversion,hwmodel\n"d,1,m\n', 'line 2: a quote'], ['device,swversion,hwmodel\n"d"x,1,m\n', 'line 2: text after'],
])('a file that is not understood is refused with its line, and nothing of it is sent: %j', async (csv, fault) => {
  const before = await world.get<{ items: unknown[] }>('/api/v1/events')
  expect(await load(csv)).toMatchObject({ code: 21, err: expect.stringContaining(fault) })
  expect(await world.get('/api/v1/events')).toEqual(before)
})

test('any table comes back as it was written', () => {
  const field = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r\n', 'é', ' ') })
  fc.assert(fc.property(fc.array(fc.tuple(field, field, field), { minLength: 1 }), (rows) => {
    const text = [['a', 'b', 'c'], ...rows].map((row) => row.map((value) => `"${value.replaceAll('"', '""')}"`).join(',')).join('\r\n')
    expect(parseCsv(text)).toEqual({ columns: ['a', 'b', 'c'], rows: rows.map((fields) => ({ line: expect.any(Number), fields })) })
  }))
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r') }), (text) => { parseCsv(text) }))
})
