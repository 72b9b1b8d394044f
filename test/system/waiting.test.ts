import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { until } from '../infra/clickhouse-fixture.ts'
import { freePorts } from './java.ts'
import { cleanEnvironment, startOverrun } from './overrun-process.ts'

/** Processes whose surroundings are not there yet, or never will be. */
const ROOT = join(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'overrun-waiting-'))
const children: ChildProcess[] = []
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

function overrun(...args: string[]) {
  const child = spawn(process.execPath, ['overrun.ts', ...args], { cwd: ROOT, env: cleanEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => { text += chunk.toString() })
  return { child, text: () => text, exit: once(child, 'exit').then(([code]) => code as number | null) }
}

test('a worker without ClickHouse is alive and not ready, says what it waits for once, and stops when it is told', async () => {
  const [ops = 0, nobody = 0] = await freePorts(2)
  const worker = overrun('symbolicate', '--data', join(folder, 'worker'), '--set', `ops.port=${ops}`, '--set', `clickhouse.server.url=http://127.0.0.1:${nobody}`)
  const ask = (path: string) => fetch(`http://127.0.0.1:${ops}${path}`).catch(() => null)
  await until(async () => (await ask('/livez'))?.status === 200, 'it is alive')
  await until(() => worker.text().includes('"waitsFor":"ClickHouse"'), 'it says what it waits for')
  const ready = await ask('/readyz')
  expect(ready?.status).toBe(503)
  expect(await ready?.json()).toMatchObject({ ready: false, checks: { start: expect.stringContaining('ClickHouse') } })
  worker.child.kill('SIGTERM')
  expect(await worker.exit).toBe(0)
  expect(worker.text().split('"waitsFor":"ClickHouse"')).toHaveLength(2)
}, 60_000)

test('a door needs no ClickHouse: it starts while the server is away, and takes nobody for unknown until it has heard of anchors', async () => {
  const [nobody = 0] = await freePorts(1)
  const args = ['ingest', '--data', join(folder, 'door'), '--port', '0', '--set', `clickhouse.server.url=http://127.0.0.1:${nobody}`]
  const door = await startOverrun(args)
  const ready = await fetch(new URL('/readyz', door.ready.ops_url))
  expect(await ready.json()).toMatchObject({ ready: false, checks: { registry: expect.stringContaining('no snapshot') } })
  expect((await fetch(new URL('/v1/crashes', door.ready.ingest_url), { method: 'POST', body: 'x' })).status).toBe(503)
  expect((await door.stop()).code).toBe(0)
}, 60_000)

test('what does not get better by itself ends the start with its reason: a folder in use, settings that are wrong', async () => {
  const first = await startOverrun(['ingest', '--data', join(folder, 'shared'), '--port', '0'])
  const second = overrun('ingest', '--data', join(folder, 'shared'), '--port', '0')
  expect(await second.exit).toBe(1)
  expect(second.text()).toContain('"slug":"log-in-use"')
  await first.stop()
  const wrong = overrun('ingest', '--set', 'ingest.prot=1')
  expect(await wrong.exit).toBe(2)
  expect(wrong.text()).toContain('did you mean ingest.port?')
}, 60_000)

test('migrate --check says what is missing and changes nothing, migrate makes it', async () => {
  const run = async (...args: string[]) => {
    const { exit, text } = overrun('migrate', '--data', join(folder, 'schema'), '--json', ...args)
    return { code: await exit, said: JSON.parse(text().split('\n').find((line) => line.startsWith('{"missing') || line.startsWith('{"applied')) ?? 'null') as Record<string, string[]> }
  }
  const before = await run('--check')
  expect(before).toMatchObject({ code: 3, said: { missing: expect.arrayContaining(['001-crashes.sql']) } })
  expect(await run()).toEqual({ code: 0, said: { applied: before.said.missing } })
  expect(await run('--check')).toEqual({ code: 0, said: { missing: [] } })
}, 120_000)
