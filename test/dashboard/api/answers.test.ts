import { afterAll, beforeAll, expect, test } from 'vitest'
import * as contract from '../../../dashboard/api/contract.ts'
import { alertRow } from '../alert-row.ts'
import { STORY_START, crashRow, insertCrashes } from '../crash-row.ts'
import { startTestDashboard, TOKEN, type TestDashboard } from './dashboard-fixture.ts'

const HOUR = 3_600_000
const NOW = STORY_START + 48 * HOUR
const AA = '00000000000000aa'
const BB = '00000000000000bb'
const id = (n: number): string => n.toString(16).padStart(32, '0')
const HOSTILE = '</script><img src=x onerror=alert(1)>\'; DROP TABLE crashes; -- \u202e\u0000 {x:String}'
const REPORT = {
  status: 'OK', format: 'minidump', pid: 7, system_info: { os: 'Linux', os_ver: null, cpu_arch: 'arm64' },
  crash_info: { type: 'SIGSEGV', address: '0x4141414141414141', crashing_thread: 0, assertion: null, access: 'write' },
  crashing_thread: null, threads: [], modules: [], main_module: null, annotations: { note: HOSTILE }, notes: [],
}
let world: TestDashboard

beforeAll(async () => {
  world = await startTestDashboard({
    now: NOW,
    symbols: {
      put: async (bytes, { name }) => bytes.length > 3
        ? { status: 'stored', already: false, key: `symbols/${name}`, prepared: { kind: 'source-map', debugId: 'ABC0', file: 'app.js', sources: 1 } }
        : { status: 'unusable', reason: 'too short for a MODULE line' },
    },
  })
  await world.blobs.put('packs/p1', Buffer.from('MANIFESTDUMPBYTES'))
  await insertCrashes(world.world.clickhouse, [
    ...Array.from({ length: 12 }, (_, i) => crashRow({ id: id(i), device: 'loop', device_key: 'k', at: NOW - 40 * HOUR + i * HOUR, bucket: AA, swversion: '4.1.0' })),
    ...Array.from({ length: 4 }, (_, i) => crashRow({
      id: id(100 + i), device: `hit-${i}`, device_key: `k${i}`, at: NOW - 3 * HOUR + i * 60_000, bucket: BB, evidence: 3, kind: 'wild-write', title: HOSTILE, signature: '1 | wild-write | f',
      report: JSON.stringify(REPORT), pack: 'packs/p1', manifest_pack: 'packs/p1', manifest_offset: 0, manifest_length: 8, dump_offset: 8, dump_length: 9, fault_address: '4702111234474983745',
      compartment: HOSTILE, missing_symbols: [{ debug_file: 'netd.sym', debug_id: 'ABC0', code_id: '' }],
    })),
    crashRow({ id: id(300), device: 'bare', at: NOW - HOUR, bucket: AA, report: 'not json', pack: 'packs/gone', dump_offset: 0, dump_length: 5 }),
  ])
  await world.world.clickhouse.insert({ table: 'alerts', format: 'JSONEachRow', values: [
    alertRow({ id: 'al-1', opened_at: NOW - 2 * HOUR, bucket: BB, first_event: new Date(NOW - 3 * HOUR).toISOString(), last_event: new Date(NOW - 2 * HOUR).toISOString() }),
    alertRow({ id: 'al-2', opened_at: NOW - HOUR, device: 'loop', evidence: '{"what":1}', state: 'closed' }),
  ] })
})
afterAll(() => world.stop())

test('the overview says what changed and what to look at', async () => {
  const answer = contract.overviewSchema.parse(await world.get('/api/v1/overview'))
  expect(answer).toMatchObject({ fleet: 'demo', as_of: new Date(NOW).toISOString(), crashes: { now: 5, before: 12 }, devices: { now: 5, before: 1 }, new_buckets: { now: 1, before: 1 }, open_alerts: 1, unsymbolicated: { crashes: 4, devices: 4, modules: 1 } })
  expect(answer.top_alerts.map((alert) => alert.id)).toEqual(['al-1'])
  expect(answer.newest_buckets.map(({ bucket, is_new, alerts }) => [bucket, is_new, alerts])).toEqual([[BB, true, ['al-1']]])
  expect(answer.series.crashes.reduce((a, b) => a + b)).toBe(17)
  expect(answer.lost_messages).toBeNull()
})

test('the overview says how many messages the log lost, and between which times', async () => {
  const gap = (partition: number, first_offset: number, end_offset: number, lost_after: string | null, seen_at: number) =>
    ({ topic: 'crashes.accepted', partition, first_offset, end_offset, lost_after, lost_before: new Date(NOW - HOUR).toISOString(), seen_at: new Date(seen_at).toISOString() })
  await world.world.clickhouse.insert({ table: 'log_gaps', format: 'JSONEachRow', values: [
    gap(0, 100, 150, new Date(NOW - 30 * HOUR).toISOString(), NOW - HOUR),
    // Seen again after a kill, and grown meanwhile.
    gap(0, 100, 160, new Date(NOW - 30 * HOUR).toISOString(), NOW - HOUR + 1),
    gap(1, 7, 8, new Date(NOW - 20 * HOUR).toISOString(), NOW - 2 * HOUR),
    gap(2, 0, 1_000_000, null, NOW - 15 * 24 * HOUR),
  ] })
  expect(contract.overviewSchema.parse(await world.get('/api/v1/overview')).lost_messages).toEqual({
    messages: 61, partitions: 2, lost_after: new Date(NOW - 30 * HOUR).toISOString(), lost_before: new Date(NOW - HOUR).toISOString(), seen_at: new Date(NOW - HOUR + 1).toISOString(),
  })
})

test('buckets by pages, with what crashes say kept as it is', async () => {
  const first = contract.bucketsPageSchema.parse(await world.get('/api/v1/buckets?limit=1'))
  expect(first.items).toMatchObject([{ bucket: BB, devices: 4, verified_devices: 4, title: HOSTILE, compartments: [HOSTILE], alerts: ['al-1'] }])
  expect(first.items[0]?.sparkline.crashes.reduce((a, b) => a + b)).toBe(4)
  const second = contract.bucketsPageSchema.parse(await world.get(`/api/v1/buckets?limit=1&cursor=${first.next}`))
  expect(second).toMatchObject({ items: [{ bucket: AA, crashes: 13, devices: 2 }], next: null })
  expect((await world.raw('/api/v1/buckets?cursor=bm9wZQ', { headers: { authorization: `Bearer ${TOKEN}` } })).status).toBe(400)
  const searched = await world.get<contract.BucketsPage>(`/api/v1/buckets?q=${encodeURIComponent('DROP TABLE')}`)
  expect(searched.items.map(({ bucket }) => bucket)).toEqual([BB])
})

test('one bucket: signature, evidence, series, crashes, devices, firmware, correlations', async () => {
  const bucket = contract.bucketDetailSchema.parse(await world.get(`/api/v1/buckets/${BB}`))
  expect(bucket).toMatchObject({ bucket: BB, asked_for: BB, crashes: 4, strongest: id(103), newest: id(103), oldest: id(100), signature: { text: '1 | wild-write | f', ruleset: 1 }, triage: null })
  expect(bucket.open_alerts.map((alert) => alert.id)).toEqual(['al-1'])
  const crashes = contract.crashesPageSchema.parse(await world.get(`/api/v1/buckets/${BB}/crashes?limit=3`))
  expect(crashes.items.map((crash) => crash.id)).toEqual([id(103), id(102), id(101)])
  expect((await world.get<contract.CrashesPage>(`/api/v1/buckets/${BB}/crashes?limit=3&cursor=${crashes.next}`)).items.map((crash) => crash.id)).toEqual([id(100)])
  expect(contract.bucketDevicesSchema.parse(await world.get(`/api/v1/buckets/${BB}/devices`)).items).toHaveLength(4)
  expect(contract.bucketFirmwareSchema.parse(await world.get(`/api/v1/buckets/${BB}/firmware`)).items).toMatchObject([{ swversion: '4.2.0', devices: 4, fixed: false }])
  expect(contract.bucketCorrelationsSchema.parse(await world.get(`/api/v1/buckets/${BB}/correlations`)).items).toContainEqual(expect.objectContaining({ key: 'compartment', value: HOSTILE, share: 1 }))
  // A bucket outside the asked range is still there.
  expect(await world.get(`/api/v1/buckets/${BB}?to=${new Date(NOW - 10 * HOUR).toISOString()}`)).toMatchObject({ crashes: 0, title: HOSTILE })
})

test('one crash with its report, and the reason when there is none', async () => {
  const crash = contract.crashDetailSchema.parse(await world.get(`/api/v1/crashes/${id(101)}`))
  expect(crash).toMatchObject({ fault_address: '0x4141414141414141', report: { pid: 7, annotations: { note: HOSTILE } }, report_fault: null, previous: id(100), next: id(102), device_status: 'active' })
  expect(contract.crashDetailSchema.parse(await world.get(`/api/v1/crashes/${id(300)}`))).toMatchObject({ report: null, report_fault: expect.stringContaining('expected object') })
})

test('the original bytes come as an attachment, and who took them is written down', async () => {
  const take = (what: string, crash = id(101)) => world.raw(`/api/v1/crashes/${crash}/${what}`, { headers: { authorization: `Bearer ${TOKEN}` } })
  const dump = await take('dump')
  expect([dump.headers.get('content-type'), dump.headers.get('content-disposition'), await dump.text()]).toEqual(['application/octet-stream', `attachment; filename="${id(101)}.dmp"`, 'DUMPBYTES'])
  expect(await (await take('manifest')).text()).toBe('MANIFEST')
  expect((await take('manifest', id(300))).status).toBe(404)
  const gone = await take('dump', id(300))
  expect([gone.status, ((await gone.json()) as contract.Problem).type]).toEqual([410, 'bytes-missing'])
  const events = contract.eventsPageSchema.parse(await world.get(`/api/v1/events?subject=crash:${id(101)}`))
  expect(events.items.map(({ kind, intact }) => [kind, intact])).toEqual([['crash.manifest-read', true], ['crash.dump-read', true]])
})

test('one alert: evidence, strip and query; unreadable evidence says why', async () => {
  const alert = contract.alertDetailSchema.parse(await world.get('/api/v1/alerts/al-1'))
  expect(alert).toMatchObject({ bucket_title: HOSTILE, evidence: { what: 'What happened' }, query: 'SELECT 1', query_params: { now: 'x' }, verdict: null, versions: [{ version: 1 }] })
  expect(alert.strip.crashes.reduce((a, b) => a + b)).toBe(4)
  expect(contract.alertDetailSchema.parse(await world.get('/api/v1/alerts/al-2'))).toMatchObject({ evidence: null, evidence_fault: expect.stringContaining('what') })
  expect(contract.alertsPageSchema.parse(await world.get('/api/v1/alerts?state=closed')).items.map((each) => each.id)).toEqual(['al-2'])
})

test('devices, one device, missing symbols, dead letters and who I am', async () => {
  expect(contract.devicesPageSchema.parse(await world.get('/api/v1/devices?sort=evidence&limit=1')).items).toMatchObject([{ evidence: 3 }])
  expect(contract.deviceDetailSchema.parse(await world.get('/api/v1/devices/loop'))).toMatchObject({ crashes: 12, credentials: [{ device_key: 'k', crashes: 12 }], versions: [{ swversion: '4.1.0' }], registry: { status: 'active', at: null } })
  expect(contract.missingSymbolsSchema.parse(await world.get('/api/v1/symbols/missing')).items).toMatchObject([{ debug_id: 'ABC0', crashes: 4 }])
  expect(contract.deadLettersPageSchema.parse(await world.get('/api/v1/dead-letters'))).toMatchObject({ items: [], next: null })
  expect(contract.whoamiSchema.parse(await world.get('/api/v1/whoami'))).toMatchObject({ actor: 'admin', auth: 'bearer', fleet: 'demo', fleets: ['demo'] })
})

test('another fleet sees nothing of this one', async () => {
  expect(await world.get('/api/v1/buckets?fleet=other')).toMatchObject({ items: [] })
  for (const path of [`/api/v1/buckets/${BB}?fleet=other`, `/api/v1/crashes/${id(101)}?fleet=other`, '/api/v1/alerts/al-1?fleet=other', '/api/v1/devices/loop?fleet=other']) {
    expect((await world.raw(path, { headers: { authorization: `Bearer ${TOKEN}` } })).status).toBe(404)
  }
})

test('uploaded symbols are stored and their crashes looked at again; bad ones are refused with the reason', async () => {
  const upload = (body: string) => world.raw('/api/v1/symbols?name=app.sym', { method: 'POST', headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/octet-stream' }, body })
  expect(contract.symbolsStoredSchema.parse(await (await upload('MODULE')).json())).toEqual({ key: 'symbols/app.sym', debug_id: 'ABC0', debug_file: 'app.js', reprocessing: true })
  expect(world.arrivals()).toBe(1)
  const bad = await upload('x')
  expect([bad.status, contract.problemSchema.parse(await bad.json()).detail]).toEqual([422, 'app.sym: too short for a MODULE line'])
  const wrongType = await world.raw('/api/v1/symbols?name=a', { method: 'POST', headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'text/plain' }, body: 'MODULE' })
  expect([wrongType.status, contract.problemSchema.parse(await wrongType.json()).type]).toEqual([415, 'media-type'])
})

test('the description is OpenAPI 3.1 and names every route', async () => {
  const description = await world.get<{ openapi: string; paths: Record<string, unknown> }>('/api/v1/openapi.json')
  expect(description.openapi).toBe('3.1.0')
  for (const path of ['/api/v1/overview', '/api/v1/buckets', '/api/v1/buckets/{id}/correlations', '/api/v1/crashes/{id}/dump', '/api/v1/alerts/{id}/verdict', '/api/v1/fleets/{fleet}/anchors', '/api/v1/symbols', '/api/v1/stream', '/api/v1/login']) {
    expect(Object.keys(description.paths)).toContain(path)
  }
  const page = await world.raw('/docs', { headers: { authorization: `Bearer ${TOKEN}` } })
  expect([page.status, (await page.text()).includes('swagger-ui')]).toEqual([200, true])
})
