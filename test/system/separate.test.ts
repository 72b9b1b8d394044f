import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../infra/clickhouse-fixture.ts'
import { run } from '../dashboard/cli/command.ts'
import { registerAddAnchor } from '../../dashboard/cli/add-anchor.ts'
import { registerFleetInit } from '../../ingest/device/fleet-init.ts'
import { registerSend } from '../../ingest/device/send.ts'
import { startInstallation, TOKEN, type Installation } from './installation.ts'
import { needs } from './java.ts'
import type { OverrunProcess } from './overrun-process.ts'

/** Two doors, two workers and a dashboard as processes of their own on Kafka, S3 and ClickHouse, as in a large installation. */
const CORPUS = join(import.meta.dirname, '../corpus')
const DUMP = join(CORPUS, 'crashpad-x64/sensord.null-read.dmp')
const SYMBOLS = join(CORPUS, 'symbols/sensord/01C5BFC8E88AB5C748E77AB3FB13230A0/sensord.sym')
const PER_DOOR = 12
/** And one that goes to both doors. */
const SENT = 2 * PER_DOOR + 1

const { skip, note } = [needs('kafka'), needs('s3proxy')].reduce((both, each) => ({ skip: both.skip || each.skip, note: both.note + each.note }))

describe.skipIf(skip)(`processes on Kafka, S3 and ClickHouse${note}`, () => {
  let installation: Installation
  let doors: OverrunProcess[]
  let workers: OverrunProcess[]
  let dashboard: OverrunProcess
  beforeAll(async () => {
    installation = await startInstallation()
    const { start } = installation
    ;[doors, workers, [dashboard]] = await Promise.all([
      Promise.all([start('ingest', 'ingest-0'), start('ingest', 'ingest-1')]),
      Promise.all([start('symbolicate', 'worker-0'), start('symbolicate', 'worker-1')]),
      Promise.all([start('dashboard', 'dashboard')]),
    ]) as [OverrunProcess[], OverrunProcess[], [OverrunProcess]]
  }, 180_000)
  afterAll(async () => {
    for (const each of [...doors ?? [], ...workers ?? [], ...(dashboard ? [dashboard] : [])]) await each.kill()
    await installation?.stop()
  })

  async function ask<T>(path: string): Promise<T> {
    const response = await fetch(new URL(path, dashboard.ready.dashboard_url), { headers: { authorization: `Bearer ${TOKEN}` } })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()} ${dashboard.log().slice(-2_000)}`)
    return (await response.json()) as T
  }
  const counted = async (): Promise<number> => {
    const { items } = await ask<{ items: { crashes: number }[] }>('/api/v1/buckets?limit=200')
    return items.reduce((sum, { crashes }) => sum + Number(crashes), 0)
  }

  test('crashes that two doors took are counted once, whichever worker had them', async () => {
    const fleet = join(installation.folder, 'fleet')
    const { dashboard_url: url = '' } = dashboard.ready
    expect(await run(registerFleetInit, 'init', fleet, '--devices', '2')).toMatchObject({ code: 0 })
    expect(await run(registerAddAnchor, 'add-anchor', join(fleet, 'ca.pem'), '--url', url, '--token', TOKEN)).toMatchObject({ code: 0 })
    const device = (index: number) => join(fleet, 'devices', `demo-000${index + 1}`)
    const send = (door: number, at: number, ...more: string[]) => run(registerSend, 'send', DUMP, '--device', device(at), '--url', doors[door]!.ready.ingest_url!, '--retries', '20', ...more)

    const ids: string[] = []
    for (const door of [0, 1]) {
      await until(async () => {
        const { code, out } = await send(door, door)
        if (code === 0) ids.push(out)
        return code === 0
      }, 'the anchor is known at the door')
    }
    for (let n = 1; n < PER_DOOR; n++) for (const door of [0, 1]) {
      const { code, out } = await send(door, (n + door) % 2)
      expect(code).toBe(0)
      ids.push(out)
    }
    // The same report at both doors, which know nothing of each other.
    const body = join(installation.folder, 'report')
    expect(await send(0, 0, '--output', body)).toMatchObject({ code: 0 })
    const answers = await Promise.all(doors.map(async ({ ready }) => {
      const response = await fetch(new URL('/v1/crashes', ready.ingest_url), { method: 'POST', headers: { 'content-type': 'application/cbor-seq' }, body: readFileSync(body) })
      return await response.json() as { id: string; status: string }
    }))
    expect(answers.map(({ status }) => status)).toEqual(['queued', 'queued'])
    ids.push(answers[0]!.id)

    expect(new Set(ids).size).toBe(SENT)
    await until(async () => (await counted()) >= SENT, 'every crash is counted')
    expect(await counted()).toBe(SENT)
    expect((await written()).toSorted()).toEqual(ids.toSorted())
  }, 180_000)

  const written = async (): Promise<string[]> => {
    const { items } = await ask<{ items: { bucket: string }[] }>('/api/v1/buckets?limit=200')
    const lists = await Promise.all(items.map(({ bucket }) => ask<{ items: { id: string }[] }>(`/api/v1/buckets/${bucket}/crashes?limit=200`)))
    return lists.flatMap((list) => list.items.map(({ id }) => id))
  }

  test('symbols that the dashboard takes reach the crashes that every worker has', async () => {
    const response = await fetch(new URL('/api/v1/symbols?name=sensord.sym', dashboard.ready.dashboard_url), {
      method: 'POST', headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/octet-stream' }, body: readFileSync(SYMBOLS),
    })
    expect(response.status).toBe(200)
    const revisions = async () => {
      const rows = await installation.clickhouse.query({ query: 'SELECT revision, count() AS n, uniqExact(id) AS ids FROM crashes FINAL GROUP BY revision ORDER BY revision', format: 'JSONEachRow' })
      return rows.json<{ revision: string; n: string; ids: string }>()
    }
    await until(async () => (await revisions()).every(({ revision }) => Number(revision) === 1), 'every crash is analysed again')
    expect(await revisions()).toMatchObject([{ n: String(SENT), ids: String(SENT) }])
    // The table of buckets hears of a row a moment after the row is there.
    await until(async () => (await counted()) === SENT, 'every crash is counted in its new bucket')
  }, 180_000)

  test('a second process of the same part on one folder is refused', async () => {
    await expect(installation.start('ingest', 'ingest-0')).rejects.toThrow('another ingest process')
    await expect(installation.start('symbolicate', 'worker-0')).rejects.toThrow('another symbolicate process')
  }, 60_000)

  test('each has /livez, /readyz and /metrics on a port of its own', async () => {
    for (const { ready } of [...doors, ...workers, dashboard]) {
      const ops = (path: string) => fetch(new URL(path, ready.ops_url))
      expect(await (await ops('/livez')).text()).toBe('ok\n')
      expect(await (await ops('/readyz')).json()).toEqual({ ready: true, checks: {} })
      expect(await (await ops('/metrics')).text()).toContain('overrun_build_info{version="')
    }
    expect(await (await fetch(new URL('/readyz?verbose', workers[0]!.ready.ops_url))).json()).toEqual({ ready: true, checks: { log: 'ok', blobs: 'ok', clickhouse: 'ok', parsers: 'ok' } })
  })

  test('the configuration is logged at start, and no secret with it', () => {
    for (const process of [...doors, ...workers, dashboard]) {
      expect(process.log()).toContain('"secretAccessKey":"***"')
      for (const secret of [installation.s3.credentials.secretAccessKey, installation.engine.address.password, TOKEN]) expect(process.log()).not.toContain(secret)
    }
  })

  test('SIGTERM ends each within 10 s, also with work in hand that ClickHouse does not take', async () => {
    for (const process of [doors[0]!, workers[0]!]) {
      const { code, ms } = await process.stop()
      expect(code).toBe(0)
      expect(ms).toBeLessThan(10_000)
      expect(process.log()).not.toContain('did not stop cleanly')
    }
    const { engine, folder } = installation
    process.kill(engine.pid!, 'SIGSTOP')
    try {
      const device = join(folder, 'fleet/devices/demo-0001')
      expect(await run(registerSend, 'send', DUMP, '--device', device, '--url', doors[1]!.ready.ingest_url!, '--retries', '20')).toMatchObject({ code: 0 })
      for (const process of [doors[1]!, workers[1]!, dashboard]) {
        const { code, ms } = await process.stop()
        expect(code).toBe(0)
        expect(ms).toBeLessThan(10_000)
      }
    } finally {
      process.kill(engine.pid!, 'SIGCONT')
    }
  }, 120_000)

  test('what was in hand is counted after the restart', async () => {
    ;[workers[0], dashboard] = await Promise.all([installation.start('symbolicate', 'worker-0'), installation.start('dashboard', 'dashboard')])
    await until(async () => (await counted()) === SENT + 1, 'the last crash is counted')
  }, 120_000)
})
