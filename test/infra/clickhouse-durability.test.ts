import { fork, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { connectClickHouse } from '../../infra/clickhouse/client.ts'
import { startEmbeddedClickHouse } from '../../infra/clickhouse/embedded.ts'
import { quietLogger, rowsOf, startTestClickHouse, until, type TestClickHouse } from './clickhouse-fixture.ts'

const cleanUps: (() => Promise<unknown>)[] = []
afterEach(async () => { for (const clean of cleanUps.splice(0).reverse()) await clean() })

async function started(): Promise<TestClickHouse> {
  const world = await startTestClickHouse({ schema: false })
  cleanUps.push(world.stop)
  return world
}

const alive = (pid: number): boolean => existsSync(`/proc/${pid}`)

test('kill -9 of the engine during inserts loses no acknowledged batch and leaves no half of one', async () => {
  const { engine, clickhouse } = await started()
  await clickhouse.command({ query: 'CREATE TABLE batches (batch UInt32, n UInt32) ENGINE = MergeTree ORDER BY (batch, n)' })
  const acknowledged = new Set<number>()
  const size = 50
  let batch = 0
  for (let round = 0; round < 4; round++) {
    const before = engine.pid
    const enough = acknowledged.size + 15
    const senders = Array.from({ length: 3 }, async () => {
      while (engine.pid === before) {
        const mine = ++batch
        const values = Array.from({ length: size }, (_, n) => ({ batch: mine, n }))
        const sent = await clickhouse.insert({ table: 'batches', values, format: 'JSONEachRow' }).then(() => true, () => false)
        if (sent) acknowledged.add(mine)
        if (acknowledged.size >= enough && engine.pid === before) engine.kill()
      }
    })
    await Promise.all(senders)
    await until(async () => engine.pid !== null && (await clickhouse.ping({ select: true })).success, 'the engine answers again')
    expect(engine.pid).not.toBe(before)
  }
  const found = await rowsOf<{ batch: number; rows: string }>(clickhouse, 'SELECT batch, count() AS rows FROM batches GROUP BY batch')
  expect(found.filter(({ rows }) => rows !== String(size))).toEqual([])
  const present = new Set(found.map((row) => row.batch))
  expect([...acknowledged].filter((each) => !present.has(each))).toEqual([])
  expect(acknowledged.size).toBeGreaterThanOrEqual(60)
})

test('a stopped engine is not started again, and its rows are there for the next one', async () => {
  const world = await started()
  await world.clickhouse.command({ query: 'CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n' })
  await world.clickhouse.insert({ table: 'kept', values: [{ n: 7 }], format: 'JSONEachRow' })
  const pid = world.engine.pid ?? 0
  await world.engine.stop()
  expect(await world.engine.exited).toEqual({ reason: 'stopped' })
  expect(alive(pid)).toBe(false)

  const again = await startEmbeddedClickHouse({ directory: world.directory, logger: quietLogger })
  cleanUps.push(() => again.stop())
  const client = connectClickHouse(again.address, 'overrun-test')
  cleanUps.push(() => client.close())
  expect(await rowsOf(client, 'SELECT n FROM kept')).toEqual([{ n: 7 }])
})

test('a second engine on the same directory is refused, and the first goes on', async () => {
  const { directory, clickhouse } = await started()
  await expect(startEmbeddedClickHouse({ directory, logger: quietLogger })).rejects.toMatchObject({ code: 'clickhouse-directory-in-use', retryable: false })
  expect(await clickhouse.ping({ select: true })).toEqual({ success: true })
})

test('the engine ends when its parent is killed with -9', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'overrun-orphan-'))
  cleanUps.push(() => rm(directory, { recursive: true, force: true }))
  const parent: ChildProcess = fork(fileURLToPath(new URL('./clickhouse-parent.ts', import.meta.url)), [directory], { execArgv: [] })
  const enginePid = await new Promise<number>((resolve, reject) => {
    parent.once('message', (pid) => resolve(Number(pid)))
    parent.once('exit', () => reject(new Error('the parent ended too early')))
  })
  expect(alive(enginePid)).toBe(true)
  parent.kill('SIGKILL')
  await until(() => !alive(enginePid), 'the engine ends after its parent')
})
