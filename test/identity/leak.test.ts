import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPipeline, type Pipeline } from '../../dashboard/cli/pipeline.ts'
import { configurationSchema } from '../../dashboard/configuration.ts'
import { systemClock } from '../../infra/service/clock.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { createStopper } from '../../infra/service/stop.ts'
import { NO_TRACING } from '../../infra/service/tracing.ts'
import { createFleet } from '../../ingest/device/fleet.ts'
import { signReport, type Report } from '../../ingest/device/sign.ts'
import { rowsOf, until } from '../infra/clickhouse-fixture.ts'
import { drawMinidump } from '../synth/minidump.ts'

/**
 * Where the bytes of a dump may go: into the archive, and out again where somebody with the token asks for the dump, which
 * is audited. Not into a log line, at any level; not into a text of ClickHouse; not into any other answer of the API.
 * Registers, annotations and claims are facts of the crash: people see them, logs do not. Secrets are in neither.
 */
const MARK = 'Kx7q'
const IN_MEMORY = `${MARK}-memory-81f3a9c2`
const IN_REGISTER = Buffer.from(`${MARK}rgst`)
const IN_ANNOTATION = `${MARK}-annotation-5b1d`
const IN_CLAIM = `${MARK}-claim-77aa`
const PROJECT_KEY = `${MARK}-project-key-0c4e`

const fleet = createFleet({ devices: 1, name: 'leak', now: Date.now() })
const device = fleet.devices[0]!
const stack = Buffer.alloc(4096)
stack.write(IN_MEMORY, 256)
const heap = Buffer.concat([Buffer.alloc(64), Buffer.from(IN_MEMORY), Buffer.from(IN_MEMORY, 'utf16le'), Buffer.alloc(64)])
const registers = { rip: 0x5555_5555_4100n, rsp: 0x7fff_0000_0100n, rbp: 0x7fff_0000_0200n, rax: IN_REGISTER.readBigUInt64LE(), rbx: 0x6000_0000_0000n }
const dump = drawMinidump({
  os: 'linux', cpu: 'x86-64', pid: 7, threads: [{ id: 7, registers, stack: { base: 0x7fff_0000_0000n, bytes: stack } }],
  modules: [{ base: 0x5555_5555_4000n, size: 0x1_0000, name: '/usr/bin/sensord', buildId: Buffer.alloc(20, 7) }], memory: [{ base: 0x6000_0000_0000n, bytes: heap }],
  exception: { thread: 7, code: 11, address: IN_REGISTER.readBigUInt64LE(), registers }, annotations: { note: IN_ANNOTATION },
})

const lines: string[] = []
let directory: string
let pipeline: Pipeline
const stopper = createStopper(() => {})
const token = 'leak-test-token-0123456789'

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'leak-'))
  const configuration = configurationSchema.parse({ data: directory, ingest: { port: 0, quotas: { deviceBurst: 3, devicePerMinute: 1, summaryMs: 50 } }, dashboard: { port: 0, token, fleet: 'leak' } })
  const logger = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) })
  pipeline = await startPipeline({
    configuration, clock: systemClock, watch: true, world: { logger, metrics: createMetrics({ defaults: false }), tracing: NO_TRACING, stopper, patiently: (_what, open) => open() },
  })
  const post = (path: string, body: object) => api(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  expect((await post('/api/v1/fleets/leak/anchors', { pem: fleet.ca.pem, key_protection: 'software' })).status).toBe(200)
  expect((await post('/api/v1/fleets/leak/settings', { project_key_uploads: true, project_keys: [PROJECT_KEY] })).status).toBe(200)
}, 60_000)
afterAll(async () => {
  await stopper.stop()
  await rm(directory, { recursive: true })
})

const api = (path: string, init: RequestInit = {}) => fetch(pipeline.dashboardUrl + path, { ...init, headers: { authorization: `Bearer ${token}`, ...init.headers } })
const send = (path: string, type: string, body: Uint8Array | FormData, headers: Record<string, string> = {}) =>
  fetch(pipeline.ingestUrl + path, { method: 'POST', body: body instanceof FormData ? body : Buffer.from(body), headers: { ...(type && { 'content-type': type }), ...headers } }).then(({ status }) => status)
const signed = (seq: number, said: Partial<Report> = {}) =>
  signReport({ dump, contentType: 'application/x-minidump', claims: { bootcount: 1, seq, compartment: IN_CLAIM, resetReason: IN_CLAIM, fingerprint: Buffer.from(MARK).toString('hex') }, key: device.key, chain: device.chain, ...said })

/** As it is, in UTF-16, in hexadecimal and in base64 at each of its three offsets. */
const formsOf = (canary: string): string[] => [
  canary, Buffer.from(canary, 'utf16le').toString('latin1'), Buffer.from(canary).toString('hex'), Buffer.from(canary, 'utf16le').toString('hex'),
  ...[0, 1, 2].map((offset) => Buffer.concat([Buffer.alloc(offset), Buffer.from(canary)]).toString('base64').slice(offset === 0 ? 0 : 4, -4)),
]

test('what is in a dump stays in the archive, and nothing that a sender says is in a log', async () => {
  const form = new FormData()
  form.append('note', IN_ANNOTATION)
  form.append('upload_file_minidump', new Blob([dump]), `${MARK}.dmp`)
  expect(await send('/v1/crashes', 'application/cbor-seq', signed(0).body)).toBe(202)
  expect(await send(`/submit?key=${PROJECT_KEY}&q=${IN_ANNOTATION}`, '', form)).toBe(200)

  // And whatever fails on its way, at each stage.
  const bad = Buffer.from(signed(1).body)
  bad[bad.length - 1]! ^= 1
  expect(await send('/v1/crashes', 'application/cbor-seq', bad)).toBe(400)
  expect(await send('/v1/crashes', 'application/cbor-seq', Buffer.from(IN_MEMORY.repeat(10)))).toBe(400)
  expect(await send('/v1/crashes', 'application/cbor-seq', Buffer.concat([signed(2).manifest, Buffer.from(IN_MEMORY)]))).toBe(400)
  expect(await send('/v1/crashes', `text/${MARK}`, Buffer.from(IN_MEMORY))).toBe(415)
  expect(await send('/v1/crashes', 'text/plain', Buffer.from(IN_MEMORY), { authorization: `Bearer ${PROJECT_KEY}`, 'crash-device': MARK })).toBe(401)
  expect(await send('/v1/crashes/offer', 'application/cose', Buffer.from(IN_MEMORY))).toBe(400)
  expect(await send(`/submit?key=${PROJECT_KEY}x`, '', form)).toBe(401)
  expect(await send(`/submit?key=${PROJECT_KEY}`, 'multipart/form-data; boundary=b', Buffer.from(`--b\r\n${IN_MEMORY}`))).toBe(400)
  expect(await send(`/api/1/envelope/?sentry_key=${PROJECT_KEY}`, 'application/x-sentry-envelope', Buffer.from(IN_MEMORY))).toBe(400)
  expect(await send(`/${MARK}`, 'text/plain', Buffer.from(IN_MEMORY))).toBe(404)
  expect(await send('/v1/crashes', 'application/cbor-seq', signed(3).body)).toBe(429)
  // Two that no parser understands.
  expect(await send(`/submit?key=${PROJECT_KEY}`, '', (() => { const f = new FormData(); f.append('upload_file_minidump', new Blob([`MDMP${IN_MEMORY}`])); return f })())).toBe(200)

  const { clickhouse } = pipeline
  const crashes = () => rowsOf<{ id: string; device: string; bucket: string }>(clickhouse, 'SELECT id, device, bucket FROM crashes FINAL ORDER BY id')
  await until(async () => (await crashes()).length === 3, 'three crashes are written')
  await until(async () => (await rowsOf(clickhouse, 'SELECT id FROM refusals')).length > 0, 'what the quota kept out is written')

  const columns = await rowsOf<{ table: string; name: string }>(clickhouse, "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND type LIKE '%String%' AND table NOT LIKE '.inner%'")
  expect(columns.length).toBeGreaterThan(100)
  for (const [table, its] of Map.groupBy(columns, (column) => column.table)) {
    const found = its.map(({ name }) => `countIf(multiSearchAny(toString(\`${name}\`), {forms:Array(String)})) AS \`${name}\``).join(', ')
    const [counts] = await rowsOf<Record<string, string>>(clickhouse, `SELECT ${found} FROM \`${table}\``, { forms: formsOf(IN_MEMORY) })
    expect(Object.entries(counts ?? {}).filter(([, rows]) => rows !== '0').map(([name]) => `${table}.${name}`)).toEqual([])
  }

  const paths = [
    '/overview', '/buckets', '/alerts', '/devices', '/events?limit=200', '/dead-letters', '/refusals', '/symbols/missing', '/fleets/leak', '/whoami',
    ...(await crashes()).flatMap(({ id, device: name, bucket }) => [`/crashes/${id}`, `/devices/${encodeURIComponent(name)}`, ...['', '/crashes', '/devices', '/firmware', '/correlations'].map((part) => `/buckets/${bucket}${part}`)]),
  ]
  const answers = await Promise.all(paths.map(async (path) => ({ path, response: await api(`/api/v1${path}`) })))
  let shown = ''
  for (const { path, response } of answers) {
    const text = await response.text()
    expect([path, response.status]).toEqual([path, 200])
    expect(formsOf(IN_MEMORY).filter((canary) => text.includes(canary)), path).toEqual([])
    shown += text
  }
  // What is a fact of the crash is there to be seen, or this test would look in the wrong places.
  expect([shown.includes(IN_ANNOTATION), shown.includes(IN_CLAIM), shown.includes(IN_REGISTER.readBigUInt64LE().toString(16))]).toEqual([true, true, true])
  const id = createHash('sha256').update(dump).digest('hex')
  expect(shown).toContain(id)

  const log = lines.join('')
  expect(log).toContain('"slug":"digest-mismatch"')
  expect(log).toContain('multipart-malformed')
  for (const canary of [MARK, IN_MEMORY, IN_ANNOTATION, IN_CLAIM, PROJECT_KEY, token, IN_REGISTER.toString('latin1')]) {
    for (const form of formsOf(canary).filter((each) => each.length >= 8 || each === MARK)) expect(lines.filter((line) => line.includes(form)), canary).toEqual([])
  }
  expect(log).not.toContain(IN_REGISTER.readBigUInt64LE().toString(16))
}, 60_000)
