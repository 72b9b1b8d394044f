import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { registerAddAnchor } from '../../dashboard/cli/add-anchor.ts'
import { registerFleetInit } from '../../ingest/device/fleet-init.ts'
import { registerSend } from '../../ingest/device/send.ts'
import { run } from '../dashboard/cli/command.ts'
import { until } from '../infra/clickhouse-fixture.ts'
import { cleanEnvironment, startOverrun, type OverrunProcess } from './overrun-process.ts'

/** A collector that keeps what it is told over OTLP/HTTP. https://opentelemetry.io/docs/specs/otlp/ */
interface Told { name: string; traceId: string; spanId: string; parentSpanId?: string; links?: { traceId: string }[]; attributes: { key: string; value: { stringValue?: string; intValue?: number } }[] }
type Export = { resourceSpans: { resource: { attributes: Told['attributes'] }; scopeSpans: { spans: Told[] }[] }[] }
const spans: Told[] = []
const services = new Set<string | undefined>()

let collector: Server
let overrun: OverrunProcess
const data = mkdtempSync(join(tmpdir(), 'overrun-tracing-'))
beforeAll(async () => {
  collector = createServer(async (request, response) => {
    const text = Buffer.concat(await request.toArray()).toString()
    for (const { resource, scopeSpans } of (JSON.parse(text) as Export).resourceSpans) {
      services.add(resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue)
      for (const scope of scopeSpans) spans.push(...scope.spans)
    }
    response.setHeader('content-type', 'application/json').end('{}')
  })
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve))
  const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
  overrun = await startOverrun(['start', '--data', data, '--ingest-port', '0', '--dashboard-port', '0'], { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_BSP_SCHEDULE_DELAY: '50' }, { timeoutMs: 120_000 })
}, 150_000)
afterAll(async () => {
  await overrun?.kill()
  collector.close()
  collector.closeAllConnections()
  rmSync(data, { recursive: true, force: true })
})

const valueOf = ({ attributes }: Told, name: string) => Object.values(attributes.find(({ key }) => key === name)?.value ?? {})[0]
const named = (name: string) => spans.filter((span) => span.name === name)

test('one crash is one trace, from the door through the log to its row, and its batch links to it', async () => {
  const fleet = join(data, 'fleet')
  const { dashboard_url = '', ingest_url = '', token = '' } = overrun.ready
  await run(registerFleetInit, 'init', fleet, '--devices', '1')
  await run(registerAddAnchor, 'add-anchor', join(fleet, 'ca.pem'), '--url', dashboard_url, '--token', token)
  const { out: id } = await run(registerSend, 'send', join(import.meta.dirname, '../corpus/crashpad-x64/sensord.null-read.dmp'), '--device', join(fleet, 'devices/demo-0001'), '--url', ingest_url)
  await until(() => named('symbolicate crash').length > 0 && named('symbolicate batch').length > 0, 'the worker has told its spans')

  const [door, append, crash, batch, insert] = ['POST /v1/crashes', 'append crashes.accepted', 'symbolicate crash', 'symbolicate batch', 'insert crashes'].map((name) => named(name)[0] as Told) as [Told, Told, Told, Told, Told]
  expect(door.parentSpanId ?? '').toBe('')
  expect(String(valueOf(door, 'http.response.status_code'))).toBe('202')
  expect(append).toMatchObject({ traceId: door.traceId, parentSpanId: door.spanId })
  expect(crash).toMatchObject({ traceId: door.traceId, parentSpanId: append.spanId })
  expect(valueOf(crash, 'overrun.crash')).toBe(id)
  expect(valueOf(crash, 'overrun.status')).toBe('ok')
  expect(batch.links?.map(({ traceId }) => traceId)).toEqual([door.traceId])
  expect(insert).toMatchObject({ traceId: batch.traceId, parentSpanId: batch.spanId })
  expect([...services]).toEqual(['overrun-start'])
}, 90_000)

// The metrics library loads the interface package by itself, which does nothing alone.
test('without OTEL_ variables neither SDK nor exporter is loaded', () => {
  const script = `
    const { createRequire } = await import('node:module')
    await import('./dashboard/cli/start.ts')
    const { startTracing } = await import('./infra/service/tracing.ts')
    await startTracing({ part: 'test', logger: { info() {} } })
    console.log(Object.keys(createRequire(process.cwd() + '/x.js').cache).filter((file) => /@opentelemetry.(sdk|exporter|otlp|core)/.test(file)).length)`
  const loaded = (env: Record<string, string>) => {
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { cwd: join(import.meta.dirname, '../..'), env: cleanEnvironment(env), encoding: 'utf8' })
    expect(stderr).toBe('')
    return Number(stdout)
  }
  expect(loaded({})).toBe(0)
  expect(loaded({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' })).toBeGreaterThan(10)
}, 60_000)
